//! What the agent asks of a piece of Python: whether it is whole, and whether it needs another piece before it.

use std::collections::BTreeSet;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{Expr, ExprContext, Stmt};

use super::parse::{statements, with_stack};

/// Whether this is Python, or what IPython takes for it, from its first line to its last.
pub fn is_python(code: &str) -> bool {
    with_stack(|| statements(code).is_ok())
}

/// Whether `code` uses a name that `earlier` binds and that `code` itself does not bind. Wherever the names are: it is
/// a guess about what belongs together, not a proof.
pub fn needs(code: &str, earlier: &str) -> bool {
    with_stack(|| {
        let (Ok(code), Ok(earlier)) = (statements(code), statements(earlier)) else {
            return false;
        };
        let (code, earlier) = (Names::of(&code), Names::of(&earlier));
        code.used
            .iter()
            .any(|name| earlier.bound.contains(name) && !code.bound.contains(name))
    })
}

/// Whether `code` stands in place of `earlier`: it binds all names that `earlier` binds, or repeats half of its lines.
pub fn redefines(code: &str, earlier: &str) -> bool {
    let lines: BTreeSet<&str> = code.lines().map(str::trim).collect();
    let (mut all, mut same) = (0, 0);
    for line in earlier
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        all += 1;
        same += usize::from(lines.contains(line));
    }
    2 * same >= all
        || with_stack(|| {
            let (Ok(code), Ok(earlier)) = (statements(code), statements(earlier)) else {
                return false;
            };
            let (code, earlier) = (Names::of(&code), Names::of(&earlier));
            !earlier.bound.is_empty() && earlier.bound.is_subset(&code.bound)
        })
}

#[derive(Default)]
struct Names {
    bound: BTreeSet<String>,
    used: BTreeSet<String>,
}

impl Names {
    fn of(statements: &[Stmt]) -> Names {
        let mut names = Names::default();
        statements
            .iter()
            .for_each(|statement| names.visit_stmt(statement));
        names
    }

    fn bind(&mut self, name: &str) {
        self.bound.insert(name.to_owned());
    }
}

impl<'a> Visitor<'a> for Names {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::FunctionDef(function) => self.bind(function.name.as_str()),
            Stmt::ClassDef(class) => self.bind(class.name.as_str()),
            Stmt::Import(import) => {
                for alias in &import.names {
                    let name = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.bind(name.split('.').next().unwrap_or_default());
                }
            }
            Stmt::ImportFrom(import) => {
                for alias in &import.names {
                    self.bind(alias.asname.as_ref().unwrap_or(&alias.name));
                }
            }
            _ => {}
        }
        walk_stmt(self, statement);
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Name(name) = expression {
            match name.ctx {
                ExprContext::Load => self.used.insert(name.id.to_string()),
                _ => self.bound.insert(name.id.to_string()),
            };
        }
        walk_expr(self, expression);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_needs_another_whose_names_it_uses_and_does_not_bind() {
        assert!(needs(
            "print(df.head())",
            "import pandas as pd\ndf = pd.DataFrame()"
        ));
        assert!(needs("f(1)", "def f(x): return x"));
        assert!(!needs("df = 1\nprint(df)", "df = 2"));
        assert!(!needs("print(1)", "x = 1"));
    }

    #[test]
    fn what_ipython_takes_is_python() {
        assert!(is_python("%pip install x\nls = !ls\nx?\n"));
        assert!(!is_python("for x in"));
    }
}
