//! Backends of matplotlib: `module://name` is a module that it imports, however it comes to have it.

use ruff_python_ast::{Expr, ExprCall, Operator};
use ruff_text_size::Ranged;

use super::Walk;
use crate::policy::binding::Chain;
use crate::policy::{Rule, paths};

const SCHEME: &str = "module://";

impl Walk<'_> {
    /// A text that names such a module, in whatever it is then put: `rcParams`, an environment variable, a file.
    pub(super) fn names_backend(&mut self, expr: &Expr) {
        if !begins_with_scheme(expr) {
            return;
        }
        let text = paths::constant(expr).or_else(|| self.scopes.beginning(expr));
        let Some(module) = text.as_deref().and_then(|text| text.strip_prefix(SCHEME)) else {
            return;
        };
        let module = module.split('.').next().unwrap_or_default();
        // These two are IPython's.
        if !matches!(module, "matplotlib_inline" | "ipykernel") {
            let at = self.at(expr.range());
            self.module(at, module);
        }
    }

    /// `rcParams["backend"] = …`, where it cannot be read what is set.
    pub(super) fn sets_backend(&mut self, target: &Expr, value: &Expr) {
        let Expr::Subscript(subscript) = target else {
            return;
        };
        let settings = match &*subscript.value {
            Expr::Name(name) => name.id.as_str(),
            Expr::Attribute(attribute) => attribute.attr.as_str(),
            _ => return,
        };
        let key = self.scopes.beginning(&subscript.slice);
        if matches!(settings, "rcParams" | "rcParamsDefault")
            && key.as_deref() == Some("backend")
            && self.scopes.beginning(value).is_none()
        {
            let at = self.at(target.range());
            self.unread_backend(at);
        }
    }

    /// `matplotlib.use(…)`, where it cannot be read what is used.
    pub(super) fn uses_backend(&mut self, call: &ExprCall, chain: &Chain<'_>, at: usize) {
        let sets = self.scopes.trace(chain).iter().any(|it| {
            matches!(
                it.parts.as_slice(),
                ["matplotlib", "use"] | ["matplotlib", "pyplot", "switch_backend"]
            )
        });
        let keyword = ["backend", "newbackend"]
            .iter()
            .find_map(|name| call.arguments.find_keyword(name));
        let named = call.arguments.args.first();
        let named = named.or_else(|| keyword.map(|keyword| &keyword.value));
        if sets && named.is_none_or(|named| self.scopes.beginning(named).is_none()) {
            self.unread_backend(at);
        }
    }

    fn unread_backend(&mut self, at: usize) {
        self.find(
            at,
            Rule::Module,
            "The backend of matplotlib is only known when the code runs, and may be any module",
            "Name it, as in matplotlib.use('Agg').",
        );
    }
}

/// Whether a text may begin with the scheme, by its first piece: long sums are not put together for nothing.
fn begins_with_scheme(expr: &Expr) -> bool {
    let mut first = expr;
    loop {
        match first {
            Expr::BinOp(sum) if sum.op == Operator::Add => first = &sum.left,
            Expr::StringLiteral(text) => {
                let text = text.value.to_str();
                return SCHEME.starts_with(text) || text.starts_with(SCHEME);
            }
            Expr::FString(text) => return text.value.elements().next().is_some(),
            _ => return false,
        }
    }
}
