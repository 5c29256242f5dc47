//! One program run in a sandbox of its own, for the sake of what it prints: no network, nothing of the machine's to
//! write to, and a bound on time and output. What it prints is data that a stranger may have chosen.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::landlock;
use super::level::Level;
use super::resolve::{FileId, Granted};
use super::sandbox::Sandbox;
use super::supervisor::{Report, SUBCOMMAND};

/// More than the slowest start of an interpreter on a busy machine.
const LONGEST: Duration = Duration::from_secs(30);
/// How long the supervisor may take to end what it has started.
const STUCK: Duration = Duration::from_secs(10);
/// The most that is read of what the program prints, in bytes.
const MOST_OUTPUT: u64 = 256 << 10;

/// What is run, and what it sees of the machine beside the system's folders.
pub struct Throwaway<'a> {
    /// The heddle binary, which becomes the supervisor.
    pub supervisor: &'a Path,
    /// Files and folders that can be read.
    pub read: Vec<PathBuf>,
    pub program: &'a Path,
    pub args: &'a [&'a str],
    /// The whole environment.
    pub env: Vec<(&'static str, std::ffi::OsString)>,
}

impl Throwaway<'_> {
    /// What the program printed, standard error included, or nothing where it failed. Blocking.
    ///
    /// # Errors
    /// Why this machine makes no sandbox.
    pub fn run(&self) -> Result<Vec<u8>, String> {
        let refused = match Level::cap() {
            Level::Namespaces => match self.run_at(Level::Namespaces) {
                Err(reason) => reason,
                printed => return printed,
            },
            Level::Landlock(_) => "HEDDLE_SANDBOX_LEVEL is set".to_owned(),
        };
        let highest = match Level::cap() {
            Level::Landlock(abi) => abi,
            Level::Namespaces => u32::MAX,
        };
        self.run_at(Level::Landlock(landlock::abi().min(highest)))
            .map_err(|reason| format!("{refused}; and at the lower level {reason}"))
    }

    fn run_at(&self, level: Level) -> Result<Vec<u8>, String> {
        let granted = |path: &PathBuf| {
            let meta = std::fs::metadata(path)
                .map_err(|error| format!("{} cannot be used: {error}", path.display()))?;
            Ok::<_, String>(Granted {
                path: path.clone(),
                id: FileId::of(&meta),
            })
        };
        let sandbox = Sandbox {
            level,
            read: self.read.iter().map(granted).collect::<Result<_, _>>()?,
            hide: Vec::new(),
            write: Vec::new(),
            exposed: Vec::new(),
            keep: Default::default(),
            network: false,
            memory: 1 << 30,
            processes: 64,
            file_size: 1 << 20,
            cpus: 0.0,
        };
        let sandbox = serde_json::to_string(&sandbox).map_err(|error| error.to_string())?;
        // As a kernel has; the supervisor removes it.
        let run_folder =
            tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let mut child = Command::new(self.supervisor)
            .arg(SUBCOMMAND)
            .arg(run_folder.path())
            .arg(&sandbox)
            .arg(self.program)
            .args(self.args)
            .env_clear()
            .envs(self.env.iter().cloned())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the supervisor cannot be started: {error}"))?;
        // Its end is the program's.
        let lifeline = child.stdin.take();
        let (reports, printed) = (read(child.stdout.take()), read(child.stderr.take()));
        let patience = std::time::Instant::now() + LONGEST;
        let left = || patience.saturating_duration_since(std::time::Instant::now());
        // Both end with the supervisor, or where there is more than is taken.
        let printed = printed.recv_timeout(left()).unwrap_or_default();
        drop(lifeline);
        let reports = reports.recv_timeout(STUCK).unwrap_or_default();
        // A program that ran on was ended with the lifeline; a supervisor that is stuck takes it along.
        let _ = child.kill();
        let _ = child.wait();
        let reports = String::from_utf8_lossy(&reports);
        let mut reports = reports.lines().filter_map(Report::from_line);
        match reports.find(|report| !matches!(report, Report::Started(_))) {
            Some(Report::Exited(0)) => Ok(printed),
            // What is said of the program itself is no fault of the sandbox.
            Some(Report::Failed(reason))
                if !reason.starts_with(&*self.program.to_string_lossy()) =>
            {
                Err(reason)
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// Reads a stream to its end, or to the most that is taken.
fn read(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            // What was not read is found missing by whoever parses it.
            let _ = stream.take(MOST_OUTPUT).read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}
