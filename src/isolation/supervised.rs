//! Heddle's handle on a supervisor and the kernel below it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::{mpsc, watch};

use super::supervisor::{MEETING_PLACES, Report, SUBCOMMAND};

/// How long a supervisor may take to end its kernel and itself. It is killed then, and the kernel dies with it.
const STUCK: Duration = Duration::from_secs(10);
/// How long what a kernel has printed may take to be read once everything has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
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
    /// It filled the folder of its sockets, which lies in the machine's memory, so it was ended.
    FolderFull,
    /// It never ran, for this reason.
    NotStarted(String),
    /// It was ended, and the text says why.
    Because(String),
    /// Its supervisor ended without a word, killed by somebody, and the kernel with it.
    Lost,
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
            Exit::Because(reason) => f.write_str(reason),
            Exit::FolderFull => f.write_str(
                "was ended: it filled the folder of its connection, where nothing but sockets belongs",
            ),
            Exit::NotStarted(reason) => write!(f, "could not be started: {reason}"),
            Exit::Lost => {
                f.write_str("was lost together with its supervisor, which somebody killed")
            }
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
            .env(MEETING_PLACES, crate::transport::meeting_places())
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

        let printed = collect_tail(output, tail.clone());
        tokio::spawn(async move {
            let orders = async {
                while let Some(order) = order_queue.recv().await {
                    let passed_on = lifeline.write_all(&[order.to_byte()]).await.is_ok();
                    if !passed_on || order == Signal::Kill {
                        break;
                    }
                }
                // After a kill there are no orders, and without the handle there is nobody to give one.
                drop(lifeline);
                tokio::time::sleep(STUCK).await;
            };
            let end = async {
                tokio::select! {
                    () = orders => {}
                    () = follow(reports, exit_sender) => {}
                }
                // It has ended, or is stuck. An error means that it was reaped already.
                let _ = child.kill().await;
            };
            let (mut end, mut printed) = (std::pin::pin!(end), std::pin::pin!(printed));
            tokio::select! {
                () = &mut end => drop(tokio::time::timeout(LAST_WORDS, printed).await),
                () = &mut printed => end.await,
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
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or(Exit::Lost),
            Err(_) => Exit::Lost,
        }
    }

    /// Waits until the kernel, its descendants and its folder are gone, and what it printed has been read.
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

/// Reads the supervisor's reports until it ends.
async fn follow(reports: ChildStdout, exit: watch::Sender<Option<Exit>>) {
    let mut lines = BufReader::new(reports).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match Report::from_line(&line) {
            Some(Report::Exited(code)) => first(&exit, Exit::Code(code)),
            Some(Report::Signaled(signal)) => first(&exit, Exit::Signal(signal)),
            Some(Report::OutOfMemory(limit)) => first(&exit, Exit::OutOfMemory(limit)),
            Some(Report::FolderFull) => first(&exit, Exit::FolderFull),
            Some(Report::Because(reason)) => first(&exit, Exit::Because(reason)),
            Some(Report::Failed(reason)) => first(&exit, Exit::NotStarted(reason)),
            Some(Report::Started(_)) | None => continue,
        };
    }
    first(&exit, Exit::Lost);
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
