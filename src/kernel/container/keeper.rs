//! The keeper of a container: the heddle binary executed again, which makes what a container needs of this machine,
//! and unmakes it, whatever happens to Heddle.
//!
//! Standard input is the lifeline: its end means that the container is no longer needed, or that Heddle is gone. The
//! container is then removed, what was mounted for it unmounted, and its folder deleted.
//!
//! Frames for the container's first process come over it, too. The first says that the container has been made. From
//! then on the keeper holds the container's standard input, passes frames on and sends beats between them. It is in a
//! terminal session of its own, so that a Heddle that is stopped by job control is not silent.
//!
//! Standard output: a line, `ready` or what went wrong, and when the first frame has come another.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use bollard::container::AttachContainerResults;
use bollard::errors::Error as DockerError;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::frame::{Decoder, Kind, encode};
use super::init::{BEAT, SILENCE};
use super::lent::{self, Lent};
use super::{EngineProblem, Surroundings, engine};
use crate::isolation::resolve::{FileId, Granted};
use crate::isolation::supervisor::Heddle;

/// The hidden subcommand that makes the binary a keeper.
pub const SUBCOMMAND: &str = "keep-container";

/// How long the engine may take to remove a container.
const REMOVAL: Duration = Duration::from_secs(10);
/// How long one that does not answer is asked again and again.
const FROZEN: Duration = Duration::from_secs(60);
/// How long one that is gone is. Its containers may go on without it until their first processes have heard nothing for
/// a while; what is cleared up after them is cleared up after that.
const GONE: Duration = Duration::from_secs(SILENCE.as_secs() + 5);
const AGAIN: Duration = Duration::from_secs(1);

/// The most that is read at a time.
const CHUNK: usize = 64 << 10;

/// What a keeper is there for. Passed to it as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Duties {
    /// The engine's socket, and the version of its API that is spoken.
    pub(super) socket: PathBuf,
    pub(super) api: String,
    /// The container's name, decided before it is made.
    pub(super) container: String,
    /// The kernel's run folder.
    pub(super) folder: PathBuf,
    /// The user inside, where it is not Heddle's.
    pub(super) stranger: Option<u32>,
    /// Whether that user gets the folder.
    pub(super) shares_folder: bool,
    /// Files and folders of the host that are to belong to that user where it sees them.
    pub(super) lent: Vec<Granted>,
    /// Files that tell folders from others; they are removed once they have been seen inside, or here.
    pub(super) marks: Vec<PathBuf>,
    /// Folders that code can write to.
    pub(super) exposed: Vec<FileId>,
}

/// Runs the keeper: `keep-container DUTIES`. Returns the exit code of the process.
pub fn main(mut args: impl Iterator<Item = std::ffi::OsString>) -> i32 {
    let duties = args
        .next()
        .and_then(|json| serde_json::from_str::<Duties>(&json.to_string_lossy()).ok());
    let Some(duties) = duties else {
        eprintln!("heddle {SUBCOMMAND} is started by heddle itself and needs its duties");
        return 2;
    };
    ignore_signals();
    let heddle = Heddle::above();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string());
    let prepared = runtime.and_then(|runtime| Ok((runtime, duties.prepare()?)));
    say(prepared.as_ref().map(|_| "ready"));
    if let Ok((runtime, _)) = &prepared {
        runtime.block_on(async {
            duties.keep().await;
            duties.remove_container().await;
        });
    }
    drop(prepared);
    super::shown::remove(&duties.marks);
    lent::clear_up();
    heddle.clear_up();
    // A folder that is gone already is what was wanted.
    let _ = std::fs::remove_dir_all(&duties.folder);
    0
}

/// Tells Heddle, in a line.
fn say(said: Result<&str, &String>) {
    let line = said.unwrap_or_else(|reason| reason).replace('\n', " ");
    // Nobody to tell means that Heddle is gone, which the lifeline says too.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A keeper ends by its lifeline alone.
fn ignore_signals() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for kind in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: ignoring a signal runs no code of ours.
        let _ = unsafe { signal(kind, SigHandler::SigIgn) };
    }
}

impl Duties {
    fn prepare(&self) -> Result<Option<Lent>, String> {
        let Some(stranger) = self.stranger else {
            return Ok(None);
        };
        let give = |path: &Path| {
            std::os::unix::fs::lchown(path, Some(stranger), Some(stranger))
                .map_err(|error| format!("{} cannot be given away: {error}", path.display()))
        };
        if self.shares_folder {
            let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
            for entry in entries.flatten() {
                give(&entry.path())?;
            }
            give(&self.folder)?;
        }
        Lent::lend(&self.container, &self.lent, &self.exposed, stranger).map(Some)
    }

