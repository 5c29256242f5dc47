//! The attack list, run as code in a kernel: each probe gets through in local mode, so that it can be seen to fail, and
//! in no sandbox.

use std::collections::BTreeSet;

use heddle::isolation::level::Level;

use crate::everywhere;
use crate::place::{Mode, Place, Running};
use crate::victim::Victim;

const PROBES: &str = include_str!("attacks.py");

/// What an ordinary user cannot do anyway.
const ROOT_ONLY: &[&str] = &[
    "read /etc/shadow",
    "chmod /etc/shadow",
    "write a system file",
    "write into the program",
    "make a device",
    "open a disk or the kernel's log",
    "write a setting of the machine",
    "raw packets",
    "a mount namespace by unshare",
    "mount",
    "chroot",
];
/// What some machines refuse to everybody, by how they were built or set.
const DEPENDS: &[&str] = &[
    "sysrq",
    "read the first process's environment",
    "see the first process's root",
    "io_uring",
    "bpf",
    "userfaultfd",
    "perf events",
    "secret memory",
    "keyrings",
    "compare processes",
    "x32",
    "calls of 32 bits",
    "type into a terminal",
    "type into a terminal with a wide number",
    "loopback tcp by fast open",
    "namespaces by unshare",
    "namespaces by clone",
    "namespaces by clone3",
    "open a disk or the kernel's log",
    "mount",
    "a mount namespace by unshare",
    "message queues",
];

/// What a mode and level leaves open, and says so.
fn left_open(mode: Mode) -> Vec<&'static str> {
    match mode {
        Mode::Local => vec![],
        // These are about what is the container's own.
        Mode::Container(_) => vec!["stat /etc/shadow", "write beside the workspace"],
        Mode::Sandbox(Level::Namespaces) => vec![],
        Mode::Sandbox(Level::Landlock(6..)) => vec![
            "chmod a key",
            "stat /etc/shadow",
            "stat a key",
            "touch a key",
        ],
        Mode::Sandbox(Level::Landlock(_)) => vec![
            "chmod a key",
            "signal a program",
            "signal heddle",
            "stat /etc/shadow",
            "stat a key",
            "touch a key",
        ],
    }
}

async fn attack(place: &Place) -> BTreeSet<String> {
    let host = Victim::new();
    let other = place.start().await;
    let mut map = host.map();
    map["other"] = other
        .executor
        .kernel()
        .connection_file()
        .to_string_lossy()
        .into();
    let mut kernel = place.start().await;
    let map = serde_json::to_string(&map.to_string()).unwrap();
    kernel.printed(&PROBES.replace("__HOST__", &map)).await;
    let names = kernel.printed("print('\\n'.join(PROBES))").await;
    let mut through = BTreeSet::new();
    for name in names.lines() {
        let started = std::time::Instant::now();
        let said = probe(&mut kernel, name).await;
        // One that was only interrupted has not been refused.
        assert!(started.elapsed().as_secs() < 60, "{name} hangs: {said}");
        let reached = host.was_reached(name.strip_suffix(" by fast open").unwrap_or(name));
        eprintln!(
            "{name}: {said}{}",
            if reached { " and reached" } else { "" }
        );
        if said.starts_with('+') || reached {
            through.insert(name.to_owned());
        }
    }
    kernel.end().await;
    other.end().await;
    through.extend(host.all_reached());
    through
}

async fn probe(kernel: &mut Running, name: &str) -> String {
    kernel.printed(&format!("print(attack({name:?}))")).await
}

#[test]
fn no_attack_gets_through() {
    everywhere(async |place| {
        let through = attack(&place).await;
        if place.mode != Mode::Local {
            let open = left_open(place.mode).into_iter().map(str::to_owned);
            assert_eq!(through, open.collect());
            return;
        }
        let all = PROBES.lines().filter_map(|line| {
            let line = line.trim_start();
            let rest = line
                .strip_prefix("probe(\"")
                .or(line.strip_prefix("call(\""))?;
            Some(rest.split('"').next().unwrap())
        });
        let expected = all.filter(|name| {
            !DEPENDS.contains(name)
                && (nix::unistd::geteuid().is_root() || !ROOT_ONLY.contains(name))
        });
        let held: Vec<&str> = expected.filter(|name| !through.contains(*name)).collect();
        assert!(held.is_empty(), "cannot be told from a failure: {held:?}");
    });
}
