//! A container that runs: its signals, its end and the reason for it, and its keeper.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as DockerError;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptionsBuilder, KillContainerOptionsBuilder};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Engine;
use super::frame::{Kind, encode};
use super::init::{BEAT, SILENCE, SILENT};
use super::keeper::{Duties, SUBCOMMAND};
use super::relay::{Plan, Relay};
use crate::isolation::{Exit, Signal};
use crate::kernel::KernelError;
use crate::kernel::launcher::Process;

/// How much of what the container prints is kept, for the message when it dies.
const TAIL: usize = 16 * 1024;
/// How long the engine may take to say how a container ended that has ended.
const OBITUARY: Duration = Duration::from_secs(3);
/// How long the engine may take to pass a signal on.
const ORDER: Duration = Duration::from_secs(5);
/// How long a container that was told to end may take to, as far as the engine says.
const END: Duration = Duration::from_secs(10);
/// How often the run folder is looked at, and what may be in it: sockets and a connection file take next to nothing.
const LOOK: Duration = Duration::from_secs(1);
const FOLDER_LIMIT: u64 = 1 << 20;

/// The keeper's process.
pub(super) struct Keeper {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// What keeps a container, and passes frames on to its first process. Dropping it has the container removed.
pub(super) enum Lifeline {
    Bare(#[expect(dead_code, reason = "held, not used")] ChildStdin),
    Relay(Relay),
}

impl Keeper {
    /// Starts it and waits until its preparations are done. The end of what is returned with it has the container
    /// removed.
    pub(super) async fn start(
        program: &Path,
        duties: &Duties,
    ) -> Result<(Keeper, ChildStdin), KernelError> {
        let failed = |reason: String| KernelError::Launch(reason);
        let duties = serde_json::to_string(duties).map_err(|error| failed(error.to_string()))?;
        let mut command = tokio::process::Command::new(program);
        // SAFETY: between fork and exec only setsid is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
        }
        let mut child = command
            .arg(SUBCOMMAND)
            .arg(duties)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(format!("{} cannot be started: {error}", program.display())))?;
        let (Some(lifeline), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("the container's keeper has no pipes".into()));
        };
        let output = BufReader::new(output);
        let mut keeper = Keeper { child, output };
        keeper.says("ready").await?;
        Ok((keeper, lifeline))
    }

    /// Tells it that the container has been made, and waits until it holds the container's standard input.
    pub(super) async fn attach(
        &mut self,
        mut lifeline: ChildStdin,
        plan: Option<Plan>,
    ) -> Result<Lifeline, KernelError> {
        let lifeline = match plan {
            Some(plan) => Lifeline::Relay(Relay::start(plan, Box::pin(lifeline))),
            None => {
                // One that does not take it says nothing either.
                let _ = lifeline.write_all(&encode(Kind::Beat, 0, b"")).await;
                Lifeline::Bare(lifeline)
            }
        };
        self.says("attached").await?;
        Ok(lifeline)
    }

    /// Waits for its next line, which is to be this one.
    async fn says(&mut self, expected: &str) -> Result<(), KernelError> {
        let mut line = String::new();
        let _ = self.output.read_line(&mut line).await;
        match line.trim() {
            line if line == expected => Ok(()),
            "" => Err(KernelError::Launch(
                "the container's keeper ended unexpectedly".into(),
            )),
            reason => Err(KernelError::Launch(reason.to_owned())),
        }
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits until everything is removed. Its lifeline has ended.
    async fn end(mut self) {
        let _ = tokio::time::timeout(OBITUARY + ORDER, self.child.wait()).await;
    }
}

/// A container that is about to be started.
pub(super) struct Made {
    pub(super) engine: Engine,
    pub(super) name: String,
    /// The image's name.
    pub(super) image: String,
    /// What it prints.
    pub(super) output: Output,
    pub(super) keeper: Keeper,
    pub(super) lifeline: Lifeline,
    /// The run folder.
    pub(super) folder: PathBuf,
    /// The limit, in bytes.
    pub(super) memory: u64,
    /// Files that are of no use once the kernel is ready.
    pub(super) marks: Vec<PathBuf>,
    /// Whether to close the run folder to the user inside once the sockets are there.
    pub(super) closes: bool,
}

/// A kernel in a container. Dropping it has the container removed.
pub(super) struct Running {
    orders: mpsc::UnboundedSender<Signal>,
    exit: watch::Receiver<Option<Exit>>,
    ended: watch::Receiver<bool>,
    tail: Arc<Mutex<VecDeque<u8>>>,
    folder: PathBuf,
    marks: Vec<PathBuf>,
    /// Heddle is root, and can close the run folder once the sockets are there.
    closes: bool,
}

