//! Who is asked about packages: a Python of this machine, or one in a container's image.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::{PackagesError, Progress};

/// The program that an interpreter runs.
pub const DRIVER: &str = include_str!("../../../kernelspec/packages.py");

/// The most that is kept of what a step prints, in bytes.
const LONGEST_OUTPUT: usize = 1 << 20;

/// Settings of pip that lead to another place than the overlay.
pub const ELSEWHERE: &[&str] = &["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON"];
/// Settings of pip under which it installs into a folder. Nothing is installed into the environment, so one that is
/// managed by others is not touched.
pub const SETTINGS: &[(&str, &str)] = &[
    ("PIP_USER", "0"),
    ("PIP_REQUIRE_VIRTUALENV", "0"),
    ("PIP_BREAK_SYSTEM_PACKAGES", "1"),
];

/// What a step printed.
pub struct Said {
    /// Whether it did what it was told to.
    pub done: bool,
    pub stdout: String,
    pub stderr: String,
}

/// A Python that knows what fits it.
pub trait Interpreter: Debug + Send + Sync {
    /// Runs the [`DRIVER`] with these arguments, outside of any kernel, and passes its lines on. It may write in
    /// `folder`. Dropped, it is killed.
    fn run<'a>(
        &'a self,
        args: &'a [String],
        folder: &'a Path,
        line: Progress<'a>,
    ) -> BoxFuture<'a, Result<Said, PackagesError>>;
}

/// An interpreter, and the folder that it may write in.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) interpreter: Arc<dyn Interpreter>,
    pub(super) folder: PathBuf,
}

impl Asked {
    pub(super) async fn run(
        &self,
        args: &[String],
        line: Progress<'_>,
    ) -> Result<Said, PackagesError> {
        self.interpreter.run(args, &self.folder, line).await
    }
}

/// A Python of this machine.
#[derive(Debug)]
pub(super) struct Here {
    /// One that code cannot have changed; else the one that the packages are for, which is not executed.
    pub(super) python: Result<PathBuf, PathBuf>,
    /// Where the packages are of the Python that they are for, if that is another. They are read, and nothing of them is
    /// imported.
    pub(super) beside: Option<PathBuf>,
}

impl Interpreter for Here {
    fn run<'a>(
        &'a self,
        args: &'a [String],
        _: &'a Path,
        line: Progress<'a>,
    ) -> BoxFuture<'a, Result<Said, PackagesError>> {
        Box::pin(self.execute(args, line))
    }
}

impl Here {
    async fn execute(&self, args: &[String], line: Progress<'_>) -> Result<Said, PackagesError> {
        let python = self.python.as_ref().map_err(|python| {
            PackagesError::NoPython(format!(
                "code may have changed {}, so it is not started outside of a sandbox, and no other Python here is of \
                 its version. Install one (python3.X on PATH), or leave the environment: deactivate",
                python.display()
            ))
        })?;
        let beside = self.beside.as_ref();
        let beside = beside.map(|site| [OsStr::new("--beside"), site.as_os_str()]);
        let failed = |error: std::io::Error| {
            PackagesError::NoPython(format!("{} cannot be started: {error}", python.display()))
        };
        let mut command = Command::new(python);
        command
            .args(["-I", "-c", DRIVER])
            .args(beside.into_iter().flatten())
            .args(args)
            // A folder in which nobody puts modules.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .envs(SETTINGS.iter().copied());
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        if std::env::var_os("PIP_RETRIES").is_none() {
            command.env("PIP_RETRIES", "1");
        }
        let mut child = command.spawn().map_err(failed)?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr, status) = tokio::join!(
            async {
                match output {
                    Some(output) => collect(output, line).await,
                    None => String::new(),
                }
            },
            async {
                match errors {
                    Some(errors) => collect(errors, &mut |_| {}).await,
                    None => String::new(),
                }
            },
            child.wait()
        );
        Ok(Said {
            done: status.map_err(failed)?.success(),
            stdout,
            stderr,
        })
    }
}

/// Reads to the end and keeps the beginning.
pub async fn collect(source: impl AsyncRead + Unpin, line: Progress<'_>) -> String {
    let mut kept = String::new();
    let mut reader = BufReader::new(source);
    loop {
        let mut bytes = Vec::new();
        let mut piece = (&mut reader).take(LONGEST_OUTPUT as u64);
        match piece.read_until(b'\n', &mut bytes).await {
            Ok(1..) => {}
            // Whatever can be read no more has ended.
            Ok(0) | Err(_) => return kept,
        }
        let text = String::from_utf8_lossy(&bytes);
        line(text.trim_end());
        if kept.len() + text.len() <= LONGEST_OUTPUT {
            kept.push_str(&text);
        }
    }
}
