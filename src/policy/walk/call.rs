//! Calls: what their arguments make of them.

use ruff_python_ast::{Expr, ExprCall, IpyEscapeKind};
use ruff_text_size::Ranged;

use super::Walk;
use crate::policy::binding::{Chain, Origin};
use crate::policy::tables::{self, Effect};
use crate::policy::{RiskKind, Rule, paths};

impl Walk<'_> {
    pub(super) fn call(&mut self, call: &ExprCall) {
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
        self.reach(call, &chain, at);
    }

    /// `get_ipython().run_line_magic("matplotlib", "inline")`, which is what `%matplotlib inline` is in a script.
    pub(super) fn is_line(&mut self, call: &ExprCall) -> bool {
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
            "use" | "switch_backend" => self.uses_backend(call, chain, at),
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
        // `inspect.signature(f, eval_str=True)`: annotations are evaluated.
        let evaluates = call.arguments.find_keyword("eval_str");
        if evaluates
            .is_some_and(|it| !matches!(&it.value, Expr::BooleanLiteral(literal) if !literal.value))
        {
            let (what, suggestion) = Effect::Execute.words();
            self.find(
                at,
                Rule::Execution,
                format!("`eval_str` {what}"),
                suggestion,
            );
        }
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
        let named = call.arguments.args.first().or(keyword);
        let text = match query {
            true => named.and_then(|it| self.scopes.beginning(it)),
            false => named.and_then(paths::constant),
        };
        let Some(text) = text else {
            if !query {
                let (what, suggestion) = Effect::Execute.words();
                self.find(
                    at,
                    Rule::Execution,
                    format!("`ForwardRef` {what}"),
                    suggestion,
                );
            }
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
        let traced = self.scopes.trace(chain);
        let of_module = traced.iter().any(|it| it.origin == Origin::Here);
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
}

fn is_get_ipython(call: &ExprCall) -> bool {
    matches!(&*call.func, Expr::Name(name) if name.id == "get_ipython")
}