impl Running {
    /// Watches over a container that was made and attached to, and is about to be started.
    pub(super) fn follow(made: Made) -> Running {
        let Made {
            engine,
            name,
            image,
            output,
            mut keeper,
            lifeline,
            folder,
            memory,
            marks,
            closes,
        } = made;
        let (orders, order_queue) = mpsc::unbounded_channel();
        let (exit_sender, exit) = watch::channel(None);
        let (ended_sender, ended) = watch::channel(false);
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let events = events(&engine, &name);
        let watcher = Watcher {
            engine,
            name,
            image,
            tail: tail.clone(),
            folder: folder.clone(),
            memory,
            seen: Seen::default(),
        };
        tokio::spawn(async move {
            let exit = watcher
                .until_exit(output, lifeline, events, order_queue, &mut keeper)
                .await;
            let answers = exit.is_ok();
            exit_sender.send_replace(Some(exit.unwrap_or_else(|unanswered| unanswered)));
            if answers {
                keeper.end().await;
            }
            ended_sender.send_replace(true);
        });
        Running {
            orders,
            exit,
            ended,
            tail,
            folder,
            marks,
            closes,
        }
    }
}

impl Process for Running {
    fn signal(&self, signal: Signal) {
        // After the end there is nobody to receive it, and nothing left to do.
        let _ = self.orders.send(signal);
    }

    fn exit(&self) -> BoxFuture<'_, Exit> {
        let mut exit = self.exit.clone();
        Box::pin(async move {
            let lost = || Exit::Because("was lost sight of".into());
            match exit.wait_for(Option::is_some).await {
                Ok(exit) => exit.clone().unwrap_or_else(lost),
                Err(_) => lost(),
            }
        })
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        let mut ended = self.ended.clone();
        Box::pin(async move {
            // An error means that the task that would tell has ended as well.
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }

    fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail.iter().copied().collect::<Vec<u8>>())
            .trim()
            .to_owned()
    }

    /// Takes the run folder from the kernel's user, who may go on using the sockets in it, and nothing more.
    fn connected(&self) {
        super::shown::remove(&self.marks);
        if self.closes {
            use std::os::unix::fs::PermissionsExt;
            // In this order nobody but root can open it in between. Where it fails, the folder's size is watched.
            let _ = std::os::unix::fs::lchown(&self.folder, Some(0), Some(0));
            let _ = std::fs::set_permissions(&self.folder, std::fs::Permissions::from_mode(0o711));
        }
    }
}

/// What the engine said about the container.
#[derive(Default)]
struct Seen {
    /// The exit code.
    died: Option<i32>,
    out_of_memory: bool,
    /// A signal that was sent through the engine.
    signalled: bool,
}

/// What the engine passes on of what a container prints.
type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, DockerError>> + Send>>;

type Events = BoxStream<'static, Result<EventMessage, DockerError>>;

struct Watcher {
    engine: Engine,
    name: String,
    image: String,
    tail: Arc<Mutex<VecDeque<u8>>>,
    folder: PathBuf,
    memory: u64,
    seen: Seen,
}

/// What the engine tells about a container: out of memory is told in no other way once it is gone.
fn events(engine: &Engine, name: &str) -> Events {
    let filters = HashMap::from([
        ("container", vec![name]),
        // Podman knows the first by its past alone.
        ("event", vec!["die", "died", "oom", "kill"]),
    ]);
    let options = EventsOptionsBuilder::default().filters(&filters).build();
    let docker = engine.docker.clone();
    docker.events(Some(options)).boxed()
}

impl Watcher {
    /// Passes orders on until the container has ended, and finds out why.
    ///
    /// # Errors
    /// The engine does not answer, so nothing is known of the container any more. Its keeper goes on asking.
    async fn until_exit(
        mut self,
        mut output: Output,
        mut lifeline: Lifeline,
        mut events: Events,
        mut orders: mpsc::UnboundedReceiver<Signal>,
        keeper: &mut Keeper,
    ) -> Result<Exit, Exit> {
        let mut look = tokio::time::interval(LOOK);
        // Until when the container must have ended, once it was told to.
        let mut ordered: Option<Instant> = None;
        let mut telling = true;
        loop {
            tokio::select! {
                chunk = output.next() => match chunk {
                    Some(Ok(LogOutput::StdOut { message })) if let Lifeline::Relay(relay) = &mut lifeline => {
                        if let Err(reason) = relay.take(&message, |printed| self.keep(printed)) {
                            self.pass_on(Signal::Kill).await;
                            return Ok(Exit::Because(format!("was ended because of its relay: {reason}")));
                        }
                    }
                    Some(Ok(chunk)) => self.keep(chunk.as_ref()),
                    // The container has ended, or the engine.
                    _ => break,
                },
                event = events.next(), if telling => match event {
                    Some(Ok(event)) => self.seen.note(&event),
                    _ => telling = false,
                },
                order = orders.recv() => match order {
                    Some(signal) => {
                        let answers = self.pass_on(signal).await;
                        if signal != Signal::Interrupt {
                            ordered.get_or_insert(Instant::now() + END);
                            if !answers {
                                return Err(self.unanswered());
                            }
                        }
                    }
                    None => return Ok(Exit::Because("was ended".into())),
                },
                () = at(ordered) => return Err(self.unanswered()),
                _ = look.tick() => if size(&self.folder) > FOLDER_LIMIT {
                    self.pass_on(Signal::Kill).await;
                    return Ok(Exit::Because(
                        "was ended because it filled the folder of its sockets".into(),
                    ));
                },
            }
        }
        let told = tokio::time::timeout(OBITUARY, async {
            while self.seen.died.is_none() {
                match events.next().await {
                    Some(Ok(event)) => self.seen.note(&event),
                    _ => break,
                }
            }
        });
        let _ = told.await;
        if let Lifeline::Relay(relay) = lifeline {
            relay.finish().await;
        }
        self.exit(ordered.is_some(), keeper.has_ended()).await
    }

