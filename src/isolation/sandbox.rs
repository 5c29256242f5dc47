//! The sandbox: a kernel in namespaces of its own, on a private root, without privileges.
//!
//! What is not mounted is not there: the host's files, sockets and processes are out of reach because they have no
//! name inside. [`enter`] turns the supervisor into process 1 of the new namespaces, so that its end, however it
//! comes, ends everything in them. At the lower level there are no namespaces, and Landlock and the filter of system
//! calls do it alone.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, fork};
use serde::{Deserialize, Serialize};

use super::level::Level;
use super::{landlock, loopback, mounts};

/// The user inside, where Heddle itself runs as root: no account of the host should have this number.
pub const STRANGER: u32 = 65_533;

/// What a sandboxed kernel sees and may use. Passed to the supervisor as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    pub level: Level,
    /// Files and folders of the host that are visible, and cannot be changed.
    pub read: Vec<PathBuf>,
    /// Folders of the host that can be written to: the workspace.
    pub write: Vec<PathBuf>,
    /// Whether the host's network is there.
    pub network: bool,
    /// Bytes that all processes and the private file systems may take together.
    pub memory: u64,
    /// Processes and threads.
    pub processes: u64,
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
/// and ends as process 1 ended. Must be called while there is one thread.
///
/// # Errors
/// Which step the machine refuses.
pub(super) fn enter(sandbox: &Sandbox, run_folder: &Path) -> Result<(), String> {
    match sandbox.level {
        Level::Namespaces => enter_namespaces(sandbox, run_folder),
        Level::Landlock(_) => prepare_lower(sandbox, run_folder),
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
    landlock::private_folders(run_folder)
        .iter()
        .try_for_each(|folder| std::fs::DirBuilder::new().mode(0o700).create(folder))
        .map_err(|error| format!("no folder for temporary files: {error}"))
}

fn enter_namespaces(sandbox: &Sandbox, run_folder: &Path) -> Result<(), String> {
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
    unshare(namespaces).map_err(|error| format!("namespaces are refused: {error}"))?;
    if identity == Identity::Same {
        map_user(uid, gid).map_err(|error| format!("the user cannot be mapped: {error}"))?;
    }
    // SAFETY: there is one thread, so the child may go on as any process does.
    match unsafe { fork() }.map_err(|error| format!("no process can be started: {error}"))? {
        ForkResult::Parent { child } => {
            let code = match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => code,
                _ => 1,
            };
            std::process::exit(code);
        }
        ForkResult::Child => {}
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
        .map_err(|error| format!("{} is not there inside: {error}", cwd.display()))
}

/// Maps the user to itself, so that files keep their owner on both sides, and nobody else.
fn map_user(uid: Uid, gid: Gid) -> std::io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}
