//! The first process of a container: what it is started with, and what its end says.

use std::time::Duration;

use super::owner::Owner;

/// For `python -c`.
pub(super) const PROGRAM: &str = include_str!("../../../kernelspec/init.py");

/// How often it hears that whoever watches the container is alive.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// How long it hears nothing before it ends, and the container with it.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// The exit status of an end by silence.
pub(super) const SILENT: i32 = 193;

/// Where its arguments are in its command line, as `start.sh` makes it: PYTHON -I -S -c PROGRAM PYTHON CONTAINER OWNER.
const PROGRAM_AT: usize = 4;
const CONTAINER_AT: usize = 6;
const OWNER_AT: usize = 7;

/// Those on this machine whose owners have died, by their numbers and the containers' names.
pub(super) fn deserted() -> Vec<(i32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers
        .filter_map(|pid| {
            let (container, owner) = names(pid)?;
            owner.has_died().then_some((pid, container))
        })
        .collect()
}

/// Kills it, if the process with this number is still that of this container.
pub(super) fn kill(pid: i32, container: &str) {
    if names(pid).is_some_and(|(name, _)| name == container) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        );
    }
}

/// The container and the owner of a process that is the first of a container; none of any other.
fn names(pid: i32) -> Option<(String, Owner)> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let command = read("cmdline")?;
    let mut arguments = command.split('\0').skip(PROGRAM_AT);
    let (program, container, owner) = (
        arguments.next()?,
        arguments.nth(CONTAINER_AT - PROGRAM_AT - 1)?,
        arguments.nth(OWNER_AT - CONTAINER_AT - 1)?,
    );
    // Of any version.
    let is_ours = program.lines().next() == PROGRAM.lines().next();
    // The number in its own space is the last.
    let status = read("status")?;
    let numbers = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    let is_first = numbers.split_ascii_whitespace().skip(1).last() == Some("1");
    (is_ours && is_first).then(|| (container.to_owned(), Owner::of(owner)))
}

/// Its arguments after the Python: the container's name, its owner, the silence in seconds that ends it (none where
/// nothing does), and the folder of sockets that it carries connections to (empty for none).
pub(super) fn arguments(container: &str, silence: Option<Duration>, folder: &str) -> [String; 4] {
    [
        container.to_owned(),
        Owner::here().as_str().to_owned(),
        silence.unwrap_or_default().as_secs().to_string(),
        folder.to_owned(),
    ]
}