    fn unanswered(&self) -> Exit {
        Exit::Because(format!(
            "was told to end, but the container engine at {} does not answer",
            self.engine.socket.display()
        ))
    }

    /// How it ended.
    ///
    /// # Errors
    /// It may not have: the engine is gone.
    async fn exit(&self, ordered: bool, keeper_has_ended: bool) -> Result<Exit, Exit> {
        let alive = tokio::time::timeout(ORDER, self.engine.docker.ping()).await;
        if !matches!(alive, Ok(Ok(_))) && !ordered {
            return Err(Exit::Because(format!(
                "ended together with the container engine at {}, which has stopped (if that was killed, what runs in the \
                 container ends by itself within {} s)",
                self.engine.socket.display(),
                (SILENCE + BEAT).as_secs()
            )));
        }
        Ok(match self.seen.died {
            Some(SILENT) => Exit::Because(format!(
                "was ended because nothing was heard of Heddle in its container for {} s: the container engine at {} \
                 stood still",
                SILENCE.as_secs(),
                self.engine.socket.display()
            )),
            Some(0) if keeper_has_ended && !ordered => Exit::Lost,
            Some(code) if code != 0 && self.is_foreign() => Exit::NotStarted(format!(
                "the image {0} is made for another kind of processor than this machine's. Fetch the one for this \
                 machine: docker pull --platform linux/{1} {0}, or make one: heddle image build",
                self.image,
                match std::env::consts::ARCH {
                    "x86_64" => "amd64",
                    "aarch64" => "arm64",
                    other => other,
                }
            )),
            Some(137) if self.seen.out_of_memory => Exit::OutOfMemory(self.memory),
            Some(_) if self.seen.signalled && !ordered => Exit::Because(
                "was ended from outside: its container was stopped or removed through the engine"
                    .into(),
            ),
            Some(code @ 129..=192) => Exit::Signal(code - 128),
            Some(code) => Exit::Code(code),
            None => Exit::Because("ended, and the container engine does not say how".into()),
        })
    }

    /// Whether all that the container has said is that the processor cannot execute its first program.
    fn is_foreign(&self) -> bool {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<u8> = tail.iter().copied().collect();
        let said = String::from_utf8_lossy(&said);
        said.trim().lines().count() == 1 && said.trim().ends_with("exec format error")
    }

    /// Whether the engine answered, whatever it said: a container that has ended needs no signal.
    async fn pass_on(&self, signal: Signal) -> bool {
        let name = match signal {
            Signal::Interrupt => "SIGINT",
            Signal::Terminate => "SIGTERM",
            Signal::Kill => "SIGKILL",
        };
        let options = KillContainerOptionsBuilder::default().signal(name).build();
        let killed = self.engine.docker.kill_container(&self.name, Some(options));
        tokio::time::timeout(ORDER, killed).await.is_ok()
    }

    fn keep(&self, chunk: &[u8]) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(chunk);
        let excess = tail.len().saturating_sub(TAIL);
        tail.drain(..excess);
    }
}

impl Seen {
    fn note(&mut self, event: &EventMessage) {
        let attributes = event
            .actor
            .as_ref()
            .and_then(|actor| actor.attributes.as_ref());
        let code = || {
            let attributes = attributes?;
            let code = attributes
                .get("exitCode")
                .or(attributes.get("containerExitCode"))?;
            code.parse().ok()
        };
        match event.action.as_deref() {
            Some("die" | "died") => self.died = Some(code().unwrap_or(-1)),
            Some("oom") => self.out_of_memory = true,
            Some("kill") => self.signalled = true,
            _ => {}
        }
    }
}

/// Waits for a time; for ever where there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Bytes in a folder of files. What a kernel nests in folders below counts as too much.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| {
            if meta.is_dir() {
                FOLDER_LIMIT + 1
            } else {
                meta.len()
            }
        })
        .sum()
}
