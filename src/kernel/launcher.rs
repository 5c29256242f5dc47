//! How a kernel's process comes to run: the trait that every mode implements, and the local mode.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;

use super::packages::{Packages, PackagesError};
use super::{Choice, KernelError};
use crate::isolation::resolve::Resolver;
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

/// A project that a kernel gets to see, read-only, its settings empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub path: PathBuf,
    /// A folder in it of which nothing is seen but what is granted by itself.
    pub hidden: Option<PathBuf>,
}

/// What an isolated kernel may use beside its working directory. A local one has whatever the user has.
#[derive(Clone, Debug, PartialEq)]
pub struct Grants {
    pub mounts: Vec<Mount>,
    pub project: Option<Project>,
    pub network: bool,
    /// Bytes, of all of its processes together.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
    /// CPUs that may be used at a time, in a sandbox where the machine can limit that; 0 for all.
    pub cpus: f64,
    /// Bytes that stay free on each disk that it can write to.
    pub disk_free: u64,
    /// Folders beside those that this kernel can write to in which code of other kernels may have written, such as the
    /// project's: no link below them is followed to what is mounted.
    pub exposed: Vec<PathBuf>,
    /// Whether code may change Git's configuration and hooks, which the person's own `git` executes.
    pub git_config: bool,
}

impl Grants {
    /// Folders of the host that code can write to where it works in `cwd`, that one first.
    pub fn written<'a>(&'a self, cwd: &'a Path) -> impl Iterator<Item = &'a Path> {
        let granted = self.mounts.iter().filter(|mount| mount.writable);
        std::iter::once(cwd).chain(granted.map(|mount| mount.path.as_path()))
    }

    /// Opens paths for a kernel that works in `cwd`: follows no link that code may have made.
    pub fn resolver(&self, cwd: &Path) -> Resolver {
        let exposed = self.exposed.iter().map(PathBuf::as_path);
        Resolver::new(self.written(cwd).chain(exposed))
    }
}

impl Default for Grants {
    /// Nothing beside the working directory, and no limit on memory and disks.
    fn default() -> Grants {
        Grants {
            mounts: Vec::new(),
            project: None,
            network: false,
            memory: u64::MAX,
            processes: 512,
            cpus: 0.0,
            disk_free: 0,
            exposed: Vec::new(),
            git_config: false,
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

    /// Whether it is made sure that a kernel sees what was opened for it at this path.
    fn shows_surely(&self, _path: &Path) -> bool {
        true
    }

    /// Whether code is kept from changing what other programs execute at the top of its folders.
    fn keeps_files(&self) -> bool {
        self.isolates()
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
        let cwd = match launch.grants.resolver(&launch.cwd).open_held(&launch.cwd) {
            Ok(opened) => opened.path,
            Err(error) => {
                let error = KernelError::Launch(error.to_string());
                return Box::pin(std::future::ready(Err(error)));
            }
        };
        let command = Command {
            supervisor: self.supervisor.clone(),
            sandbox: String::new(),
            argv: launch.argv,
            env: launch.env,
            cwd,
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
