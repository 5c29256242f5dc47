//! What all processes of a sandbox take together, where no control group counts it.

use std::path::{Path, PathBuf};

use super::HOME;

/// The size of a page where it is not larger; then a little less is counted, and the exact sum decides.
const PAGE: u64 = 4096;

/// Private file systems of a sandbox, which live in memory too.
const FILE_SYSTEMS: &[&str] = &["/tmp", "/dev/shm", HOME];

/// Whether the processes of this PID namespace and their private file systems take more than `limit` bytes. Called by
/// process 1, for whom every process is one of the sandbox.
pub(super) fn exceeds(limit: u64) -> bool {
    let files: u64 = FILE_SYSTEMS.iter().map(|path| used(path)).sum();
    // What is shared counts once a process here, so this is too much, but cheap; the exact sum walks all pages.
    let resident: u64 = processes().map(|process| resident(&process)).sum();
    if files + resident <= limit {
        return false;
    }
    let exact: u64 = processes().map(|process| proportional(&process)).sum();
    files + exact > limit
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            name != "1" && name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .map(|entry| entry.path())
}

/// Memory of one process, with all that it shares with others.
fn resident(process: &Path) -> u64 {
    let text = std::fs::read_to_string(process.join("statm")).unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE
}

/// Memory of one process; what it shares with others is divided among them.
fn proportional(process: &Path) -> u64 {
    let text = std::fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    pss(&text)
}

fn pss(smaps_rollup: &str) -> u64 {
    smaps_rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

fn used(path: &str) -> u64 {
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
        let parent = format!("/proc/{}", std::os::unix::process::parent_id());
        let (exact, all) = (
            proportional(Path::new(&parent)),
            resident(Path::new(&parent)),
        );
        assert!(exact > 0 && exact <= all);
    }
}
