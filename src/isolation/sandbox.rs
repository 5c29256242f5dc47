//! The sandbox: a kernel in namespaces of its own, on a private root, without privileges.
//!
//! What is not mounted is not there: the host's files, sockets and processes are out of reach because they have no
//! name inside. [`enter`] turns the supervisor into process 1 of the new namespaces, so that its end, however it
//! comes, ends everything in them.

use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, fork};
use serde::{Deserialize, Serialize};

use super::{loopback, mounts};

/// The user inside, where Heddle itself runs as root: no account of the host should have this number.
pub const STRANGER: u32 = 65_533;

/// What a sandboxed kernel sees and may use. Passed to the supervisor as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
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

/// Moves the calling process into the sandbox. Returns in process 1 of the new namespaces; the calling process itself
/// stays outside, waits, and ends as process 1 ended.
///
/// Must be called while there is one thread.
///
/// # Errors
/// Which step the machine refuses.
pub(super) fn enter(sandbox: &Sandbox, run_folder: &std::path::Path) -> Result<(), String> {
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

/// Whether this machine can make a sandbox: makes one, with `supervisor`, for a moment.
///
/// # Errors
/// Which step it refuses.
pub fn probe(supervisor: &std::path::Path) -> Result<(), String> {
    use super::supervisor::{Report, SUBCOMMAND};
    use std::process::{Command, Stdio};

    let empty = Sandbox {
        read: Vec::new(),
        write: Vec::new(),
        network: false,
        memory: 1 << 20,
        processes: 64,
    };
    let failed = |error: std::io::Error| format!("the supervisor cannot be started: {error}");
    let sandbox = serde_json::to_string(&empty).map_err(|error| error.to_string())?;
    let mut child = Command::new(supervisor)
        .args([SUBCOMMAND, "", &sandbox, "/bin/true"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
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
