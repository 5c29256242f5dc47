//! Static checks of Python code on its syntax tree: what a policy forbids, and what a person should be asked about.
//!
//! Nothing is run and nothing is read. The checks stop a model that reaches for something it should not; code that is
//! written to deceive can get past any check of this kind, and what keeps such code in its place is the isolation of
//! the kernel.
//!
//! # How it looks at code
//! - A forbidden function is found where its name is *mentioned*, called or not: `f = open`, `map(eval, x)`. A name
//!   that the code surely binds itself before that (`def compile(…)`) is the code's own.
//! - A dotted name is followed through imports and assignments to the module it starts in, so that
//!   `c = pandas.io.common; c.os.system(…)` is `os.system`.
//! - What the cells of a kernel name after a module is known in the cells that follow, in a [`Namespace`].
//! - A call through a subscript, a lambda or another call's result is found unless its target is traced to a module
//!   or to something that the same code defines.
//! - A cell is read as IPython reads it: cell magics, `%` and `!` lines, `?`, a shell command without `!`.

mod binding;
mod commands;
mod namespace;
mod parse;
mod paths;
mod syntax;
mod tables;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashSet;

use serde::Serialize;

pub use namespace::Namespace;
pub use syntax::{is_python, needs, redefines};

pub use crate::config::{ALLOWED_MODULES, BLOCKED_FUNCTIONS};
use crate::printable::escape_line;

/// The most findings, and the most risks, that are told of one piece of code.
pub const MOST_TOLD: usize = 100;

/// Why a policy cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    #[error(
        "code_interpreter.allowed_modules and code_interpreter.blocked_modules are both set, and one list says what \
         the other should: keep one of them"
    )]
    BothLists,
}

/// What code may do.
#[derive(Clone, Debug)]
pub struct Policy {
    allowed_modules: Option<HashSet<String>>,
    blocked_modules: Option<HashSet<String>>,
    blocked_functions: HashSet<String>,
}

impl Default for Policy {
    /// [`ALLOWED_MODULES`] and [`BLOCKED_FUNCTIONS`].
    fn default() -> Policy {
        Policy {
            allowed_modules: Some(owned(ALLOWED_MODULES)),
            blocked_modules: None,
            blocked_functions: owned(BLOCKED_FUNCTIONS),
        }
    }
}

fn owned(names: &[&str]) -> HashSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// In words for whoever writes code that is to pass.
impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let listed = |names: &HashSet<String>| {
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.sort_unstable();
            names.join(", ")
        };
        if let Some(allowed) = &self.allowed_modules {
            write!(
                f,
                "Only these modules may be imported: {}.",
                listed(allowed)
            )?;
        }
        if let Some(blocked) = &self.blocked_modules {
            write!(
                f,
                "These modules must not be imported: {}.",
                listed(blocked)
            )?;
        }
        if !self.blocked_functions.is_empty() {
            let blocked = listed(&self.blocked_functions);
            write!(f, " These functions must not be called: {blocked}.")?;
        }
        Ok(())
    }
}

impl Policy {
    /// A policy from lists of top-level modules and of functions. `None` is the default of a list; an empty list of
    /// allowed modules allows none, an empty one of blocked functions blocks none.
    ///
    /// # Errors
    /// When both lists of modules are given.
    pub fn new(
        allowed_modules: Option<Vec<String>>,
        blocked_modules: Option<Vec<String>>,
        blocked_functions: Option<Vec<String>>,
    ) -> Result<Policy, PolicyError> {
        let mut policy = Policy::default();
        match (allowed_modules, blocked_modules) {
            (Some(_), Some(_)) => return Err(PolicyError::BothLists),
            (Some(allowed), None) => policy.allowed_modules = Some(allowed.into_iter().collect()),
            (None, Some(blocked)) => {
                policy.allowed_modules = None;
                policy.blocked_modules = Some(blocked.into_iter().collect());
            }
            (None, None) => {}
        }
        if let Some(functions) = blocked_functions {
            policy.blocked_functions = functions.into_iter().collect();
        }
        Ok(policy)
    }

    /// What in the code, one cell by itself, the policy forbids: in the order of the code, [`MOST_TOLD`] at most.
    pub fn check(&self, code: &str) -> Vec<Finding> {
        Namespace::default().check(self, code)
    }

    /// Whether a top-level module may be used.
    fn allows(&self, module: &str) -> bool {
        let allowed = self.allowed_modules.as_ref();
        let blocked = self.blocked_modules.as_ref();
        allowed.is_none_or(|list| list.contains(module))
            && blocked.is_none_or(|list| !list.contains(module))
    }

    /// Whether a module was allowed by its name, not merely not blocked.
    fn names(&self, module: &str) -> bool {
        let allowed = self.allowed_modules.as_ref();
        allowed.is_some_and(|list| list.contains(module))
    }
}

/// What a policy can forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rule {
    /// The code is no Python, or too long or too deeply nested to be checked.
    Syntax,
    /// A module, however it is reached.
    Module,
    /// A blocked function, called or not.
    Function,
    /// An attribute through which the interpreter itself can be reached, such as `__globals__`.
    Dunder,
    /// A call whose target has no name.
    UnnamedCall,
    /// A command of the shell or another program.
    Shell,
    /// A magic of IPython.
    Magic,
    /// Data that runs code when it is loaded, such as a pickle.
    Unpickle,
    /// Text that is run as code, or native code.
    Execution,
}

/// One thing that a policy forbids, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub rule: Rule,
    /// What is there, in a sentence without its full stop.
    pub message: String,
    /// What to do instead.
    pub suggestion: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finding {
            line,
            column,
            message,
            suggestion,
            ..
        } = self;
        write!(f, "{line}:{column}: {message}. {suggestion}")
    }
}

/// What a person may want to be asked about before code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RiskKind {
    Shell,
    PackageInstall,
    FileDeletion,
    Network,
    /// Writing to a path that is absolute or leads upwards, as far as the path can be read in the code.
    WriteOutside,
    /// The policy forbids it.
    Finding,
}

/// One risk of running code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Risk {
    /// From 1.
    pub line: usize,
    pub kind: RiskKind,
    /// The call, command or finding.
    pub what: String,
}

/// The risks of running the code, one cell by itself, in its order, [`MOST_TOLD`] at most; with a policy, its findings
/// too.
pub fn risks(policy: Option<&Policy>, code: &str) -> Vec<Risk> {
    Namespace::default().risks(policy, code)
}

fn told(inspected: walk::Inspected) -> Vec<Risk> {
    let mut risks = inspected.risks;
    risks.extend(inspected.findings.into_iter().map(|finding| Risk {
        line: finding.line,
        kind: RiskKind::Finding,
        what: finding.message,
    }));
    risks.sort_by_key(|risk| (risk.line, risk.kind));
    risks.truncate(MOST_TOLD);
    risks
}

/// Text from the code, fit for one line of a message: not long, nothing in it that a terminal would act on.
fn shortened(text: &str) -> String {
    const MOST: usize = 100;
    let end = text.char_indices().nth(MOST).map(|(at, _)| at);
    let mut out = escape_line(&text[..end.unwrap_or(text.len())]).into_owned();
    if end.is_some() {
        out.push('…');
    }
    out
}
