//! What a sandbox takes, where no control group counts it: the memory of its processes, and what it writes into file
//! systems that live in memory.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::level::Level;
use super::processes::descendants;
use super::sandbox::Sandbox;
use super::supervisor::Report;
use super::{HOME, folder, landlock};

/// The size of a page where it is not larger; then a little less is counted, and the exact sum decides.
const PAGE: u64 = 4096;

/// Bytes that may be in the folder of the sockets, which is on the host's memory.
const FOLDER: u64 = 1 << 20;

/// Private file systems of the upper level, as far as nothing of the host's is mounted over them.
const FILE_SYSTEMS: &[&str] = &["/tmp", "/dev/shm", HOME];

/// What is looked at, and how much it may be.
pub(super) struct Account {
    limit: u64,
    run_folder: PathBuf,
    /// The kernel's own folders in it, at the lower level.
    private: Vec<PathBuf>,
    /// The kernel's own file systems, at the upper level.
    file_systems: Vec<&'static Path>,
}

impl Account {
    pub(super) fn new(sandbox: &Sandbox, run_folder: &Path) -> Account {
        Account {
            limit: sandbox.memory,
            run_folder: run_folder.to_path_buf(),
            private: match sandbox.level {
                Level::Namespaces => Vec::new(),
                Level::Landlock(_) => landlock::private_folders(run_folder).to_vec(),
            },
            file_systems: own_file_systems(sandbox),
        }
    }

    /// What the descendants of this process, and what they wrote, take too much of.
    pub(super) fn excess(&self) -> Option<Report> {
        let processes = descendants();
        let deleted = deleted(&processes, &self.run_folder);
        let mut sockets = folder::size(&self.run_folder, &self.private);
        let mut files = 0_u64;
        if self.private.is_empty() {
            sockets = sockets.saturating_add(deleted);
            files += self.file_systems.iter().map(|path| used(path)).sum::<u64>();
        } else {
            let private = self.private.iter().map(|path| folder::size(path, &[]));
            files = private.fold(deleted, u64::saturating_add);
        }
        if sockets > FOLDER {
            return Some(Report::FolderFull);
        }
        let taken = |one: fn(Pid) -> u64| {
            let processes = processes.iter().map(|process| one(*process));
            processes.fold(files, u64::saturating_add)
        };
        // What is shared counts once a process in the first, which is too much, but cheap; the second walks all pages.
        let exceeds = taken(resident) > self.limit && taken(proportional) > self.limit;
        exceeds.then_some(Report::OutOfMemory(self.limit))
    }
}

/// What the host's folders hold, such as a workspace that is `/tmp` itself, is not the kernel's. To be called before code
/// runs that could make links.
fn own_file_systems(sandbox: &Sandbox) -> Vec<&'static Path> {
    let shown = sandbox.read.iter().chain(&sandbox.write);
    let shown: Vec<PathBuf> = shown
        .filter_map(|granted| granted.path.canonicalize().ok())
        .collect();
    let own = FILE_SYSTEMS.iter().map(Path::new);
    own.filter(|path| !shown.iter().any(|above| path.starts_with(above)))
        .collect()
}

fn of(process: Pid, name: &str) -> PathBuf {
    Path::new("/proc").join(process.to_string()).join(name)
}

/// Memory of one process, with all that it shares with others.
fn resident(process: Pid) -> u64 {
    let text = std::fs::read_to_string(of(process, "statm")).unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE
}

/// Memory of one process; what it shares with others is divided among them, where it lets itself be looked at.
fn proportional(process: Pid) -> u64 {
    match std::fs::read_to_string(of(process, "smaps_rollup")) {
        Ok(text) => pss(&text),
        Err(_) => resident(process),
    }
}

fn pss(smaps_rollup: &str) -> u64 {
    smaps_rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

/// Bytes of files on the folder's file system that have lost their names and are still open.
fn deleted(processes: &[Pid], folder: &Path) -> u64 {
    let Ok(device) = std::fs::metadata(folder).map(|meta| meta.dev()) else {
        return 0;
    };
    let mut seen = HashSet::new();
    let open = processes
        .iter()
        .filter_map(|process| std::fs::read_dir(of(*process, "fd")).ok());
    open.flatten()
        .flatten()
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .filter(|meta| meta.dev() == device && meta.nlink() == 0 && seen.insert(meta.ino()))
        .map(|meta| meta.blocks() * 512)
        .sum()
}

fn used(path: &Path) -> u64 {
    match nix::sys::statvfs::statvfs(path) {
        Ok(stat) => (stat.blocks() - stat.blocks_free()) * stat.fragment_size(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_proportional_size() {
        assert_eq!(
            pss("7f-7f ---p\nRss: 9 kB\nPss:     1234 kB\nPss_Dirty: 5 kB\n"),
            1234 * 1024
        );
        assert_eq!(pss(""), 0);
    }

    #[test]
    fn sees_its_own_parent() {
        let parent = nix::unistd::getppid();
        let (exact, all) = (proportional(parent), resident(parent));
        assert!(exact > 0 && exact <= all);
    }
}
