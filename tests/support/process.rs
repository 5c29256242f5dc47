//! Processes: tests that need one of their own, and whether others still live.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the process that a test made for itself.
const ALONE: &str = "HEDDLE_TEST_ALONE";

/// Runs the test `name` again in a process of its own, where nothing else opens files or takes memory. True in that
/// process; false, once it has passed, in the one that asked.
pub fn alone(name: &str, env: &[(&str, &str)]) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = again(name, env).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// The same, with a new empty folder for what the process and its kernels put into temporary folders.
pub fn alone_with_folder(name: &str) -> Option<PathBuf> {
    if std::env::var_os(ALONE).is_some() {
        return Some(std::env::temp_dir());
    }
    let folder = tempfile::Builder::new().prefix("hd").tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    alone(name, &[("TMPDIR", path), ("XDG_RUNTIME_DIR", path)]);
    None
}

/// Ends a process that a test made, also when the test fails.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The command that [`alone`] runs, for a test that has to kill it.
pub fn again(name: &str, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .envs(env.iter().copied())
        .stdin(Stdio::null());
    command
}

/// Whether a process runs. A zombie, which only waits to be reaped, does not.
pub fn runs(pid: i32) -> bool {
    // Its name in there need be no text.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// The processes whose command line contains `text`.
pub fn running(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
                && runs(*pid)
        })
        .collect()
}

/// How many files this process has open.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// This process's memory, in bytes.
pub fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Waits for `condition` and says how long it took; fails after `limit`.
pub async fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

/// Waits until a folder and all of the processes are gone.
pub async fn gone(limit: Duration, folder: &Path, pids: &[i32]) -> Duration {
    let what = format!("{} and {pids:?} gone", folder.display());
    within(limit, &what, || {
        !folder.exists() && !pids.iter().any(|pid| runs(*pid))
    })
    .await
}
