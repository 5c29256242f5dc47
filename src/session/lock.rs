//! One writer for a session: a lock file beside its log.
//!
//! The lock is the operating system's (`flock`), which ends with the process however that ends. The file's content
//! says who holds it, and decides where a filesystem has no such locks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::SessionError;

/// The right to write a session; given up when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the log at `log`, or says who has it.
    pub fn take(log: &Path) -> Result<Lock, SessionError> {
        let path = log.with_file_name("lock");
        let failed = || SessionError::io("write the lock", &path);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed())?;
        let holder = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Holder>(&bytes).ok())
            .filter(Holder::is_alive);
        let free = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(_)) => holder.is_none(),
        };
        if !free {
            return Err(SessionError::Locked {
                folder: log.parent().unwrap_or(log).to_owned(),
                holder: holder.map_or("another process".to_owned(), |holder| holder.describe()),
            });
        }
        let content = serde_json::to_vec(&Holder::this_process()).unwrap_or_default();
        file.set_len(0).map_err(failed())?;
        file.write_all(&content).map_err(failed())?;
        Ok(Lock { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Where the content is all there is of the lock, it must not outlive it. A fault here leaves a stale one,
        // which the next opener sees through.
        let _ = self.file.set_len(0);
        // By closing alone it would last as long as a copy of the descriptor in a child that is about to `exec`.
        let _ = self.file.unlock();
    }
}

/// The content of a lock file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    pid: i32,
    /// When that process started, in the clock ticks of `/proc`: a later process may get the same pid.
    start: Option<u64>,
    /// When the session was opened.
    since: Timestamp,
}

impl Holder {
    fn this_process() -> Holder {
        let pid = Pid::this().as_raw();
        Holder {
            pid,
            start: start_time(pid),
            since: Timestamp::now(),
        }
    }

    fn is_alive(&self) -> bool {
        match self.start {
            Some(start) => start_time(self.pid) == Some(start),
            // No /proc (macOS). EPERM is a living process of someone else's; 0 and below are groups.
            None => self.pid > 0 && kill(Pid::from_raw(self.pid), None) != Err(nix::Error::ESRCH),
        }
    }

    fn describe(&self) -> String {
        let since = self.since.to_zoned_datetime(jiff::tz::TimeZone::system());
        let since = since.strftime("%Y-%m-%d %H:%M:%S");
        format!("process {} since {since}", self.pid)
    }
}

/// When a process started, in clock ticks since the boot: field 22 of `/proc/<pid>/stat`. Counted from the end of the
/// name, which may hold spaces and brackets itself.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_refused_with_the_pid_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("events.jsonl");
        let first = Lock::take(&log).unwrap();
        let message = Lock::take(&log).unwrap_err().to_string();
        assert!(
            message.contains(&format!("process {} since", std::process::id())),
            "{message}"
        );
        assert!(
            message.contains(folder.path().to_str().unwrap()),
            "{message}"
        );
        assert!(message.contains("Close it there"), "{message}");
        drop(first);
        Lock::take(&log).unwrap();
    }

    #[test]
    fn a_lock_that_a_dead_process_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        for content in [
            &br#"{"pid":1,"start":1,"since":"2026-01-01T00:00:00Z"}"#[..],
            b"\xff{",
        ] {
            fs::write(folder.path().join("lock"), content).unwrap();
            Lock::take(&folder.path().join("events.jsonl")).unwrap();
        }
    }

    #[test]
    fn a_process_is_known_by_its_pid_and_start() {
        let this = Holder::this_process();
        assert!(this.is_alive());
        let earlier = Holder {
            start: this.start.map(|start| start - 1),
            ..this
        };
        assert!(!earlier.is_alive() || cfg!(not(target_os = "linux")));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        child.wait().unwrap();
        for start in [None, Some(1)] {
            let since = Timestamp::now();
            assert!(!Holder { pid, start, since }.is_alive());
        }
    }
}
