//! The keeper of a container: the heddle binary executed again, which makes what a container needs of this machine,
//! and unmakes it, whatever happens to Heddle.
//!
//! Standard input is the lifeline: its end means that the container is no longer needed, or that Heddle is gone. The
//! container is then removed, what was mounted for it unmounted, and its folder deleted. That is not left to the
//! container's own lifeline, which code inside could cut.
//!
//! Standard output: one line, `ready` or what went wrong.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::query_parameters::{RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::{Surroundings, engine};

/// The hidden subcommand that makes the binary a keeper.
pub const SUBCOMMAND: &str = "keep-container";

/// How long the engine may take to remove a container.
const REMOVAL: Duration = Duration::from_secs(10);

/// What a keeper is there for. Passed to it as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Duties {
    /// The engine's socket.
    pub(super) socket: PathBuf,
    /// The container's name, decided before it is made.
    pub(super) container: String,
    /// The kernel's run folder.
    pub(super) folder: PathBuf,
    /// The user inside, where it is not Heddle's: it gets the folder.
    pub(super) stranger: Option<u32>,
    /// Folders of the host that are to belong to that user where it sees them.
    pub(super) mapped: Vec<Mapped>,
}

/// A folder of the host, and where it is mounted again through a map of owners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mapped {
    pub(super) source: PathBuf,
    /// An empty folder, or a name for one, that nothing but the mount is ever put into.
    pub(super) at: PathBuf,
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
    let prepared = duties.prepare();
    let said = match &prepared {
        Ok(()) => "ready".to_owned(),
        Err(reason) => reason.replace('\n', " "),
    };
    // Nobody to tell means that Heddle is gone, which the lifeline says too.
    let _ = writeln!(std::io::stdout(), "{said}");
    if prepared.is_ok() {
        ignore_terminal();
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        duties.remove_container();
    }
    duties.undo();
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
    fn prepare(&self) -> Result<(), String> {
        let Some(stranger) = self.stranger else {
            return Ok(());
        };
        let give = |path: &PathBuf| {
            std::os::unix::fs::lchown(path, Some(stranger), Some(stranger))
                .map_err(|error| format!("{} cannot be given away: {error}", path.display()))
        };
        for entry in std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
        {
            give(&entry.path())?;
        }
        give(&self.folder)?;
        for mapped in &self.mapped {
            mapped.mount(stranger).map_err(|error| {
                format!(
                    "Heddle runs as root here, and {} cannot be lent to the container's user: {error}. As an ordinary \
                     user it needs no lending; or use --mode sandbox",
                    mapped.source.display()
                )
            })?;
        }
        Ok(())
    }

    fn remove_container(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        if let Ok(runtime) = runtime {
            // An engine that does not answer has taken its containers with it, or will find this one by its label.
            let _ = runtime.block_on(async {
                tokio::time::timeout(REMOVAL, remove(&self.socket, &self.container)).await
            });
        }
    }

    fn undo(&self) {
        for mapped in self.mapped.iter().rev() {
            mapped.unmount();
        }
        // A folder that is gone already is what was wanted.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Mapped {
    #[cfg(target_os = "linux")]
    fn mount(&self, stranger: u32) -> std::io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(&self.source)?;
        match meta.is_dir() {
            true => private_folder(&self.at)?,
            false => {
                self.at.parent().map_or(Ok(()), private_folder)?;
                std::fs::File::create_new(&self.at)?;
            }
        }
        crate::isolation::bind_mapped(
            &self.source,
            &self.at,
            (meta.uid(), meta.gid()),
            (stranger.into(), stranger.into()),
        )
    }

    #[cfg(not(target_os = "linux"))]
    fn mount(&self, _: u32) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    /// Takes the mount away, and then what it was put on: never anything below it, which would be the user's.
    fn unmount(&self) {
        #[cfg(target_os = "linux")]
        {
            use nix::mount::{MntFlags, umount2};
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            if umount2(&self.at, flags).is_err() && !self.is_empty() {
                return;
            }
            let _ = match self.at.is_dir() {
                true => std::fs::remove_dir(&self.at),
                false if self.is_empty() => std::fs::remove_file(&self.at),
                false => Ok(()),
            };
            if let Some(parent) = self.at.parent() {
                let _ = std::fs::remove_dir(parent);
            }
        }
    }

    #[cfg(target_os = "linux")]
    fn is_empty(&self) -> bool {
        match std::fs::metadata(&self.at) {
            Ok(meta) if meta.is_file() => meta.len() == 0,
            Ok(_) => std::fs::read_dir(&self.at).is_ok_and(|mut entries| entries.next().is_none()),
            Err(_) => true,
        }
    }
}

/// Nobody but root is to get at lent folders by their second name.
#[cfg(target_os = "linux")]
fn private_folder(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
}

/// Removes the container, waits until it is gone, and clears up behind Heddles that died together with their keepers.
async fn remove(socket: &std::path::Path, container: &str) -> Option<()> {
    let surroundings = Surroundings {
        docker_host: Some(format!("unix://{}", socket.display())),
        ..Surroundings::default()
    };
    let engine = engine::find(&surroundings, engine::PATIENT).await.ok()?;
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
    let left = super::owner::leftovers(&engine).await.ok()?;
    super::owner::remove(&engine, &left).await;
    Some(())
}