    /// Keeps the container going until the lifeline ends.
    async fn keep(&self) {
        let (frames, queue) = mpsc::unbounded_channel();
        tokio::select! {
            () = read_frames(frames) => {}
            () = self.pass_on(queue) => {}
        }
    }

    /// Passes frames on, and beats between them, for ever. A container that takes nothing, because it is paused, is
    /// waited for.
    async fn pass_on(&self, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
        if let Some(first) = queue.recv().await {
            let attached = self.attach().await;
            say(attached.as_ref().map(|_| "attached"));
            if let Ok(mut input) = attached {
                let mut beat = tokio::time::interval(BEAT);
                beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut frames = first;
                // Where it cannot be written to, the container has ended, or the engine.
                while input.write_all(&frames).await.is_ok() && input.flush().await.is_ok() {
                    frames = tokio::select! {
                        Some(frames) = queue.recv() => frames,
                        _ = beat.tick() => encode(Kind::Beat, 0, b""),
                    };
                }
            }
        }
        std::future::pending().await
    }

    /// The container's standard input, which ends with the keeper.
    async fn attach(&self) -> Result<Pin<Box<dyn AsyncWrite + Send>>, String> {
        let options = AttachContainerOptionsBuilder::default()
            .stream(true)
            .stdin(true);
        let docker = engine::client(&self.socket, &self.api)?;
        let attached = docker.attach_container(&self.container, Some(options.build()));
        match attached.await {
            Ok(AttachContainerResults { input, .. }) => Ok(input),
            Err(error) => Err(format!(
                "the container engine at {} refuses the container's standard input: {error}",
                self.socket.display()
            )),
        }
    }

    /// Has the container removed. One of an engine that does not come back in time is found by the next keeper, by its
    /// label.
    async fn remove_container(&self) {
        let begun = Instant::now();
        loop {
            let removal = tokio::time::timeout(REMOVAL, remove(&self.socket, &self.container));
            let patience = match removal.await {
                Ok(Ok(())) => return,
                Err(_) | Ok(Err(EngineProblem::NoAnswer { .. })) => FROZEN,
                Ok(Err(_)) => GONE,
            };
            if begun.elapsed() > patience {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Passes on what comes over the lifeline, until that ends. What is in the queue is bounded as it is in Heddle.
async fn read_frames(frames: mpsc::UnboundedSender<Vec<u8>>) {
    let Ok(mut lifeline) = lifeline() else {
        return;
    };
    let mut decoder = Decoder::default();
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = lifeline.read(&mut chunk).await {
        // Only whole ones, so that a beat never comes to lie within one.
        let mut whole = Vec::new();
        let fed = decoder.feed(&chunk[..count], |frame| {
            whole.extend(encode(frame.kind, frame.connection, frame.body));
            Ok(())
        });
        if fed.is_err() || !whole.is_empty() && frames.send(whole).is_err() {
            return;
        }
    }
}

fn lifeline() -> std::io::Result<pipe::Receiver> {
    use std::os::fd::AsFd;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
    pipe::Receiver::from_owned_fd(stdin)
}

/// Removes the container, waits until it is gone, and clears up behind Heddles that died together with their keepers.
///
/// # Errors
/// Why there is no engine to ask. What it refuses then cannot be helped.
async fn remove(socket: &Path, container: &str) -> Result<(), EngineProblem> {
    let surroundings = Surroundings {
        docker_host: Some(format!("unix://{}", socket.display())),
        ..Surroundings::default()
    };
    let engine = engine::find(&surroundings, engine::PATIENT).await?;
    let docker = &engine.docker;
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true);
    let removed = docker.remove_container(container, Some(options.build()));
    // The engine may be at it already.
    if let Err(DockerError::DockerResponseServerError {
        status_code: 409, ..
    }) = removed.await
    {
        let until = WaitContainerOptionsBuilder::default().condition("removed");
        docker
            .wait_container(container, Some(until.build()))
            .next()
            .await;
    }
    if let Ok(left) = super::owner::deserted(&engine).await {
        super::owner::remove(&engine, &left).await;
    }
    Ok(())
}
