//! The process tree below this process.

/// All living descendants of this process, nearest first, as far as `/proc` tells.
///
/// Descendants that called `setsid` and whose parents have ended are among them when this process is their
/// subreaper.
#[cfg(target_os = "linux")]
pub(super) fn descendants() -> Vec<nix::unistd::Pid> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        if let Some(pid) = pid
            && let Ok(stat) = std::fs::read(entry.path().join("stat"))
            // A process may give itself a name that is no text.
            && let Some(parent) = parent_in_stat(&String::from_utf8_lossy(&stat))
        {
            parents.push((pid, parent));
        }
    }
    let mut tree = vec![std::process::id() as i32];
    let mut next = 0;
    while next < tree.len() {
        let children = parents
            .iter()
            .filter(|(_, parent)| *parent == tree[next])
            .map(|(pid, _)| *pid);
        let children: Vec<i32> = children.collect();
        tree.extend(children);
        next += 1;
    }
    tree.into_iter()
        .skip(1)
        .map(nix::unistd::Pid::from_raw)
        .collect()
}

/// Threads of all processes of this process's user, which is what a limit of processes counts.
#[cfg(target_os = "linux")]
pub(super) fn tasks_of_user() -> u64 {
    let user = u64::from(nix::unistd::Uid::current().as_raw());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(|pid| status(nix::unistd::Pid::from_raw(pid)))
        .filter(|status| field(status, "Uid:") == Some(user))
        .filter_map(|status| field(&status, "Threads:"))
        .sum()
}

/// What `/proc/PID/status` tells of a process, to everybody; nothing of one that is gone.
#[cfg(target_os = "linux")]
pub(super) fn status(process: nix::unistd::Pid) -> String {
    let path = format!("/proc/{process}/status");
    // A process may give itself a name that is no text.
    let text = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// The first number of a line that begins with `name`.
#[cfg(target_os = "linux")]
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether a process has ended, or is about to: it was sent SIGKILL, or is giving back what it has.
#[cfg(target_os = "linux")]
pub(super) fn is_ending(process: nix::unistd::Pid) -> bool {
    const EXITING: u64 = 0x4;
    const KILLED: u64 = 1 << (nix::libc::SIGKILL - 1);
    let status = status(process);
    let pending = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or(0)
    };
    if (pending("SigPnd:") | pending("ShdPnd:")) & KILLED != 0 {
        return true;
    }
    let stat = std::fs::read(format!("/proc/{process}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    let flags = || {
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_ascii_whitespace().nth(6)?.parse::<u64>().ok()
    };
    flags().is_none_or(|flags| flags & EXITING != 0)
}

/// Waits for a child to end, whatever signals come meanwhile.
///
/// # Errors
/// There is no such child.
#[cfg(target_os = "linux")]
pub(super) fn wait_for(child: nix::unistd::Pid) -> nix::Result<nix::sys::wait::WaitStatus> {
    loop {
        match nix::sys::wait::waitpid(child, None) {
            Err(nix::errno::Errno::EINTR) => {}
            outcome => return outcome,
        }
    }
}

/// The parent's pid in a line of `/proc/PID/stat`. The command in parentheses may hold spaces and parentheses.
#[cfg(target_os = "linux")]
fn parent_in_stat(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Elsewhere there is no subreaper, and only the kernel's own process group can be named.
#[cfg(not(target_os = "linux"))]
pub(super) fn descendants() -> Vec<nix::unistd::Pid> {
    Vec::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn reads_the_parent_past_an_odd_command_name() {
        assert_eq!(parent_in_stat("12 (a) (b c) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in_stat(""), None);
    }

    #[test]
    fn counts_the_threads_of_the_user() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || stopped.recv());
        let counted = tasks_of_user();
        drop(stop);
        let _ = thread.join().unwrap();
        // This process has at least the two.
        assert!(counted >= 2, "{counted}");
    }

    #[test]
    fn a_killed_process_is_ending_before_it_is_reaped() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        assert!(!is_ending(pid));
        child.kill().unwrap();
        assert!(is_ending(pid));
        child.wait().unwrap();
        assert!(is_ending(pid));
    }

    #[test]
    fn finds_a_child_of_this_process() {
        let mut child = std::process::Command::new("sleep")
            .arg("10")
            .spawn()
            .unwrap();
        let found = descendants()
            .iter()
            .any(|pid| pid.as_raw() == child.id() as i32);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
