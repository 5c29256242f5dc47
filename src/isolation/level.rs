//! How strong a sandbox this machine can make, and what would allow a stronger one.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::landlock;
use super::sandbox::Sandbox;
use super::supervisor::{Report, SUBCOMMAND};

/// How strong a sandbox is, the weaker first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Landlock, of this version of its interface, and a filter of system calls: where namespaces are refused.
    Landlock(u32),
    /// Namespaces and a private root, with Landlock, where there is one, and a filter of system calls on top.
    Namespaces,
}

/// What [`Level::Landlock`] leaves open, in words for a person.
pub const LEFT_OPEN: &str = "code can still learn of your files' names and sizes and change their modes and times, \
    though not read or write them, see that your processes run, and slow them, and change what your other tools run \
    in its working directory, such as .git/hooks";

/// What it leaves open in addition before Landlock's sixth interface (Linux 6.12).
const LEFT_OPEN_TO_SIGNALS: &str = "and signal your processes";

impl Level {
    /// A name for people.
    pub fn name(self) -> &'static str {
        match self {
            Level::Landlock(_) => "the lower level (Landlock)",
            Level::Namespaces => "the upper level (namespaces)",
        }
    }

    /// What code can still do outside, in words for a person; `None` where that is nothing.
    pub fn leaves_open(self) -> Option<String> {
        match self {
            Level::Namespaces => None,
            Level::Landlock(landlock::SCOPES..) => Some(LEFT_OPEN.to_owned()),
            Level::Landlock(_) => Some(format!("{LEFT_OPEN}, {LEFT_OPEN_TO_SIGNALS}")),
        }
    }

    /// The test switch `HEDDLE_SANDBOX_LEVEL`: `landlock`, or `landlock:3` for its third interface, caps the level.
    pub fn cap() -> Level {
        let text = std::env::var("HEDDLE_SANDBOX_LEVEL").unwrap_or_default();
        match text.split_once(':') {
            Some(("landlock", abi)) => Level::Landlock(abi.parse().unwrap_or(0)),
            _ if text == "landlock" => Level::Landlock(u32::MAX),
            _ => Level::Namespaces,
        }
    }
}

/// The level that was found, and why there is no stronger one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub level: Level,
    /// Why namespaces are not used, where they are not.
    pub refused: Option<String>,
}

/// The strongest level up to `cap` that works on this machine, found by trying with `supervisor`.
///
/// # Errors
/// Why there is none.
pub fn probe(supervisor: &Path, cap: Level) -> Result<Found, String> {
    let refused = match cap {
        Level::Namespaces => match attempt(supervisor, Level::Namespaces) {
            Ok(()) => {
                return Ok(Found {
                    level: Level::Namespaces,
                    refused: None,
                });
            }
            Err(reason) => reason,
        },
        Level::Landlock(_) => "HEDDLE_SANDBOX_LEVEL is set".to_owned(),
    };
    let highest = match cap {
        Level::Landlock(abi) => abi,
        Level::Namespaces => u32::MAX,
    };
    let level = Level::Landlock(landlock::abi().min(highest));
    match attempt(supervisor, level) {
        Ok(()) => Ok(Found {
            level,
            refused: Some(refused),
        }),
        Err(reason) => Err(format!("{refused}; and at the lower level {reason}")),
    }
}

/// Makes a sandbox for a moment.
fn attempt(supervisor: &Path, level: Level) -> Result<(), String> {
    let empty = Sandbox {
        level,
        read: Vec::new(),
        hide: Vec::new(),
        write: Vec::new(),
        exposed: Vec::new(),
        keep: Default::default(),
        network: false,
        memory: u64::MAX,
        processes: 64,
        file_size: u64::MAX,
        cpus: 0.0,
    };
    let sandbox = serde_json::to_string(&empty).map_err(|error| error.to_string())?;
    // As a kernel has; the supervisor removes it.
    let run_folder =
        tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let mut child = Command::new(supervisor)
        .arg(SUBCOMMAND)
        .arg(run_folder.path())
        .args([&sandbox, "/bin/true"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the supervisor cannot be started: {error}"))?;
    // Kept to the end: it is the lifeline.
    let lifeline = child.stdin.take();
    let mut said = String::new();
    if let Some(mut reports) = child.stdout.take() {
        use std::io::Read;
        // What was not said is found missing below.
        let _ = reports.read_to_string(&mut said);
    }
    drop(lifeline);
    let _ = child.wait();
    let mut reports = said.lines().filter_map(Report::from_line);
    match reports.find(|report| !matches!(report, Report::Started(_))) {
        Some(Report::Exited(0)) => Ok(()),
        Some(Report::Failed(reason)) => Err(reason),
        other => Err(format!("a trial ended unexpectedly: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_landlock_is_weaker_than_namespaces() {
        assert!(Level::Landlock(3) < Level::Landlock(7));
        assert!(Level::Landlock(u32::MAX) < Level::Namespaces);
        assert_eq!(Level::Namespaces.leaves_open(), None);
        let (old, new) = (Level::Landlock(5), Level::Landlock(6));
        assert!(old.leaves_open().unwrap().contains("signal"));
        assert!(!new.leaves_open().unwrap().contains("signal"));
    }
}
