//! The sandbox: a kernel in namespaces of its own, on a private root, without privileges.
//!
//! What is not mounted is not there: the host's files, sockets and processes are out of reach because they have no
//! name inside. [`enter`] turns the supervisor into process 1 of the new namespaces, so that its end, however it
//! comes, ends everything in them. At the lower level there are no namespaces, and Landlock and the filter of system
//! calls do it alone.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Gid, Pid, Uid};
use serde::{Deserialize, Serialize};

use super::cgroup::{Cgroup, Limits};
use super::kept::Kept;
use super::level::Level;
use super::processes::wait_for;
use super::resolve::{FileId, Granted, ResolveError, Resolver};
use super::supervisor::Heddle;
use super::{folder, landlock, loopback, mounts, privileges};

/// Where the run folder is inside, at the upper level: outside of the private file systems, all of which Landlock lets
/// the kernel write to.
pub const RUN_FOLDER: &str = "/run/heddle";

/// What a sandboxed kernel sees and may use. Passed to the supervisor as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    pub level: Level,
    /// Files and folders of the host that are visible, and cannot be changed.
    pub read: Vec<Granted>,
    /// Folders within those of which nothing is visible, but what is bound by itself.
    pub hide: Vec<PathBuf>,
    /// Folders of the host that can be written to, the working directory first.
    pub write: Vec<Granted>,
    /// Folders beside those that code of other kernels can have written to. No link below them, or below `write`, is
    /// followed.
    pub exposed: Vec<FileId>,
    /// Files and folders in `write` that cannot be changed, and are no links.
    pub keep: Kept,
    /// Whether the host's network is there.
    pub network: bool,
    /// Bytes that all processes and the private file systems may take together.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Bytes of the largest file.
    pub file_size: u64,
    /// CPUs that may be used at a time, where that can be limited; 0 for all.
    pub cpus: f64,
}

impl Sandbox {
    /// Opens paths as it was done when they were granted.
    pub(super) fn resolver(&self) -> Resolver {
        let written = self.write.iter().map(|granted| granted.id);
        Resolver::of_ids(written.chain(self.exposed.iter().copied()).collect())
    }

    /// Whether this process works where the kernel is to.
    fn check_working_directory(&self) -> Result<(), String> {
        let Some(cwd) = self.write.first() else {
            return Ok(());
        };
        let here = std::fs::metadata(".")
            .map_err(|error| format!("{} is not there inside: {error}", cwd.path.display()))?;
        match FileId::of(&here) == cwd.id {
            true => Ok(()),
            false => Err(ResolveError::Replaced {
                path: cwd.path.clone(),
            }
            .to_string()),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            memory: self.memory,
            processes: self.processes,
            cpus: self.cpus,
        }
    }
}

/// Who the kernel runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The user that started Heddle, in a user namespace that maps nobody else.
    Same,
    /// Heddle is root: a user that owns nothing.
    Stranger,
}

impl Identity {
    /// As this process must do it.
    pub fn here() -> Identity {
        match Uid::effective().is_root() {
            true => Identity::Stranger,
            false => Identity::Same,
        }
    }
}

/// Makes the sandbox around the calling process, which the kernel will be started from.
///
/// At the upper level it returns in process 1 of the new namespaces; the calling process itself stays outside, waits,
/// removes the run folder and the cgroup, and ends as process 1 ended. Must be called while there is one thread. Gives
/// the run folder by its name inside.
///
/// # Errors
/// Which step the machine refuses.
pub(super) fn enter(
    sandbox: &Sandbox,
    cgroup: &Cgroup,
    run_folder: &Path,
    heddle: &Heddle,
) -> Result<PathBuf, String> {
    match sandbox.level {
        Level::Namespaces => {
            enter_namespaces(sandbox, cgroup, run_folder, heddle).map(|()| RUN_FOLDER.into())
        }
        Level::Landlock(_) => prepare_lower(sandbox, run_folder).map(|()| run_folder.into()),
    }
}

/// The lower level, as an ordinary user only. Another user than root could not reach most workspaces and Pythons of
/// root's, which lie below closed folders; and root without any capability still owns, and may open to all, every file
/// of the machine.
fn prepare_lower(sandbox: &Sandbox, run_folder: &Path) -> Result<(), String> {
    if Uid::effective().is_root() {
        return Err(
            "Landlock does not keep root from changing the modes of the machine's files. Start Heddle as an ordinary \
             user, or allow namespaces (in a container: --cap-add SYS_ADMIN)"
                .into(),
        );
    }
    if sandbox.network {
        return Err(
            "the network cannot be given without the Unix sockets of other programs. \
             execution_service.network = false, or allow namespaces"
                .into(),
        );
    }
    sandbox.check_working_directory()?;
    landlock::private_folders(run_folder)
        .iter()
        .try_for_each(|folder| std::fs::DirBuilder::new().mode(0o700).create(folder))
        .map_err(|error| format!("no folder for temporary files: {error}"))
}

fn enter_namespaces(
    sandbox: &Sandbox,
    cgroup: &Cgroup,
    run_folder: &Path,
    heddle: &Heddle,
) -> Result<(), String> {
    let identity = Identity::here();
    let cwd = std::env::current_dir().map_err(|error| format!("no working directory: {error}"))?;
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if !sandbox.network {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    if identity == Identity::Same {
        namespaces |= CloneFlags::CLONE_NEWUSER;
    }
    let refused = |error| format!("namespaces are refused: {error}");
    // Whoever signals the process outside, such as a logout, means Heddle, whose end ends the lifeline inside.
    signals(SigHandler::SigIgn);
    if let Some(child) = fork_into(namespaces).map_err(refused)? {
        cgroup.leave();
        let code = match wait_for(child) {
            Ok(WaitStatus::Exited(_, code)) => code,
            _ => 1,
        };
        cgroup.remove();
        heddle.clear_up();
        // Inside it is a mount, which cannot be removed. What cannot be removed here is found by the doctor.
        let _ = folder::remove(run_folder);
        std::process::exit(code);
    }
    signals(SigHandler::SigDfl);
    if identity == Identity::Same {
        map_user(uid, gid).map_err(|error| format!("the user cannot be mapped: {error}"))?;
        privileges::share_watches();
    }
    // Should the process outside be killed, its other end of the lifeline is not: it is ours.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|error| format!("no death signal: {error}"))?;
    nix::unistd::sethostname("heddle").map_err(|error| format!("no host name: {error}"))?;
    if !sandbox.network {
        loopback::raise().map_err(|error| format!("no loopback device: {error}"))?;
    }
    mounts::private_root(sandbox, run_folder, identity)?;
    std::env::set_current_dir(&cwd)
        .map_err(|error| format!("{} is not there inside: {error}", cwd.display()))?;
    sandbox.check_working_directory()
}

/// What this process does about signals that are sent to whole groups.
fn signals(handler: SigHandler) {
    for kind in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: neither disposition runs code of ours.
        let _ = unsafe { signal(kind, handler) };
    }
}

/// Forks, the child into new namespaces. `None` in the child.
fn fork_into(namespaces: CloneFlags) -> nix::Result<Option<Pid>> {
    let flags = namespaces.bits() | libc::SIGCHLD;
    // SAFETY: without a stack of its own the child goes on as after a fork, which it may, since there is one thread.
    // The other arguments, whose order differs between architectures, are none.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match Errno::result(pid)? {
        0 => Ok(None),
        pid => Ok(Some(Pid::from_raw(pid as i32))),
    }
}

/// Maps the user to itself, so that files keep their owner on both sides, and nobody else.
fn map_user(uid: Uid, gid: Gid) -> std::io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}
