//! The walk over a cell's syntax tree that finds what a policy forbids and what is risky.

use ruff_python_ast::visitor::{
    Visitor, walk_arguments, walk_expr, walk_parameters, walk_pattern_keyword, walk_stmt,
};
use ruff_python_ast::{
    Comprehension, Expr, ExprCall, ExprContext, ExprSubscript, IpyEscapeKind, PatternKeyword, Stmt,
    StmtImport, StmtImportFrom,
};
use ruff_text_size::{Ranged, TextRange};

use super::binding::{Chain, Kind, Scopes, Value};
use super::commands::{self, Verdict};
use super::parse::{self, Fault, Lines};
use super::tables::{self, Effect};
use super::{Finding, MOST_TOLD, Policy, Risk, RiskKind, Rule, paths};

/// Memory is bounded before all is put in order.
const MOST_KEPT: usize = 10 * MOST_TOLD;

/// Code in texts in code: deeper is not looked at.
const MOST_EMBEDDED: usize = 3;

/// What was found in a cell, in its order.
pub(super) struct Inspected {
    pub findings: Vec<Finding>,
    pub risks: Vec<Risk>,
}

/// Inspects one cell; without a policy only for risks.
pub(super) fn inspect(policy: Option<&Policy>, code: &str) -> Inspected {
    let mut walk = Walk {
        policy,
        scopes: Scopes::default(),
        pinned: None,
        query: false,
        embedded: 0,
        found: Vec::new(),
        risky: Vec::new(),
    };
    parse::with_stack(|| walk.cell(code, 0));
    let lines = Lines::new(code);
    let mut found = walk.found;
    found.sort_by_key(|it| (it.at, it.rule));
    found.dedup_by_key(|it| (it.at, it.rule));
    let findings = found.into_iter().take(MOST_TOLD).map(|it| {
        let (line, column) = lines.place(it.at);
        Finding {
            line,
            column,
            rule: it.rule,
            message: it.message,
            suggestion: it.suggestion,
        }
    });
    let mut risky = walk.risky;
    risky.sort_by_key(|it| (it.0, it.1));
    risky.dedup_by_key(|it| (it.0, it.1));
    let risks = risky
        .into_iter()
        .take(MOST_TOLD)
        .map(|(at, kind, what)| Risk {
            line: lines.place(at).0,
            kind,
            what,
        });
    Inspected {
        findings: findings.collect(),
        risks: risks.collect(),
    }
}

struct Found {
    at: usize,
    rule: Rule,
    message: String,
    suggestion: String,
}

struct Walk<'p> {
    policy: Option<&'p Policy>,
    scopes: Scopes,
    /// Where everything is that is found now, for code that is a text in the code.
    pinned: Option<usize>,
    /// In an expression of `df.query`: its names are columns.
    query: bool,
    embedded: usize,
    found: Vec<Found>,
    risky: Vec<(usize, RiskKind, String)>,
}

/// What a mention of something amounts to.
enum Mention {
    Dunder(String),
    Function(String),
    Module {
        module: String,
        path: String,
    },
    Effect {
        effect: Effect,
        path: String,
        forbidden: bool,
    },
}

