//! The sandbox mode: kernels in namespaces of their own, without Docker.

use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;

use super::KernelError;
use super::launcher::{Launch, Launcher, Process};
use crate::isolation::{Command, HOME, Sandbox, Supervised};

/// Variables that describe the user outside.
const INSIDE: &[(&str, &str)] = &[
    ("HOME", HOME),
    ("USER", "heddle"),
    ("LOGNAME", "heddle"),
    ("SHELL", "/bin/sh"),
];
/// Variables whose folders are not there inside.
const OUTSIDE: &[&str] = &["TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"];

/// Runs kernels in a sandbox.
pub struct Sandboxed {
    /// The heddle binary, executed again as the supervisor.
    pub supervisor: PathBuf,
}

impl Sandboxed {
    /// With this very program as the supervisor, which must be the heddle binary.
    ///
    /// # Errors
    /// Why this machine has no sandbox.
    pub fn new() -> Result<Sandboxed, String> {
        let supervisor = std::env::current_exe()
            .map_err(|error| format!("the heddle binary is not found: {error}"))?;
        Sandboxed::with(supervisor)
    }

    /// With another heddle binary as the supervisor.
    ///
    /// # Errors
    /// Why this machine has no sandbox.
    pub fn with(supervisor: PathBuf) -> Result<Sandboxed, String> {
        crate::isolation::probe(&supervisor)?;
        Ok(Sandboxed { supervisor })
    }

    fn sandbox(&self, launch: &Launch) -> Sandbox {
        let grants = &launch.grants;
        let granted = |writable| {
            let mounts = grants.mounts.iter();
            mounts
                .filter(move |mount| mount.writable == writable)
                .map(|mount| mount.path.clone())
        };
        // A folder that is bound already needs no second mount below itself.
        let mut read: Vec<PathBuf> = launch
            .program
            .iter()
            .cloned()
            .chain(granted(false))
            .collect();
        read.sort();
        read.dedup_by(|inner, outer| inner.starts_with(outer));
        read.retain(|path| path.exists() && !is_system(path));
        Sandbox {
            read,
            write: std::iter::once(launch.cwd.clone())
                .chain(granted(true))
                .collect(),
            network: grants.network,
            memory: grants.memory,
            processes: grants.processes,
        }
    }
}

/// Whether a path is among those that every sandbox has.
fn is_system(path: &Path) -> bool {
    [
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/nix/store",
    ]
    .iter()
    .any(|system| path.starts_with(system))
}

impl Launcher for Sandboxed {
    fn mode(&self) -> &'static str {
        "sandbox"
    }

    fn launch(&self, launch: Launch) -> BoxFuture<'_, Result<Box<dyn Process>, KernelError>> {
        let started = serde_json::to_string(&self.sandbox(&launch))
            .map_err(std::io::Error::from)
            .and_then(|sandbox| {
                let mut env = launch.env;
                env.retain(|(name, _)| !OUTSIDE.iter().any(|outside| name == outside));
                for (name, value) in INSIDE {
                    env.retain(|(given, _)| given != name);
                    env.push((name.into(), value.into()));
                }
                Supervised::spawn(Command {
                    supervisor: self.supervisor.clone(),
                    sandbox,
                    argv: launch.argv,
                    env,
                    cwd: launch.cwd,
                    folder: launch.folder,
                })
            })
            .map(|process| Box::new(process) as Box<dyn Process>)
            .map_err(|error| KernelError::Launch(error.to_string()));
        Box::pin(std::future::ready(started))
    }
}
