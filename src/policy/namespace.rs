//! The names that the cells checked before may have given to modules, and to what is in them.

use std::collections::HashMap;

use super::{Finding, Policy, Risk, told, walk};

/// Bytes of names and paths that are kept. Far more than a session's own; code can be written to need it all.
const MOST_BYTES: usize = 1 << 20;

/// The newest paths that are kept of one name.
const MOST_PATHS: usize = 16;

/// What a kernel's namespace may hold after the cells that were checked, in their order. A name stays even if the cell
/// was refused, failed or bound it anew: only the kernel knows what came of it.
#[derive(Debug, Default)]
pub struct Namespace {
    paths: HashMap<String, Vec<String>>,
    bytes: usize,
    /// There was no room for some name, so that any name may be a module.
    full: bool,
}

impl Namespace {
    /// What in the next cell the policy forbids: [`Policy::check`] with the names of the cells before.
    pub fn check(&mut self, policy: &Policy, code: &str) -> Vec<Finding> {
        walk::inspect(Some(policy), code, self).findings
    }

    /// The risks of the next cell: [`super::risks`] with the names of the cells before.
    pub fn risks(&mut self, policy: Option<&Policy>, code: &str) -> Vec<Risk> {
        told(walk::inspect(policy, code, self))
    }

    /// Reads the names that a cell binds, which is run without a check.
    pub fn learn(&mut self, code: &str) {
        walk::inspect(None, code, self);
    }

    /// The dotted names that a name may stand for.
    pub(super) fn paths<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let kept = self.paths.get(name);
        let unsure = (self.full && kept.is_none()).then_some(name);
        let kept = kept.into_iter().flatten().map(String::as_str);
        kept.chain(unsure)
    }

    pub(super) fn keep(&mut self, name: &str, path: &str) {
        let paths = self.paths.get(name);
        if paths.is_some_and(|paths| paths.iter().any(|it| it == path)) {
            return;
        }
        let bytes = path.len() + paths.map_or(name.len(), |_| 0);
        if self.bytes + bytes > MOST_BYTES {
            self.full = true;
            return;
        }
        self.bytes += bytes;
        let paths = self.paths.entry(name.to_owned()).or_default();
        paths.push(path.to_owned());
        if paths.len() > MOST_PATHS {
            self.bytes -= paths.remove(0).len();
        }
    }
}
