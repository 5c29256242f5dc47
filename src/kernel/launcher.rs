//! How a kernel's process comes to run: the trait that every mode implements, and the local mode.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;

use super::packages::{Packages, PackagesError};
use super::{Choice, KernelError};
use crate::isolation::{Command, Exit, Signal, Supervised};

/// What a launcher is asked to start.
pub struct Launch {
    /// The command, its placeholders replaced.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    pub cwd: PathBuf,
    /// Files and folders of the host that the kernel's program is made of.
    pub program: Vec<PathBuf>,
    pub grants: Grants,
    /// The private folder with the connection file; the launcher's process removes it when the kernel has ended.
    pub folder: PathBuf,
}

/// A path of the host's that a kernel gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub path: PathBuf,
    pub writable: bool,
}

/// What an isolated kernel may use beside its working directory. A local one has whatever the user has.
#[derive(Clone, Debug, PartialEq)]
pub struct Grants {
    pub mounts: Vec<Mount>,
    pub network: bool,
    /// Bytes, of all of its processes together.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
    /// CPUs that may be used at a time, in a sandbox where the machine can limit that; 0 for all.
    pub cpus: f64,
    /// Bytes that stay free on each disk that it can write to.
    pub disk_free: u64,
}

impl Default for Grants {
    /// Nothing beside the working directory, and no limit on memory and disks.
    fn default() -> Grants {
        Grants {
            mounts: Vec::new(),
            network: false,
            memory: u64::MAX,
            processes: 512,
            cpus: 0.0,
            disk_free: 0,
        }
    }
}

/// A way to run kernels.
pub trait Launcher: Send + Sync {
    /// The mode's name, as in `--mode`.
    fn mode(&self) -> &'static str;

    /// Whether a kernel is kept to its [`Grants`].
    fn isolates(&self) -> bool {
        true
    }

    /// Starts the process; that it then fails is told by its [`exit`](Process::exit).
    fn launch(&self, launch: Launch) -> BoxFuture<'_, Result<Box<dyn Process>, KernelError>>;

    /// Who has to do something for a kernel to start, for people.
    fn waits_for(&self) -> String {
        "the kernel".into()
    }

    /// Where the kernel sees a run folder of ours.
    fn inside(&self, folder: &Path) -> PathBuf {
        folder.to_path_buf()
    }

    /// The kernel that comes with this way to run one; none where it runs any kernel of this machine.
    fn choice(&self) -> Option<Choice> {
        None
    }

    /// The packages that a project keeps for the kernel that comes with this; none where that is a Python of this
    /// machine.
    fn packages<'a>(
        &'a self,
        _project: Option<&'a Path>,
    ) -> Option<BoxFuture<'a, Result<Packages, PackagesError>>> {
        None
    }
}

/// A started kernel process. Dropping it ends the process and its descendants.
pub trait Process: Send + Sync {
    fn signal(&self, signal: Signal);
    /// Waits for the kernel's end.
    fn exit(&self) -> BoxFuture<'_, Exit>;
    /// Waits until everything that belongs to it is gone.
    fn ended(&self) -> BoxFuture<'_, ()>;
    /// The last of what the process itself printed.
    fn tail(&self) -> String;
    /// Is told once all sockets of the kernel are there and connected to.
    fn connected(&self) {}
}

/// Runs kernels as plain processes of the user: no isolation, and no process left behind.
pub struct Local {
    /// The heddle binary, executed again as the supervisor.
    pub supervisor: PathBuf,
}

impl Local {
    /// With this very program as the supervisor, which must be the heddle binary.
    pub fn new() -> Result<Local, KernelError> {
        std::env::current_exe()
            .map(|supervisor| Local { supervisor })
            .map_err(|error| KernelError::Launch(format!("cannot find the heddle binary: {error}")))
    }
}

impl Launcher for Local {
    fn mode(&self) -> &'static str {
        "local"
    }

    fn isolates(&self) -> bool {
        false
    }

    fn launch(&self, launch: Launch) -> BoxFuture<'_, Result<Box<dyn Process>, KernelError>> {
        let place = format!("{} in {}", self.supervisor.display(), launch.cwd.display());
        let command = Command {
            supervisor: self.supervisor.clone(),
            sandbox: String::new(),
            argv: launch.argv,
            env: launch.env,
            cwd: launch.cwd,
            folder: launch.folder,
        };
        let started = Supervised::spawn(command)
            .map(|process| Box::new(process) as Box<dyn Process>)
            .map_err(|error| KernelError::Launch(format!("{place}: {error}")));
        Box::pin(std::future::ready(started))
    }
}

impl Process for Supervised {
    fn signal(&self, signal: Signal) {
        Supervised::signal(self, signal);
    }
    fn exit(&self) -> BoxFuture<'_, Exit> {
        Box::pin(Supervised::exit(self))
    }
    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(Supervised::ended(self))
    }
    fn tail(&self) -> String {
        Supervised::tail(self)
    }
}
