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
    use std::os::unix::fs::MetadataExt;
    let user = nix::unistd::Uid::effective().as_raw();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
        })
        .filter_map(|entry| std::fs::metadata(entry.path().join("task")).ok())
        .filter(|meta| meta.uid() == user)
        // A folder's links are its own two names and one for each folder in it.
        .map(|meta| meta.nlink().saturating_sub(2))
        .sum()
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
