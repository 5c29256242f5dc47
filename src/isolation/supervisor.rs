//! The supervisor: one small process between Heddle and each kernel, the heddle binary executed again.
//!
//! It holds the lifeline (its standard input, whose other end only its Heddle holds), passes signals on, reaps,
//! reports how the kernel ended, and leaves no descendant behind: as child subreaper it inherits also those that
//! called `setsid`. It is not inside the kernel's process, since there a cell can hold the GIL or close the descriptor.
//!
//! Standard input: one byte a command, see [`Signal`](super::Signal); its end means that Heddle is gone.
//! Standard output: one line a report, see [`Report`]. Standard error: what kernel and supervisor print.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

#[cfg(target_os = "linux")]
use super::cgroup::Cgroup;
#[cfg(target_os = "linux")]
use super::memory::Account;
use super::processes::descendants;
#[cfg(target_os = "linux")]
use super::processes::is_ending;

/// The hidden subcommand that makes the binary a supervisor.
pub const SUBCOMMAND: &str = "supervise";

/// Names the run folder to an unconfined kernel. A Heddle below it, such as one that is itself that kernel, has its own
/// run folders in there: it is killed together with what would remove them.
pub(crate) const ENCLOSING: &str = "HEDDLE_RUN_FOLDER";

/// Names to the supervisor where its Heddle makes links, and may leave one should it be killed.
pub(super) const MEETING_PLACES: &str = "HEDDLE_MEETING_PLACES";

/// How long descendants may take to end once the last of them was found; only a process stuck in the kernel takes longer.
const LAST_GASP: Duration = Duration::from_secs(5);

/// How often it is looked at what a sandbox takes.
const LOOK: Duration = Duration::from_millis(200);

/// What the supervisor says on its standard output.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// The kernel runs as this process.
    Started(i32),
    /// The kernel could not be started.
    Failed(String),
    /// The kernel has exited with this code.
    Exited(i32),
    /// The kernel was killed by this signal.
    Signaled(i32),
    /// The kernel is ended because its processes took more than this many bytes.
    OutOfMemory(u64),
    /// The kernel is ended because it filled the folder of its sockets.
    FolderFull,
    /// The kernel is ended, or has, as these words for people say.
    Because(String),
}

impl Report {
    /// One line, without its newline.
    pub fn to_line(&self) -> String {
        match self {
            Report::Started(pid) => format!("started {pid}"),
            Report::Failed(reason) => format!("failed {}", reason.replace('\n', " ")),
            Report::Exited(code) => format!("exited {code}"),
            Report::Signaled(signal) => format!("signaled {signal}"),
            Report::OutOfMemory(limit) => format!("memory {limit}"),
            Report::FolderFull => "folder full".to_owned(),
            Report::Because(reason) => format!("because {}", reason.replace('\n', " ")),
        }
    }

    /// Reads what [`to_line`](Self::to_line) wrote.
    pub fn from_line(line: &str) -> Option<Report> {
        let (word, rest) = line.split_once(' ')?;
        Some(match word {
            "started" => Report::Started(rest.parse().ok()?),
            "failed" => Report::Failed(rest.to_owned()),
            "exited" => Report::Exited(rest.parse().ok()?),
            "signaled" => Report::Signaled(rest.parse().ok()?),
            "memory" => Report::OutOfMemory(rest.parse().ok()?),
            "folder" => Report::FolderFull,
            "because" => Report::Because(rest.to_owned()),
            _ => return None,
        })
    }
}

/// Runs the supervisor: `supervise FOLDER SANDBOX PROGRAM ARGS…`. FOLDER is removed at the end; SANDBOX is JSON, or
/// empty for none. Returns the exit code of the process.
pub fn main(args: impl Iterator<Item = std::ffi::OsString>) -> i32 {
    let mut args = args;
    let (Some(folder), Some(sandbox), Some(program)) = (args.next(), args.next(), args.next())
    else {
        eprintln!(
            "heddle {SUBCOMMAND} is started by heddle itself and needs a folder, a sandbox and a program"
        );
        return 2;
    };
    let folder = PathBuf::from(folder);
    let heddle = Heddle::above();
    let mut command = Command::new(program);
    command.args(args).env_remove(MEETING_PLACES);
    if sandbox.is_empty() && !folder.as_os_str().is_empty() {
        command.env(ENCLOSING, &folder);
    }
    let (confinement, cgroup, folder) =
        match Confinement::begin(&sandbox.to_string_lossy(), &folder, &heddle) {
            Ok(begun) => begun,
            Err(reason) => {
                report(&Report::Failed(reason));
                remove(&folder);
                return 1;
            }
        };
    // One thread: the kernel is told of the death of the *thread* that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(supervise(command, confinement, &cgroup, &folder));
            heddle.clear_up();
            code
        }
        Err(error) => {
            report(&Report::Failed(format!(
                "the supervisor cannot run: {error}"
            )));
            1
        }
    }
}

