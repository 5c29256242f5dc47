//! Signals that mean others: a logout or a Ctrl-C reaches the supervisor of a kernel too.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::everywhere;
use crate::place::Mode;

/// The supervisors that this process has started.
fn supervisors() -> Vec<Pid> {
    let own = std::process::id().to_string();
    let threads = std::fs::read_dir(format!("/proc/{own}/task"))
        .unwrap()
        .flatten();
    let children =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let pids: Vec<i32> = children
        .flat_map(|line| {
            line.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    let supervises = |pid: &i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').nth(1) == Some("supervise")
    };
    pids.into_iter()
        .filter(supervises)
        .map(Pid::from_raw)
        .collect()
}

#[test]
fn a_supervisor_ends_by_its_lifeline_alone_and_its_death_ends_the_kernel() {
    everywhere(async |place| {
        if let Mode::Container(_) = place.mode {
            return;
        }
        let mut kernel = place.start().await;
        let [supervisor] = supervisors()[..] else {
            panic!("one supervisor for one kernel");
        };
        kernel.printed("before = 1").await;
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            kill(supervisor, signal).unwrap();
        }
        // Whoever is signalled takes it before it takes the next order.
        assert_eq!(kernel.printed("print(before)").await, "1");
        assert!(supervisors().contains(&supervisor));
        kill(supervisor, Signal::SIGKILL).unwrap();
        let outcome = kernel.run("import time; time.sleep(600)").await;
        assert!(
            outcome.died.is_some() || outcome.lost.is_some(),
            "{outcome:?}"
        );
        kernel.end().await;
    });
}
