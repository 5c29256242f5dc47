//! `conform` on kernels: one that keeps to the protocol, one of another language, and one that was broken in many ways.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod foreign;
mod relay;
mod report;

use std::collections::BTreeMap;

use heddle::conform::{Check, Target, Verdict, examine};

/// Every check, and the names of those that did not pass.
struct Report {
    checks: Vec<Check>,
}

impl Report {
    async fn of(target: Target) -> Report {
        let mut checks = Vec::new();
        examine(target, &mut |check| checks.push(check))
            .await
            .unwrap();
        Report { checks }
    }

    fn with(&self, verdict: Verdict) -> BTreeMap<&str, &str> {
        let of = self.checks.iter().filter(|check| check.verdict == verdict);
        of.map(|check| (check.name, check.seen.as_str())).collect()
    }

    /// That these checks failed, and no others.
    #[track_caller]
    fn assert_failed(&self, names: &[&str]) {
        let failed = self.with(Verdict::Fail);
        let mut names = names.to_vec();
        names.sort_unstable();
        assert_eq!(
            failed.keys().copied().collect::<Vec<_>>(),
            names,
            "{failed:#?}"
        );
    }

    #[track_caller]
    fn assert_not_supported(&self, names: &[&str]) {
        let found = self.with(Verdict::NotSupported);
        let mut names = names.to_vec();
        names.sort_unstable();
        assert_eq!(
            found.keys().copied().collect::<Vec<_>>(),
            names,
            "{found:#?}"
        );
    }
}