/// The process that this one looks after a kernel for.
pub(crate) struct Heddle {
    process: Pid,
    meeting_places: PathBuf,
}

impl Heddle {
    /// The one that has started this process. To be called before it can have ended.
    pub(crate) fn above() -> Heddle {
        let named = std::env::var_os(MEETING_PLACES).map(PathBuf::from);
        Heddle {
            process: nix::unistd::getppid(),
            meeting_places: named.unwrap_or_else(crate::transport::meeting_places),
        }
    }

    /// Removes what it could not, if it was killed.
    pub(crate) fn clear_up(&self) {
        // Whose parent has ended has another.
        if nix::unistd::getppid() != self.process {
            let process = self.process.as_raw() as u32;
            crate::transport::remove_meeting_places(&self.meeting_places, process);
        }
    }
}

async fn supervise(
    mut command: Command,
    confinement: Confinement,
    cgroup: &Cgroup,
    folder: &Path,
) -> i32 {
    adopt_descendants();
    let streams = (
        signal(SignalKind::child()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
        signal(SignalKind::interrupt()),
        lifeline(),
    );
    let (Ok(mut child), Ok(mut term), Ok(mut hangup), Ok(mut interrupt), Ok(mut lifeline)) =
        streams
    else {
        report(&Report::Failed(
            "the supervisor cannot watch signals".into(),
        ));
        return 1;
    };
    let mut account = confinement.account(folder);
    let kernel = match start(&mut command, confinement) {
        Ok(pid) => pid,
        Err(error) => {
            report(&Report::Failed(format!(
                "{}: {error}",
                command.get_program().to_string_lossy()
            )));
            remove(folder);
            return 1;
        }
    };
    if account.is_some() {
        hide();
    }
    report(&Report::Started(kernel.as_raw()));
    cgroup.leave();

    let mut order = [0];
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick(), if account.is_some() => {
                cgroup.look(|| !is_ending(kernel));
                if let Some(excess) = account.as_mut().and_then(Account::excess) {
                    report(&excess);
                    break;
                }
            }
            _ = child.recv() => {
                let reaped = reap(kernel, cgroup);
                if reaped.nobody_left && !reaped.kernel_ended {
                    report(&Report::Because("has ended, and the machine did not say how".into()));
                }
                if reaped.nobody_left || reaped.kernel_ended { break }
            }
            read = lifeline.read(&mut order) => match (read, super::Signal::from_byte(order[0])) {
                (Ok(1), Some(super::Signal::Interrupt)) => to_group(kernel, Signal::SIGINT),
                (Ok(1), Some(super::Signal::Terminate)) => to_group(kernel, Signal::SIGTERM),
                // Kill, the end of the lifeline, or nonsense on it.
                _ => break,
            },
            // It ends by its lifeline alone: whoever signals a whole group, or logs out, means Heddle.
            _ = term.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    end_descendants(kernel, cgroup, &mut child).await;
    cgroup.remove();
    remove(folder);
    0
}

/// Elsewhere nothing is confined, and nothing counted.
#[cfg(not(target_os = "linux"))]
struct Account;

#[cfg(not(target_os = "linux"))]
#[derive(Default)]
struct Cgroup;

#[cfg(not(target_os = "linux"))]
impl Cgroup {
    fn leave(&self) {}
    fn remove(&self) {}
    fn look(&self, _: impl FnOnce() -> bool) {}
    fn exceeded(&self) -> Option<u64> {
        None
    }
}

#[cfg(not(target_os = "linux"))]
fn is_ending(_: Pid) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
impl Account {
    fn excess(&mut self) -> Option<Report> {
        None
    }
}

/// What the kernel's process is confined by.
#[derive(Default)]
struct Confinement {
    #[cfg(target_os = "linux")]
    sandbox: Option<(
        super::Sandbox,
        super::landlock::Rules,
        super::seccomp::Filter,
    )>,
}

impl Confinement {
    /// Moves this process into the sandbox, if one is asked for, where the folder may have another name.
    #[cfg(target_os = "linux")]
    fn begin(
        sandbox: &str,
        folder: &Path,
        heddle: &Heddle,
    ) -> Result<(Confinement, Cgroup, PathBuf), String> {
        if sandbox.is_empty() {
            return Ok((Confinement::default(), Cgroup::default(), folder.into()));
        }
        let sandbox: super::Sandbox =
            serde_json::from_str(sandbox).map_err(|error| format!("no sandbox: {error}"))?;
        let cgroup = Cgroup::enter(&sandbox.limits());
        let made = super::sandbox::enter(&sandbox, &cgroup, folder, heddle).and_then(|folder| {
            let rules = super::landlock::Rules::new(&sandbox, &folder)?;
            Ok((rules, folder))
        });
        match made {
            Ok((rules, folder)) => {
                let filter = super::seccomp::Filter::new(sandbox.level, std::process::id());
                let confinement = Confinement {
                    sandbox: Some((sandbox, rules, filter)),
                };
                Ok((confinement, cgroup, folder))
            }
            Err(reason) => {
                cgroup.leave();
                cgroup.remove();
                Err(format!("the sandbox cannot be made: {reason}"))
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn begin(
        sandbox: &str,
        folder: &Path,
        _: &Heddle,
    ) -> Result<(Confinement, Cgroup, PathBuf), String> {
        match sandbox.is_empty() {
            true => Ok((Confinement::default(), Cgroup, folder.into())),
            false => Err("there is a sandbox on Linux only".into()),
        }
    }

    /// What all of it may take together.
    fn account(&self, folder: &Path) -> Option<Account> {
        #[cfg(target_os = "linux")]
        return self
            .sandbox
            .as_ref()
            .map(|(sandbox, ..)| Account::new(sandbox, folder));
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Processes and threads that the machine's own limit is to allow: outside a user namespace it counts all of the
    /// user's.
    #[cfg(target_os = "linux")]
    fn processes(&self) -> u64 {
        match &self.sandbox {
            Some((sandbox, ..)) if sandbox.level < super::level::Level::Namespaces => sandbox
                .processes
                .saturating_add(super::processes::tasks_of_user()),
            Some((sandbox, ..)) => sandbox.processes,
            None => u64::MAX,
        }
    }

    /// Gives up in the kernel's process what it must not have. Called between fork and exec.
    #[cfg(target_os = "linux")]
    fn complete(&self, processes: u64) -> std::io::Result<()> {
        let Some((sandbox, rules, filter)) = &self.sandbox else {
            return Ok(());
        };
        super::privileges::offer()?;
        super::privileges::give_up(super::sandbox::Identity::here())?;
        super::privileges::limit(processes, sandbox.file_size)?;
        rules.enforce()?;
        filter.install()
    }
}

/// Standard input as an asynchronous pipe.
fn lifeline() -> std::io::Result<tokio::net::unix::pipe::Receiver> {
    use std::os::fd::AsFd;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
    tokio::net::unix::pipe::Receiver::from_owned_fd(stdin)
}

#[cfg(target_os = "linux")]
fn adopt_descendants() {
    // Fails on kernels before 3.4 only; then daemons of a kernel would go to init as they do everywhere else.
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

#[cfg(not(target_os = "linux"))]
fn adopt_descendants() {}

/// Closes what /proc shows of this process to others of its user, the kernel that it has started among them.
#[cfg(target_os = "linux")]
fn hide() {
    // Fails for no value that it knows.
    let _ = nix::sys::prctl::set_dumpable(false);
}

#[cfg(not(target_os = "linux"))]
fn hide() {}

/// Starts the kernel as the leader of a group of its own, without the lifeline and the report pipe.
fn start(command: &mut Command, confinement: Confinement) -> std::io::Result<Pid> {
    use std::os::fd::AsFd;
    let output = std::io::stderr().as_fd().try_clone_to_owned()?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    #[cfg(target_os = "linux")]
    {
        let supervisor = nix::unistd::getpid();
        let processes = confinement.processes();
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                confinement.complete(processes)?;
                // After the change of user, which would undo it.
                // The last resort, should a cell kill its supervisor.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                match nix::unistd::getppid() == supervisor {
                    true => Ok(()),
                    false => Err(std::io::Error::from(Errno::ESRCH)),
                }
            });
        }
    }
    Ok(Pid::from_raw(command.spawn()?.id() as i32))
}

/// What [`reap`] found.
struct Reaped {
    kernel_ended: bool,
    /// There is no child left, living or dead.
    nobody_left: bool,
}

/// Reaps whatever has ended and reports the kernel's end.
fn reap(kernel: Pid, cgroup: &Cgroup) -> Reaped {
    let mut reaped = Reaped {
        kernel_ended: false,
        nobody_left: false,
    };
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == kernel => {
                report(&Report::Exited(code));
                reaped.kernel_ended = true;
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == kernel => {
                report(&match cgroup.exceeded() {
                    Some(limit) if signal == Signal::SIGKILL => Report::OutOfMemory(limit),
                    _ => Report::Signaled(signal as i32),
                });
                reaped.kernel_ended = true;
            }
            Ok(WaitStatus::StillAlive) => return reaped,
            // No answer.
            Err(Errno::EINTR) => {}
            Err(error) => {
                reaped.nobody_left = error == Errno::ECHILD;
                return reaped;
            }
            Ok(_) => {}
        }
    }
}

fn to_group(kernel: Pid, signal: Signal) {
    // An error means that the group has ended, which the next SIGCHLD says.
    let _ = killpg(kernel, signal);
}

/// Kills the kernel's group and every descendant until none is left, reporting the kernel's end if that is new.
async fn end_descendants(kernel: Pid, cgroup: &Cgroup, child: &mut tokio::signal::unix::Signal) {
    let mut known = HashSet::new();
    let mut deadline = Instant::now() + LAST_GASP;
    while Instant::now() < deadline {
        // Killed one by one, processes that multiply would make room for their children, and be followed by them for
        // ever. Stopped, they take the room that there is.
        let all = loop {
            let found = descendants();
            let new = found.iter().filter(|pid| known.insert(**pid)).count();
            if new == 0 {
                break found;
            }
            found.iter().for_each(|pid| make_childless(*pid));
            deadline = Instant::now() + LAST_GASP;
        };
        to_group(kernel, Signal::SIGKILL);
        for pid in all {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if reap(kernel, cgroup).nobody_left {
            return;
        }
        // Every end is announced; the limit is for those that were born meanwhile and must be found anew.
        let _ = tokio::time::timeout(Duration::from_millis(20), child.recv()).await;
    }
}

/// Stops a process, and lets it make no other one should somebody let it go on.
fn make_childless(pid: Pid) {
    #[cfg(target_os = "linux")]
    {
        let none = nix::libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the limit outlives the call. An error means that the process has ended.
        unsafe {
            let resource = nix::libc::RLIMIT_NPROC;
            nix::libc::prlimit(pid.as_raw(), resource, &none, std::ptr::null_mut());
        }
    }
    let _ = kill(pid, Signal::SIGSTOP);
}

fn report(report: &Report) {
    // Nobody to report to means that Heddle is gone, which the lifeline says too.
    let _ = writeln!(std::io::stdout(), "{}", report.to_line());
}

fn remove(folder: &Path) {
    if !folder.as_os_str().is_empty() {
        // What cannot be removed now is found by the doctor.
        let _ = super::folder::remove(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_their_line() {
        for report in [
            Report::Started(7),
            Report::Failed("no such file".into()),
            Report::Exited(3),
            Report::Signaled(9),
            Report::OutOfMemory(1 << 30),
            Report::FolderFull,
            Report::Because("was ended: why".into()),
        ] {
            assert_eq!(Report::from_line(&report.to_line()), Some(report));
        }
        assert_eq!(Report::from_line("exited soon"), None);
    }
}
