//! Heddle's handle on a supervisor and the kernel below it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::sync::{mpsc, watch};

use super::supervisor::{Report, SUBCOMMAND};

/// How much of what a kernel's process prints is kept, for the message when it dies.
const TAIL: usize = 16 * 1024;

/// What to run, and where. The environment is complete: nothing is inherited.
pub struct Command {
    /// The heddle binary, which becomes the supervisor.
    pub supervisor: PathBuf,
    /// What the kernel is confined to, as JSON; empty for nothing.
    pub sandbox: String,
    pub argv: Vec<String>,
    pub env: Vec<(OsString, OsString)>,
    pub cwd: PathBuf,
    /// Removed when the kernel has ended, however it ended.
    pub folder: PathBuf,
}

/// An order to a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT to the kernel's process group.
    Interrupt,
    /// SIGTERM to the kernel's process group.
    Terminate,
    /// SIGKILL to the kernel and all of its descendants.
    Kill,
}

impl Signal {
    fn to_byte(self) -> u8 {
        match self {
            Signal::Interrupt => b'i',
            Signal::Terminate => b't',
            Signal::Kill => b'k',
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Signal> {
        [Signal::Interrupt, Signal::Terminate, Signal::Kill]
            .into_iter()
            .find(|signal| signal.to_byte() == byte)
    }
}

/// How a kernel's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Its processes took more than this many bytes together, so it was ended.
    OutOfMemory(u64),
    /// It never ran, or its supervisor was lost.
    Unknown(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal(number) => {
                let name = nix::sys::signal::Signal::try_from(*number)
                    .map_or("unknown", |signal| signal.as_str());
                write!(f, "was killed by signal {number} ({name})")
            }
            Exit::OutOfMemory(limit) => write!(
                f,
                "ran out of memory: it took more than {} MiB. execution_service.memory allows more",
                limit >> 20
            ),
            Exit::Unknown(reason) => f.write_str(reason),
        }
    }
}

/// A running kernel process under its supervisor. Dropping it ends the kernel.
pub struct Supervised {
    orders: mpsc::UnboundedSender<Signal>,
    exit: watch::Receiver<Option<Exit>>,
    ended: watch::Receiver<bool>,
    tail: Arc<Mutex<VecDeque<u8>>>,
}

impl Supervised {
    /// Starts the supervisor; whether the kernel starts is told by [`exit`](Self::exit).
    pub fn spawn(command: Command) -> std::io::Result<Supervised> {
        let mut child = tokio::process::Command::new(&command.supervisor)
            .arg(SUBCOMMAND)
            .arg(&command.folder)
            .arg(&command.sandbox)
            .args(&command.argv)
            .env_clear()
            .envs(command.env)
            .current_dir(&command.cwd)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at the terminal is ours to act upon.
            .process_group(0)
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut lifeline), Some(reports), Some(output)) = pipes else {
            return Err(std::io::Error::other("the supervisor has no pipes"));
        };
        let (orders, mut order_queue) = mpsc::unbounded_channel::<Signal>();
        let (exit_sender, exit) = watch::channel(None);
        let (ended_sender, ended) = watch::channel(false);
        let tail = Arc::new(Mutex::new(VecDeque::new()));

        tokio::spawn(collect_tail(output, tail.clone()));
        tokio::spawn(async move {
            let orders = async {
                while let Some(order) = order_queue.recv().await {
                    if lifeline.write_all(&[order.to_byte()]).await.is_err() {
                        break;
                    }
                }
                // The handle is gone: so is the lifeline.
                drop(lifeline);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = orders => {}
                () = follow(child, reports, exit_sender) => {}
            }
            ended_sender.send_replace(true);
        });
        Ok(Supervised {
            orders,
            exit,
            ended,
            tail,
        })
    }

    /// Passes an order on. After the end there is nobody to receive it, and nothing left to do.
    pub fn signal(&self, signal: Signal) {
        let _ = self.orders.send(signal);
    }

    /// Waits for the kernel's process to end.
    pub async fn exit(&self) -> Exit {
        let mut exit = self.exit.clone();
        let lost = || Exit::Unknown("its supervisor was lost".into());
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_else(lost),
            Err(_) => lost(),
        }
    }

    /// Waits until the kernel, its descendants and its folder are gone.
    pub async fn ended(&self) {
        // An error means that the task that would tell has ended as well.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// The last of what the process printed to its standard output and error.
    pub fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail.iter().copied().collect::<Vec<u8>>())
            .trim()
            .to_owned()
    }
}

async fn follow(mut child: Child, reports: ChildStdout, exit: watch::Sender<Option<Exit>>) {
    let mut lines = BufReader::new(reports).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match Report::from_line(&line) {
            Some(Report::Exited(code)) => first(&exit, Exit::Code(code)),
            Some(Report::Signaled(signal)) => first(&exit, Exit::Signal(signal)),
            Some(Report::OutOfMemory(limit)) => first(&exit, Exit::OutOfMemory(limit)),
            Some(Report::Failed(reason)) => first(&exit, Exit::Unknown(reason)),
            Some(Report::Started(_)) | None => continue,
        };
    }
    first(
        &exit,
        Exit::Unknown("was ended together with its supervisor".into()),
    );
    // Reaped, or reaped by the runtime later.
    let _ = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
}

/// The first reason is the cause; the signal that follows it is the means.
fn first(exit: &watch::Sender<Option<Exit>>, reason: Exit) {
    exit.send_if_modified(|exit| {
        let new = exit.is_none();
        exit.get_or_insert(reason);
        new
    });
}

/// Keeps the last bytes. Ends with the pipe, which a descendant may hold for as long as the supervisor lets it live.
async fn collect_tail(mut output: ChildStderr, tail: Arc<Mutex<VecDeque<u8>>>) {
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = output.read(&mut chunk).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&chunk[..n]);
        let excess = tail.len().saturating_sub(TAIL);
        tail.drain(..excess);
    }
}
