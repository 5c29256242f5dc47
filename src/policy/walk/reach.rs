//! What calls reach outside: paths that are written, addresses on the network, packages that are installed.

use ruff_python_ast::{Expr, ExprCall};

use super::Walk;
use crate::policy::binding::Chain;
use crate::policy::tables::{self, Effect};
use crate::policy::{ALLOWED_MODULES, RiskKind, Rule, paths, shortened};

/// Functions that write any file, Python's own too, unlike those that write data.
const OF_FILES: &[&str] = &[
    "open",
    "write_text",
    "write_bytes",
    "touch",
    "mkdir",
    "makedirs",
    "copy",
    "copy2",
    "copyfile",
    "copytree",
    "move",
    "rename",
    "renames",
    "replace",
    "link",
    "symlink",
    "symlink_to",
    "hardlink_to",
    "chmod",
    "chown",
];

impl Walk<'_> {
    /// A file that is imported instead of a module of its name. What writes data has no business with one; other
    /// functions write scripts, too, which are no module that the code may import.
    fn plants_module(&mut self, function: &str, path: &str, at: usize) {
        let Some(module) = paths::imported_as(path) else {
            return;
        };
        let known = || {
            self.policy.is_some_and(|policy| policy.names(module))
                || ALLOWED_MODULES.contains(&module)
                || tables::is_dangerous(module)
        };
        if !OF_FILES.contains(&function) || known() {
            let message = format!(
                "`{}` is a file that Python, or a library, runs as code when `{}` is imported",
                shortened(path),
                shortened(module)
            );
            self.find(at, Rule::Execution, message, "Give the file another name.");
        }
    }

    /// Tells the risks of a call by its arguments.
    pub(super) fn reach(&mut self, call: &ExprCall, chain: &Chain<'_>, at: usize) {
        let traced: Vec<Effect> = self
            .scopes
            .trace(chain)
            .iter()
            .filter_map(|it| {
                let tail = &it.parts[tables::carrier(&it.parts).unwrap_or(0)..];
                tables::effect(tail, it.is_known())
                    .or_else(|| tables::effect(&it.parts, it.is_known()))
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
        let path = written.and_then(|it| self.scopes.beginning(it));
        if let Some(path) = path.as_deref().filter(|path| paths::is_outside(path)) {
            self.risk(at, RiskKind::WriteOutside, format!("{name}: {path}"));
        }
        // Of a path object, with the new name alone.
        let renamed = match (name, &*arguments.args) {
            ("rename" | "replace", [target]) if traced.is_empty() => self.scopes.beginning(target),
            _ => None,
        };
        // Its end may be readable where its beginning is not, and tells what kind of file it is.
        let end = written.and_then(|it| self.scopes.end(it));
        for path in [path.or(renamed), end].into_iter().flatten() {
            self.plants_module(name, &path, at);
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
}
