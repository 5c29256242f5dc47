//! What a kernel does right and wrong by the protocol.

use std::collections::BTreeMap;

use heddle::conform::{Check, Target, Verdict, examine};

/// Every check of one kernel.
pub struct Report {
    pub checks: Vec<Check>,
}

impl Report {
    pub async fn of(target: Target) -> Report {
        let mut checks = Vec::new();
        let examined = examine(target, &mut |check| checks.push(check)).await;
        examined.unwrap();
        Report { checks }
    }

    /// The names of the checks that came out so, and what each saw.
    pub fn with(&self, verdict: Verdict) -> BTreeMap<&str, &str> {
        let of = self.checks.iter().filter(|check| check.verdict == verdict);
        of.map(|check| (check.name, check.seen.as_str())).collect()
    }

    /// That these checks failed, and no others.
    #[track_caller]
    pub fn assert_failed(&self, names: &[&str]) {
        self.assert_with(Verdict::Fail, names);
    }

    #[track_caller]
    pub fn assert_with(&self, verdict: Verdict, names: &[&str]) {
        let found = self.with(verdict);
        let mut names = names.to_vec();
        names.sort_unstable();
        let found_names: Vec<_> = found.keys().copied().collect();
        assert_eq!(found_names, names, "{found:#?}");
    }
}
