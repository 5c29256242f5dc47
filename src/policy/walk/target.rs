//! Targets of calls: whether what is called leads to a name that can be checked.

use ruff_python_ast::{Expr, ExprCall, ExprSubscript};

use super::Walk;
use crate::policy::binding::{Chain, Value};

impl Walk<'_> {
    /// Whether the target of a call is a name, or leads to one that this code or a module has.
    pub(super) fn is_traced(&self, func: &Expr) -> bool {
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
}
