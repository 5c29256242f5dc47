//! The keeper of a container: the heddle binary executed again, which makes what a container needs of this machine,
//! and unmakes it, whatever happens to Heddle.
//!
//! Standard input is the lifeline: its end means that the container is no longer needed, or that Heddle is gone. The
//! container is then removed, what was mounted for it unmounted, and its folder deleted. That is not left to the
//! container's own lifeline, which code inside could cut.
//!
//! Standard output: one line, `ready` or what went wrong.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::query_parameters::{RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

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

/// What a keeper is there for. Passed to it as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Duties {
    /// The engine's socket.
    pub(super) socket: PathBuf,
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
    let heddle = Heddle::above();
    let prepared = duties.prepare();
    let said = match &prepared {
        Ok(_) => "ready".to_owned(),
        Err(reason) => reason.replace('\n', " "),
    };
    // Nobody to tell means that Heddle is gone, which the lifeline says too.
    let _ = writeln!(std::io::stdout(), "{said}");
    if prepared.is_ok() {
        ignore_terminal();
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        duties.remove_container();
    }
    drop(prepared);
    super::shown::remove(&duties.marks);
    lent::clear_up();
    heddle.clear_up();
    // A folder that is gone already is what was wanted.
    let _ = std::fs::remove_dir_all(&duties.folder);
    0
}

/// A keeper ends by its lifeline alone: whoever signals a whole group means the others in it.
fn ignore_terminal() {
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

    fn remove_container(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        if let Ok(runtime) = runtime {
            // An engine that is gone has taken its containers with it, or is asked for this one, which the next keeper
            // finds by its label.
            runtime.block_on(async {
                let until = tokio::time::Instant::now() + FROZEN;
                let removal =
                    || tokio::time::timeout(REMOVAL, remove(&self.socket, &self.container));
                while matches!(
                    removal().await,
                    Err(_) | Ok(Err(EngineProblem::NoAnswer { .. }))
                ) && tokio::time::Instant::now() < until
                {}
            });
        }
    }
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
