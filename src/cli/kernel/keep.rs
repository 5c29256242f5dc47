//! `heddle kernel keep`: holds a session's kernel while nobody is at it.
//!
//! It is a bridge like any other, with a socket folder of its own that only this user can enter and a key that only
//! this user can read; whoever comes back joins it as any client does.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::served::{Reader, Served, Whose, place};
use crate::bridge::{self, Conduct};
use crate::cli::error::{CliError, Exit};
use crate::cli::trust::Uses;
use crate::cli::{Global, KernelArgs, run, setup};
use crate::kernel::RunFolder;
use crate::session::whereabouts::{Note, Surroundings, Way};
use crate::session::{self, Workspace};

/// How often it is looked whether the session is still there.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct Keep {
    /// The session's id
    session: String,
    /// End when nothing was asked for so long
    #[arg(long, value_name = "SECONDS", value_parser = run::seconds)]
    idle: Duration,
    #[command(flatten)]
    kernel: KernelArgs,
}

impl Keep {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let reader = Reader::new(global, &self.kernel);
        let loaded = reader.read(Uses::PLAN, None)?;
        let sessions = setup::sessions(&loaded)?;
        let id = session::resolve(&sessions, &self.session)?;
        let workspace = sessions.workspace(&id)?;
        let folder = RunFolder::for_clients()?;
        let note = {
            let (workspace, file) = (workspace.clone(), folder.connection_file());
            move |known: &Surroundings| Note::of_file(&workspace, Way::Kept, &file, known)
        };
        let kept = Arc::new(Mutex::new(note(&Surroundings::default())?));
        let told = kept.clone();
        let tell = move |known: &Surroundings| {
            if let Ok(note) = note(known) {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = note;
            }
        };
        let conduct = Conduct {
            info: None,
            place: place(&reader),
            idle: Some(self.idle),
            // A session that is listed with a kernel has one.
            ends_with_kernel: true,
        };
        let mut terminate =
            signal(SignalKind::terminate()).map_err(CliError::io("signals cannot be watched"))?;
        let session = workspace.clone();
        let backing = Served::new(reader, Whose::Session(workspace)).telling(Arc::new(tell));
        announce(&folder.connection_file());
        let ended = async {
            tokio::select! {
                _ = terminate.recv() => {}
                () = removed(&session) => {}
            }
        };
        let served = bridge::serve(&folder.connection, Arc::new(backing), conduct, ended).await;
        drop(kept);
        served
            .map(|_| Exit::Done)
            .map_err(|error| CliError::Missing(error.to_string()))
    }
}

/// Waits until the session is no more, after which nobody could find its kernel.
async fn removed(session: &Workspace) {
    while session.folder().exists() && session.state().exists() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Says where it is. Whoever started us waits for this line.
pub(super) fn announce(connection_file: &Path) {
    println!("{}", connection_file.display());
    let _ = std::io::stdout().flush();
    // From here on nobody reads what is printed.
    if let Ok(nothing) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stderr(&nothing);
    }
}