impl Walk<'_> {
    // ---- telling ----

    fn at(&self, range: TextRange) -> usize {
        self.pinned
            .unwrap_or(self.scopes.base + range.start().to_usize())
    }

    fn find(
        &mut self,
        at: usize,
        rule: Rule,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        if self.policy.is_some() && self.found.len() < MOST_KEPT {
            self.found.push(Found {
                at,
                rule,
                message: message.into(),
                suggestion: suggestion.into(),
            });
        }
    }

    fn risk(&mut self, at: usize, kind: RiskKind, what: impl Into<String>) {
        if self.risky.len() < MOST_KEPT {
            self.risky.push((at, kind, shortened(&what.into())));
        }
    }

    fn fault(&mut self, base: usize, fault: Fault) {
        self.find(base + fault.at, Rule::Syntax, fault.what, fault.suggestion);
    }

    // ---- cells and their lines ----

    fn cell(&mut self, code: &str, base: usize) {
        if let Some(magic) = commands::cell_magic(code) {
            let at = base + magic.at;
            if !magic.runs_body() {
                self.cell_command(at, magic.name, magic.line);
                return;
            }
            self.embed(magic.code(), at);
            self.cell(magic.body, base + magic.body_at);
            return;
        }
        if let Some(name) = commands::without_sign(code) {
            let at = base + (code.len() - code.trim_start().len());
            self.shell_line(at, code.trim(), name);
            return;
        }
        match parse::statements(code) {
            Err(fault) => self.fault(base, fault),
            Ok(body) => {
                self.scopes.base = base;
                self.scopes.push(Kind::Module);
                self.scopes.collect(&body);
                self.visit_body(&body);
                self.scopes.pop();
            }
        }
    }

    fn cell_command(&mut self, at: usize, name: &str, line: &str) {
        let shell = matches!(
            name,
            "bash" | "sh" | "script" | "sx" | "system" | "!" | "perl" | "ruby" | "cmd"
        );
        if shell {
            return self.shell_line(at, &format!("%%{name} {line}"), name);
        }
        if matches!(name, "writefile" | "file")
            && paths::is_outside(line.trim_start_matches("-a").trim())
        {
            self.risk(at, RiskKind::WriteOutside, format!("%%{name} {line}"));
        }
        self.find(
            at,
            Rule::Magic,
            format!("The cell magic %%{} is not allowed", shortened(name)),
            "Write Python.",
        );
    }

    fn shell_line(&mut self, at: usize, line: &str, name: &str) {
        self.risk(at, RiskKind::Shell, line);
        self.find(
            at,
            Rule::Shell,
            format!("`{}` is a command for the shell", shortened(name)),
            "Do it in Python with the allowed libraries; a line that installs packages holds nothing else.",
        );
    }

    fn escape(&mut self, range: TextRange, kind: IpyEscapeKind, value: &str) {
        let at = self.at(range);
        let verdict = match kind {
            IpyEscapeKind::Shell | IpyEscapeKind::ShCap => commands::shell(value),
            IpyEscapeKind::Magic => commands::magic(value),
            // Help shows documentation. What else stands in such a line is run if it is not an object's name.
            IpyEscapeKind::Help | IpyEscapeKind::Help2
                if value
                    .chars()
                    .all(|c| c.is_alphanumeric() || "_.*%[]".contains(c)) =>
            {
                Verdict::Harmless
            }
            _ => Verdict::Magic(value),
        };
        match verdict {
            Verdict::Harmless => {}
            Verdict::Install => self.risk(at, RiskKind::PackageInstall, value),
            Verdict::Code(code) => self.embed(code, at),
            Verdict::Shell => self.shell_line(at, value, value),
            Verdict::Magic(name) => {
                self.find(
                    at,
                    Rule::Magic,
                    format!(
                        "The magic {}{} is not allowed",
                        kind.as_str(),
                        shortened(name)
                    ),
                    "Write Python.",
                );
            }
        }
    }

    /// Looks at a text that is run as code. All that is in it is found at `at`.
    fn embed(&mut self, code: &str, at: usize) {
        if code.is_empty() {
            return;
        }
        if self.embedded == MOST_EMBEDDED {
            return self.find(
                at,
                Rule::Execution,
                "Code in texts within texts",
                "Write the code itself.",
            );
        }
        let pinned = self.pinned.replace(at);
        self.embedded += 1;
        match parse::statements(code) {
            Err(fault) => self.find(at, Rule::Syntax, fault.what, fault.suggestion),
            Ok(body) => self.visit_body(&body),
        }
        self.embedded -= 1;
        self.pinned = pinned;
    }

    /// Looks at a text that is evaluated as an expression if it is one; it is no fault if it is not.
    fn embed_expression(&mut self, text: &str, at: usize) {
        if self.embedded == MOST_EMBEDDED {
            return;
        }
        let pinned = self.pinned.replace(at);
        self.embedded += 1;
        if let Ok(Some(expression)) = parse::expression(text) {
            self.visit_expr(&expression);
        } else if let Some(name) = tables::dunder_in(text) {
            self.dunder(at, name);
        }
        self.embedded -= 1;
        self.pinned = pinned;
    }

    /// An expression of pandas: `@name` is a variable, a name in backticks a column.
    fn embed_query(&mut self, text: &str, at: usize) {
        let mut python = String::with_capacity(text.len());
        for (index, part) in text.split('`').enumerate() {
            match index % 2 {
                0 => python.push_str(&part.replace('@', " ")),
                _ => python.push_str(" column "),
            }
        }
        let query = std::mem::replace(&mut self.query, true);
        self.embed_expression(python.trim(), at);
        self.query = query;
    }

    // ---- modules ----

    fn module(&mut self, at: usize, module: &str) -> bool {
        let fine = module == "__future__" || self.policy.is_none_or(|policy| policy.allows(module));
        if !fine {
            let suggestion = self.policy.map(allowed).unwrap_or_default();
            self.find(
                at,
                Rule::Module,
                format!("The module `{module}` is not allowed"),
                suggestion,
            );
        }
        fine
    }

    fn import(&mut self, import: &StmtImport) {
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

    fn import_from(&mut self, import: &StmtImportFrom) {
        let at = self.at(import.range());
        let module = import.module.as_deref().unwrap_or_default();
        if import.level > 0 {
            let dots = ".".repeat(import.level.min(10) as usize);
            return self.find(
                at,
                Rule::Module,
                format!(
                    "`from {dots}{module} import` is relative to a package, and a cell is in none"
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
            let mention = self
                .effect(&parts, true)
                .or_else(|| self.carried(&parts, true));
            if let Some(mention) = mention {
                let at = self.at(alias.range());
                self.tell(at, mention);
            }
        }
    }

    // ---- mentions of names ----

    /// A name, or attributes on something.
    fn mention(&mut self, chain: &Chain<'_>, range: TextRange) {
        let at = self.at(range);
        if let Some(mention) = self.judge(chain, at) {
            self.tell(at, mention);
        }
    }

    fn judge(&self, chain: &Chain<'_>, at: usize) -> Option<Mention> {
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
                if called && !self.query && self.blocks(name) {
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
            let found = self
                .effect(&it.parts, it.known)
                .or_else(|| self.carried(&it.parts, it.known));
            if found.is_some() {
                return found;
            }
        }
        match traced.is_empty() {
            // On anything else only what is a module's function by its last two names.
            true => self.effect(names.get(carrier(names)?..)?, false),
            false => None,
        }
    }

    fn blocks(&self, function: &str) -> bool {
        self.policy
            .is_some_and(|policy| policy.blocked_functions.contains(function))
    }

    /// What a dotted name does, seen from the last module in it.
    fn effect(&self, parts: &[&str], known: bool) -> Option<Mention> {
        let start = carrier(parts).unwrap_or(0);
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
                )
        });
        Some(Mention::Effect {
            effect,
            path: path.join("."),
            forbidden: effect.rule().is_some() && !meant,
        })
    }

    /// A module that another one carries along, or that is used without an import in this cell.
    fn carried(&self, parts: &[&str], known: bool) -> Option<Mention> {
        let index = carrier(parts)?;
        let module = parts[index];
        let reached = if known {
            index > 0
        } else {
            index == 0 && parts.len() > 1
        };
        let policy = self.policy?;
        (reached && !policy.allows(module)).then(|| Mention::Module {
            module: module.to_owned(),
            path: parts.join("."),
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
            Mention::Module { module, path } => {
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

    fn dunder(&mut self, at: usize, name: &str) {
        self.find(
            at,
            Rule::Dunder,
            format!("`{name}` reaches into the interpreter and is not allowed"),
            "Use the object's own methods; `type(x).__name__` gives the name of a type.",
        );
    }

    // ---- calls ----

    fn call(&mut self, call: &ExprCall) {
        let at = self.at(call.range());
        if !self.is_traced(&call.func) {
            self.find(
                at,
                Rule::UnnamedCall,
                "What is called here has no name that can be checked",
                "Give the function a name, with def or by an import, and call it by that.",
            );
        }
        let chain = Chain::of(&call.func);
        let last = chain.names.last().copied();
        self.dynamic(call, &chain, at);
        self.loads_objects(call, last, at);
        self.texts_as_code(call, last, at);
        self.method(call, &chain, at);
        self.paths(call, &chain, at);
    }

    /// `get_ipython().run_line_magic("matplotlib", "inline")`, which is what `%matplotlib inline` is in a script.
    fn is_line(&mut self, call: &ExprCall) -> bool {
        let Expr::Attribute(method) = &*call.func else {
            return false;
        };
        let shell = match (&*method.value, method.attr.as_str()) {
            (Expr::Call(inner), "run_line_magic" | "magic") if is_get_ipython(inner) => false,
            (Expr::Call(inner), "system" | "getoutput") if is_get_ipython(inner) => true,
            _ => return false,
        };
        let words: Option<Vec<String>> = call.arguments.args.iter().map(paths::constant).collect();
        let Some(line) = words
            .map(|words| words.join(" "))
            .filter(|_| call.arguments.keywords.is_empty())
        else {
            return false;
        };
        let kind = match shell {
            true => IpyEscapeKind::Shell,
            false => IpyEscapeKind::Magic,
        };
        self.escape(call.range(), kind, &line);
        true
    }

    /// Imports and attributes that are named by a text.
    fn dynamic(&mut self, call: &ExprCall, chain: &Chain<'_>, at: usize) {
        let name = match (chain.names.last(), chain.root) {
            (Some(name), _) => *name,
            (None, Expr::Name(root)) => match self.scopes.trace(chain).first() {
                Some(traced) => traced.parts.last().copied().unwrap_or_default(),
                None => root.id.as_str(),
            },
            _ => return,
        };
        let argument = |index: usize| call.arguments.args.get(index);
        let text = |it: Option<&Expr>| it.and_then(|it| self.scopes.beginning(it));
        match name {
            "import_module" | "__import__" | "import_optional_dependency" => {
                if let Some(module) = text(argument(0)) {
                    self.module(at, module.split('.').next().unwrap_or_default());
                }
            }
            "getattr" | "setattr" | "delattr" | "attrgetter" | "methodcaller"
            | "__getattribute__" | "getattr_static" => {
                let mut texts = call.arguments.args.iter().filter_map(|it| text(Some(it)));
                if let Some(dunder) = texts.find_map(|text| tables::dunder_in(&text)) {
                    self.dunder(at, dunder);
                }
            }
            // Of a text: `"{0.__class__}".format(x)`.
            "format" | "format_map" | "vformat" => {
                let receiver = match &*call.func {
                    Expr::Attribute(attribute) => text(Some(&attribute.value)),
                    _ => None,
                };
                let texts = receiver.into_iter().chain(text(argument(0)));
                if let Some(name) = texts.into_iter().find_map(|text| tables::dunder_in(&text)) {
                    self.dunder(at, name);
                }
            }
            _ => {}
        }
    }

    /// `np.load(…, allow_pickle=True)` and its like.
    fn loads_objects(&mut self, call: &ExprCall, last: Option<&str>, at: usize) {
        let chain = Chain::of(&call.func);
        let is_load = self.scopes.trace(&chain).iter().any(|it| {
            matches!(
                it.parts.as_slice(),
                ["numpy", .., "load" | "read_array" | "NpzFile"]
            )
        });
        let writes = last.is_some_and(|name| name.starts_with("save") || name == "write_array");
        let is_false =
            |value: &Expr| matches!(value, Expr::BooleanLiteral(literal) if !literal.value);
        let pickles =
            call.arguments
                .keywords
                .iter()
                .any(|keyword| match (&keyword.arg, &keyword.value) {
                    (Some(name), value) => name == "allow_pickle" && !is_false(value),
                    (None, Expr::Dict(dict)) => dict.items.iter().any(|item| match &item.key {
                        Some(key) => {
                            paths::constant(key).as_deref() == Some("allow_pickle")
                                && !is_false(&item.value)
                        }
                        None => is_load,
                    }),
                    (None, _) => is_load,
                });
        let position = is_load.then(|| call.arguments.args.get(2)).flatten();
        let starred = is_load && call.arguments.args.iter().any(Expr::is_starred_expr);
        if (pickles && !writes) || starred || position.is_some_and(|value| !is_false(value)) {
            let (what, suggestion) = Effect::Unpickle.words();
            self.find(
                at,
                Rule::Unpickle,
                format!("`allow_pickle` {what}"),
                suggestion,
            );
        }
    }

    /// Arguments that the called function takes for code.
    fn texts_as_code(&mut self, call: &ExprCall, last: Option<&str>, at: usize) {
        let name = match (&*call.func, last) {
            (_, Some(name)) => name,
            (Expr::Name(name), None) => name.id.as_str(),
            _ => return,
        };
        let query = matches!(name, "query" | "eval") && last.is_some();
        if !query && name != "ForwardRef" {
            return;
        }
        let keyword = call
            .arguments
            .find_keyword("expr")
            .map(|keyword| &keyword.value);
        let Some(text) = call
            .arguments
            .args
            .first()
            .or(keyword)
            .and_then(|it| self.scopes.beginning(it))
        else {
            return;
        };
        match query {
            true => self.embed_query(&text, at),
            false => self.embed_expression(&text, at),
        }
    }

    /// What the name of a method tells, whatever it is called on.
    fn method(&mut self, call: &ExprCall, chain: &Chain<'_>, at: usize) {
        let Expr::Attribute(attribute) = &*call.func else {
            return;
        };
        // What starts in a module is known by its whole name.
        let name = attribute.attr.as_str();
        let of_module = self.scopes.trace(chain).iter().any(|it| it.known);
        match name {
            "unlink" | "rmdir" | "rmtree" if !of_module => {
                self.risk(at, RiskKind::FileDeletion, format!(".{name}()"))
            }
            "system" | "popen" if !of_module && !call.arguments.is_empty() => {
                let own = matches!(chain.root, Expr::Name(root) if root.id == "self");
                if !own {
                    self.risk(at, RiskKind::Shell, format!(".{name}()"));
                    let (what, suggestion) = Effect::Shell.words();
                    self.find(at, Rule::Shell, format!("`.{name}(…)` {what}"), suggestion);
                }
            }
            _ => {}
        }
    }

    // ---- calls without a name ----

    /// Whether the target of a call is a name, or leads to one that this code or a module has.
    fn is_traced(&self, func: &Expr) -> bool {
        match func {
            Expr::Lambda(_) => false,
            Expr::Subscript(subscript) => self.is_known_table(subscript),
            Expr::Call(call) => !Chain::of(func).names.is_empty() || self.is_known_result(call),
            Expr::Named(named) => self.is_traced(&named.value),
            _ => true,
        }
    }

    fn is_known_table(&self, subscript: &ExprSubscript) -> bool {
        match &*subscript.value {
            Expr::Dict(_) | Expr::List(_) | Expr::Tuple(_) => true,
            Expr::Subscript(inner) => self.is_known_table(inner),
            Expr::Call(call) => self.is_known_result(call),
            value @ (Expr::Name(_) | Expr::Attribute(_)) => self.is_known(value),
            _ => false,
        }
    }

    /// Whether a name, or an attribute, belongs to a module or to something that is written in this code.
    fn is_known(&self, value: &Expr) -> bool {
        let chain = Chain::of(value);
        let Expr::Name(root) = chain.root else {
            return false;
        };
        match self.scopes.lookup(&root.id) {
            Some(binding) => {
                let known = |it: &Value| matches!(it, Value::Module(_) | Value::Table | Value::Own);
                binding.values.iter().any(known) || root.id == "self"
            }
            // Generic types, and modules that an earlier cell imported.
            None if chain.names.is_empty() => {
                matches!(
                    root.id.as_str(),
                    "list" | "dict" | "set" | "tuple" | "frozenset" | "type"
                )
            }
            None => true,
        }
    }

    fn is_known_result(&self, call: &ExprCall) -> bool {
        match &*call.func {
            Expr::Name(name) => {
                let class = name.id.starts_with(char::is_uppercase)
                    || matches!(name.id.as_str(), "type" | "super");
                class || self.is_known(&call.func)
            }
            Expr::Attribute(attribute) => match attribute.attr.as_str() {
                "get" | "pop" | "popitem" | "setdefault" | "__getitem__" => {
                    matches!(&*attribute.value, Expr::Dict(_) | Expr::List(_))
                        || self.is_known(&attribute.value)
                }
                _ => true,
            },
            func => self.is_traced(func),
        }
    }

    // ---- paths and addresses ----

    fn paths(&mut self, call: &ExprCall, chain: &Chain<'_>, at: usize) {
        let traced: Vec<Effect> = self
            .scopes
            .trace(chain)
            .iter()
            .filter_map(|it| {
                let tail = &it.parts[carrier(&it.parts).unwrap_or(0)..];
                tables::effect(tail, it.known).or_else(|| tables::effect(&it.parts, it.known))
            })
            .collect();
        let (receiver, name) = match &*call.func {
            Expr::Attribute(attribute) => (Some(&*attribute.value), attribute.attr.as_str()),
            Expr::Name(name) => (None, name.id.as_str()),
            _ => return,
        };
        let arguments = &call.arguments;
        let by_name = || {
            let named = |name: &str| {
                ["path", "fname", "file", "buf", "writer", "dst"]
                    .iter()
                    .any(|part| name.contains(part))
            };
            let keyword = arguments
                .keywords
                .iter()
                .find(|it| it.arg.as_ref().is_some_and(|arg| named(arg)));
            keyword.map(|it| &it.value)
        };
        let argument = |index: usize| arguments.args.get(index).or_else(by_name);
        let mode = |index: usize| {
            let mode = arguments
                .args
                .get(index)
                .or_else(|| arguments.find_keyword("mode").map(|it| &it.value));
            let text = mode.and_then(paths::constant);
            text.is_some_and(|text| text.contains(['w', 'a', 'x', '+']))
        };
        let written: Option<&Expr> = match name {
            "open" if receiver.is_none() && mode(1) => argument(0),
            "open" if mode(0) => receiver,
            "open" if mode(1) => argument(0),
            name if tables::PATH_WRITERS.contains(&name) && traced.is_empty() => receiver,
            name => {
                let position = traced.iter().find_map(|effect| match effect {
                    Effect::Write(position) => Some(*position),
                    _ => None,
                });
                let method = || receiver.and_then(|_| tables::writing_method(name));
                position.or_else(method).and_then(argument)
            }
        };
        if let Some(path) = written.and_then(|it| self.scopes.beginning(it))
            && paths::is_outside(&path)
        {
            self.risk(at, RiskKind::WriteOutside, format!("{name}: {path}"));
        }
        const READERS: &[&str] = &[
            "read", "open", "load", "scan", "fetch", "imread", "url", "download", "connect", "get",
        ];
        if READERS.iter().any(|part| name.starts_with(part)) {
            let all = arguments
                .args
                .iter()
                .chain(arguments.keywords.iter().map(|it| &it.value));
            let address = all
                .filter_map(|it| self.scopes.beginning(it))
                .find(|text| paths::is_address(text));
            if let Some(address) = address {
                self.risk(at, RiskKind::Network, format!("{name}: {address}"));
            }
        }
        let words = arguments.args.iter().flat_map(|it| match it {
            Expr::List(list) => list.elts.iter(),
            it => std::slice::from_ref(it).iter(),
        });
        let words: Vec<String> = words.filter_map(paths::constant).collect();
        let words: Vec<&str> = words
            .iter()
            .flat_map(|text| text.split_whitespace())
            .collect();
        if traced.contains(&Effect::Shell)
            && words.contains(&"install")
            && words.iter().any(|it| it.contains("pip"))
        {
            self.risk(at, RiskKind::PackageInstall, shortened(&words.join(" ")));
        }
    }

    // ---- scopes ----

    fn comprehension<'a>(&mut self, generators: &'a [Comprehension], parts: &[&'a Expr]) {
        // The first source is looked up outside.
        if let Some(first) = generators.first() {
            self.visit_expr(&first.iter);
        }
        self.scopes.push(Kind::Function);
        for generator in generators {
            self.scopes.bind_target(generator);
        }
        for (index, generator) in generators.iter().enumerate() {
            if index > 0 {
                self.visit_expr(&generator.iter);
            }
            self.visit_expr(&generator.target);
            generator.ifs.iter().for_each(|it| self.visit_expr(it));
        }
        parts.iter().for_each(|part| self.visit_expr(part));
        self.scopes.pop();
    }
}

fn is_get_ipython(call: &ExprCall) -> bool {
    matches!(&*call.func, Expr::Name(name) if name.id == "get_ipython")
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

/// The index of the last module in a dotted name that libraries carry along.
fn carrier(parts: &[&str]) -> Option<usize> {
    parts.iter().rposition(|name| tables::is_carried(name))
}

/// Text from the code, fit for one line of a message.
fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    let mut out: String = text
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

impl<'a> Visitor<'a> for Walk<'_> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::Import(import) => self.import(import),
            Stmt::ImportFrom(import) => self.import_from(import),
            Stmt::IpyEscapeCommand(it) => self.escape(it.range, it.kind, &it.value),
            Stmt::FunctionDef(function) => {
                function
                    .decorator_list
                    .iter()
                    .for_each(|it| self.visit_decorator(it));
                if let Some(parameters) = &function.type_params {
                    self.visit_type_params(parameters);
                }
                self.visit_parameters(&function.parameters);
                if let Some(returns) = &function.returns {
                    self.visit_annotation(returns);
                }
                self.scopes.push(Kind::Function);
                self.scopes.bind_parameters(&function.parameters);
                self.scopes.collect(&function.body);
                self.visit_body(&function.body);
                self.scopes.pop();
            }
            Stmt::ClassDef(class) => {
                class
                    .decorator_list
                    .iter()
                    .for_each(|it| self.visit_decorator(it));
                if let Some(parameters) = &class.type_params {
                    self.visit_type_params(parameters);
                }
                if let Some(arguments) = &class.arguments {
                    walk_arguments(self, arguments);
                }
                self.scopes.push(Kind::Class);
                self.scopes.collect(&class.body);
                self.visit_body(&class.body);
                self.scopes.pop();
            }
            stmt => walk_stmt(self, stmt),
        }
    }

    fn visit_annotation(&mut self, annotation: &'a Expr) {
        if let Expr::StringLiteral(text) = annotation {
            let at = self.at(text.range);
            self.embed_expression(text.value.to_str(), at);
        }
        self.visit_expr(annotation);
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Name(name) => {
                if name.ctx == ExprContext::Load {
                    self.mention(&Chain::of(expr), name.range);
                }
            }
            Expr::Attribute(attribute) => {
                let chain = Chain::of(expr);
                self.mention(&chain, attribute.range);
                let mut inner = &*attribute.value;
                while let Expr::Attribute(attribute) = inner {
                    inner = &attribute.value;
                }
                if !inner.is_name_expr() {
                    self.visit_expr(inner);
                }
            }
            Expr::Call(call) => {
                if self.is_line(call) {
                    return;
                }
                self.call(call);
                let chain = Chain::of(expr);
                if !chain.names.is_empty() {
                    self.mention(&chain, call.range());
                }
                walk_expr(self, expr);
            }
            Expr::Subscript(subscript) => {
                let name = self.scopes.beginning(&subscript.slice);
                if let Some(name) = name.filter(|name| tables::is_dunder(name)) {
                    let at = self.at(subscript.range);
                    self.dunder(at, &name);
                }
                walk_expr(self, expr);
            }
            Expr::IpyEscapeCommand(it) => self.escape(it.range, it.kind, &it.value),
            Expr::Lambda(lambda) => {
                if let Some(parameters) = &lambda.parameters {
                    walk_parameters(self, parameters);
                }
                self.scopes.push(Kind::Function);
                if let Some(parameters) = &lambda.parameters {
                    self.scopes.bind_parameters(parameters);
                }
                self.scopes.collect_expr(&lambda.body);
                self.visit_expr(&lambda.body);
                self.scopes.pop();
            }
            Expr::ListComp(it) => self.comprehension(&it.generators, &[&it.elt]),
            Expr::SetComp(it) => self.comprehension(&it.generators, &[&it.elt]),
            Expr::Generator(it) => self.comprehension(&it.generators, &[&it.elt]),
            Expr::DictComp(it) => {
                let key = it.key.as_deref();
                let parts: Vec<&Expr> = key.into_iter().chain([&*it.value]).collect();
                self.comprehension(&it.generators, &parts);
            }
            expr => walk_expr(self, expr),
        }
    }

    fn visit_pattern_keyword(&mut self, keyword: &'a PatternKeyword) {
        if tables::is_dunder(&keyword.attr) {
            let at = self.at(keyword.range);
            self.dunder(at, &keyword.attr);
        }
        walk_pattern_keyword(self, keyword);
    }
}
