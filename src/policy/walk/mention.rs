//! Mentions: imports, names and attributes, whatever is then done with them.

use ruff_python_ast::{Expr, StmtImport, StmtImportFrom};
use ruff_text_size::{Ranged, TextRange};

use super::Walk;
use crate::policy::binding::{Chain, Origin};
use crate::policy::tables::{self, Effect};
use crate::policy::{Policy, RiskKind, Rule, shortened};

/// What a mention of something amounts to.
enum Mention {
    Dunder(String),
    Function(String),
    Module {
        module: String,
        path: String,
        /// What is risky about it, too.
        risk: Option<RiskKind>,
    },
    Effect {
        effect: Effect,
        path: String,
        forbidden: bool,
    },
}

impl Walk<'_> {
    pub(super) fn module(&mut self, at: usize, module: &str) -> bool {
        let fine = module == "__future__" || self.policy.is_none_or(|policy| policy.allows(module));
        if !fine {
            let suggestion = self.policy.map(allowed).unwrap_or_default();
            self.find(
                at,
                Rule::Module,
                format!("The module `{}` is not allowed", shortened(module)),
                suggestion,
            );
        }
        fine
    }

    pub(super) fn import(&mut self, import: &StmtImport) {
        for alias in &import.names {
            let at = self.at(alias.range());
            let parts: Vec<&str> = alias.name.split('.').collect();
            if self.module(at, parts[0])
                && let Some(mention) = self.effect(&parts, true)
            {
                self.tell(at, mention);
            }
        }
    }

    pub(super) fn import_from(&mut self, import: &StmtImportFrom) {
        let at = self.at(import.range());
        let module = import.module.as_deref().unwrap_or_default();
        if import.level > 0 {
            let dots = ".".repeat(import.level.min(10) as usize);
            return self.find(
                at,
                Rule::Module,
                format!(
                    "`from {dots}{} import` is relative to a package, and a cell is in none",
                    shortened(module)
                ),
                "Name the module in full.",
            );
        }
        let top = module.split('.').next().unwrap_or_default();
        if !self.module(at, top) {
            return;
        }
        for alias in &import.names {
            let parts: Vec<&str> = module.split('.').chain([alias.name.as_str()]).collect();
            if let Some(mention) = self.reached(&parts, Origin::Here) {
                let at = self.at(alias.range());
                self.tell(at, mention);
            }
        }
    }

    /// A name, or attributes on something.
    pub(super) fn mention(&mut self, chain: &Chain<'_>, range: TextRange) {
        let at = self.at(range);
        if let Some(mention) = self.judge(chain, at, self.is_column(range)) {
            self.tell(at, mention);
        }
    }

    /// Whether a name at this place is the column of a table.
    fn is_column(&self, range: TextRange) -> bool {
        let query = self.query.as_deref();
        let before = query.and_then(|text| text.get(..range.start().to_usize()));
        before.is_some_and(|text| !text.trim_end().ends_with('@'))
    }

    fn judge(&self, chain: &Chain<'_>, at: usize, column: bool) -> Option<Mention> {
        let names = &chain.names;
        let harmless = |index: usize| {
            names[index] == "__class__"
                && names
                    .get(index + 1)
                    .is_some_and(|next| tables::NAMES_OF_CLASS.contains(next))
        };
        let dunder =
            (0..names.len()).find(|index| tables::is_dunder(names[*index]) && !harmless(*index));
        if let Some(index) = dunder {
            return Some(Mention::Dunder(names[index].to_owned()));
        }
        if let Expr::Name(root) = chain.root {
            let name = root.id.as_str();
            if !self.scopes.is_own(name, at) {
                let called = names.is_empty() || names[0] == "__call__";
                if called && !column && self.blocks(name) {
                    return Some(Mention::Function(name.to_owned()));
                }
                if tables::is_dunder(name) && name != "__import__" {
                    return Some(Mention::Dunder(name.to_owned()));
                }
                if name == "get_ipython" {
                    return Some(Mention::Effect {
                        effect: Effect::Shell,
                        path: name.to_owned(),
                        forbidden: true,
                    });
                }
            }
        }
        let traced = self.scopes.trace(chain);
        for it in &traced {
            let found = self.reached(&it.parts, it.origin);
            if found.is_some() {
                return found;
            }
        }
        if !traced.is_empty() {
            return None;
        }
        // On anything else a module shows by what is taken from it.
        let index = tables::carrier(names)?;
        let found = self.effect(&names[index..], false);
        let shown =
            || tables::shows_module(&names[index..]).then(|| self.forbidden(names[index], names));
        stronger(found, || shown().flatten())
    }

    /// What a dotted name does, or which module it reaches by the way.
    fn reached(&self, parts: &[&str], origin: Origin) -> Option<Mention> {
        let known = origin != Origin::Unbound;
        stronger(self.effect(parts, known), || self.carried(parts, origin))
    }

    fn blocks(&self, function: &str) -> bool {
        self.policy
            .is_some_and(|policy| policy.blocked_functions.contains(function))
    }

    /// What a dotted name does, seen from the last module in it.
    fn effect(&self, parts: &[&str], known: bool) -> Option<Mention> {
        let start = tables::carrier(parts).unwrap_or(0);
        let (tail, wild) = (&parts[start..], known || start == 0);
        if let Some(name) = tables::builtin(tail)
            && self.blocks(name)
        {
            return Some(Mention::Function(name.to_owned()));
        }
        let (effect, path) = match tables::effect(tail, wild) {
            Some(effect) => (effect, tail),
            None => (tables::effect(parts, wild)?, parts),
        };
        // A module that is allowed by name and has no other use is meant to be used.
        let meant = self.policy.is_some_and(|policy| {
            policy.names(path[0])
                && !matches!(
                    path[0],
                    "os" | "posix"
                        | "nt"
                        | "sys"
                        | "asyncio"
                        | "numpy"
                        | "pandas"
                        | "torch"
                        | "scipy"
                        | "typing"
                        | "typing_extensions"
                )
        });
        Some(Mention::Effect {
            effect,
            path: path.join("."),
            forbidden: effect.rule().is_some() && !meant,
        })
    }

    /// A module that another one carries along, or that is used without an import in this cell.
    fn carried(&self, parts: &[&str], origin: Origin) -> Option<Mention> {
        if origin == Origin::Earlier && tables::is_dangerous(parts[0]) {
            let found = self.forbidden(parts[0], parts);
            if found.is_some() {
                return found;
            }
        }
        let index = tables::carrier(parts)?;
        let module = tables::carried(parts, index)?;
        let reached = match (origin, index) {
            (Origin::Unbound, 0) => parts.len() > 1,
            (Origin::Unbound, index) => tables::shows_module(&parts[index..]),
            (_, index) => index > 0,
        };
        reached.then(|| self.forbidden(module, parts)).flatten()
    }

    fn forbidden(&self, module: &str, path: &[&str]) -> Option<Mention> {
        (!self.policy?.allows(module)).then(|| Mention::Module {
            module: module.to_owned(),
            path: path.join("."),
            risk: None,
        })
    }

    fn tell(&mut self, at: usize, mention: Mention) {
        match mention {
            Mention::Dunder(name) => self.dunder(at, &name),
            Mention::Function(name) => {
                let suggestion = match name.as_str() {
                    "open" => {
                        "Read and write with pandas or numpy, such as pd.read_csv and df.to_csv."
                    }
                    "input" | "raw_input" => "Put the value into the code; nobody can type one in.",
                    "eval" | "exec" | "compile" | "execfile" => "Write the code itself.",
                    "getattr" | "setattr" | "delattr" | "vars" => "Name the attribute: `x.name`.",
                    _ => "Do it without this function.",
                };
                self.find(
                    at,
                    Rule::Function,
                    format!("The function `{name}` is not allowed"),
                    suggestion,
                );
            }
            Mention::Module { module, path, risk } => {
                if let Some(kind) = risk {
                    self.risk(at, kind, path.as_str());
                }
                let suggestion = self.policy.map(allowed).unwrap_or_default();
                let message = format!(
                    "`{}` reaches the module `{module}`, which is not allowed",
                    shortened(&path)
                );
                self.find(at, Rule::Module, message, suggestion);
            }
            Mention::Effect {
                effect,
                path,
                forbidden,
            } => {
                if let Some(kind) = effect.risk() {
                    self.risk(at, kind, path.as_str());
                }
                if let Some(rule) = effect.rule().filter(|_| forbidden) {
                    let (what, suggestion) = effect.words();
                    self.find(
                        at,
                        rule,
                        format!("`{}` {what}", shortened(&path)),
                        suggestion,
                    );
                }
            }
        }
    }

    pub(super) fn dunder(&mut self, at: usize, name: &str) {
        self.find(
            at,
            Rule::Dunder,
            format!("`{name}` reaches into the interpreter and is not allowed"),
            "Use the object's own methods; `type(x).__name__` gives the name of a type.",
        );
    }
}

/// The modules that may be used, to end a finding with.
fn allowed(policy: &Policy) -> String {
    match &policy.allowed_modules {
        Some(list) if list.is_empty() => "No module may be imported.".into(),
        Some(list) => {
            let mut names: Vec<&str> = list.iter().map(String::as_str).collect();
            names.sort_unstable();
            format!("Allowed are: {}.", names.join(", "))
        }
        None => "Do it with other modules.".into(),
    }
}

/// Of what a name does and of the module that it reaches, the one to tell. What is only risky, such as deleting a file,
/// is as forbidden as the module through which it is done.
fn stronger(does: Option<Mention>, reaches: impl FnOnce() -> Option<Mention>) -> Option<Mention> {
    let Some(Mention::Effect { effect, .. }) = &does else {
        return does.or_else(reaches);
    };
    if effect.rule().is_some() {
        return does;
    }
    match (reaches(), effect.risk()) {
        (Some(Mention::Module { module, path, .. }), risk) => {
            Some(Mention::Module { module, path, risk })
        }
        _ => does,
    }
}
