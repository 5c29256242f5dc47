//! `heddle kernel share`: a bridge before the kernel of a session that runs at a terminal, for other clients.
//!
//! They get sockets and a key of the bridge's own: what a kernel has made inside a container is for us alone. The
//! terminal keeps its kernel; the bridge joins it, and ends with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::future::BoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::keep::announce;
use super::served::{Reader, Served, Whose};
use crate::bridge::{self, Backing, Conduct, Wish};
use crate::cli::error::{CliError, Exit};
use crate::cli::trust::Uses;
use crate::cli::{Global, KernelArgs, run, setup};
use crate::config::Loaded;
use crate::executor::{Executor, Limits, Places};
use crate::kernel::{Join, Kernel, RunFolder, Tap, connections};
use crate::session::conversation::Place;
use crate::session::whereabouts::{Note, Way, noted};
use crate::session::{self, Session, Workspace};

/// How long a kernel that runs may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked whether the session still has a kernel, and how many times in a row it has none before the
/// bridge ends: one that is restarted is away for a moment.
const LOOK: Duration = Duration::from_secs(1);
const MISSES: u32 = 3;

#[derive(Args)]
pub struct Share {
    /// The session's id
    session: String,
    /// End when nothing was asked for so long
    #[arg(long, value_name = "SECONDS", value_parser = run::seconds)]
    idle: Duration,
    #[command(flatten)]
    kernel: KernelArgs,
}

impl Share {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let reader = Reader::new(global, &self.kernel);
        let loaded = reader.read(Uses::SHARING, None)?;
        let limits = setup::limits(&loaded.settings);
        let sessions = setup::sessions(&loaded)?;
        let id = session::resolve(&sessions, &self.session)?;
        let workspace = sessions.workspace(&id)?;
        let folder = RunFolder::for_clients()?;
        let known = noted(&workspace, Way::Running).map(|found| found.surroundings);
        let known = known.unwrap_or_default();
        let _note = Note::of_file(&workspace, Way::Shared, &folder.connection_file(), &known)?;
        let conduct = Conduct {
            info: None,
            place: "the session".into(),
            idle: Some(self.idle),
            ends_with_kernel: false,
        };
        let mut terminate =
            signal(SignalKind::terminate()).map_err(CliError::io("signals cannot be watched"))?;
        let backing = Shared {
            served: Served::new(reader, Whose::Session(workspace.clone())),
            loaded,
            workspace: workspace.clone(),
            limits,
        };
        announce(&folder.connection_file());
        let ended = async {
            tokio::select! {
                _ = terminate.recv() => {}
                () = end_of(&workspace) => {}
            }
        };
        bridge::serve(&folder.connection, Arc::new(backing), conduct, ended)
            .await
            .map(|_| Exit::Done)
            .map_err(|error| CliError::Missing(error.to_string()))
    }
}

/// Waits until the session has no kernel any more.
async fn end_of(workspace: &Workspace) {
    let mut missed = 0;
    while missed < MISSES {
        tokio::time::sleep(LOOK).await;
        missed = match noted(workspace, Way::Running) {
            Some(_) => 0,
            None => missed + 1,
        };
    }
}

/// The kernel of a session that runs.
struct Shared {
    /// What the agent in its cells needs beside a kernel.
    served: Served,
    /// The settings as they were at first.
    loaded: Loaded,
    workspace: Workspace,
    limits: Limits,
}

impl Backing for Shared {
    fn start(
        &self,
        tap: Arc<dyn Tap>,
        _progress: mpsc::UnboundedSender<String>,
    ) -> BoxFuture<'static, Result<Executor, String>> {
        let found = noted(&self.workspace, Way::Running);
        let (cwd, limits) = (self.workspace.cwd(), self.limits);
        Box::pin(async move {
            let found = found.ok_or("the session has ended, and its kernel with it")?;
            let joined = join(&found.connection_file, cwd, tap).await;
            let kernel = joined.map_err(|error| error.to_string())?;
            let places = Places::default();
            Ok(Executor::over(kernel, places, limits))
        })
    }

    fn place(&self, wish: &Wish) -> Result<Place, String> {
        let found = noted(&self.workspace, Way::Running);
        let found = found.ok_or("the session has ended, and its kernel with it")?;
        let settled = &self.loaded.settings;
        self.served.place_in(settled, found.surroundings, wish)
    }

    fn session(&self) -> Result<Session, String> {
        self.served.session_in(&self.loaded)
    }
}

async fn join(
    file: &Path,
    cwd: PathBuf,
    tap: Arc<dyn Tap>,
) -> Result<Kernel, crate::kernel::KernelError> {
    let join = Join {
        connection_file: file.to_owned(),
        connection: connections::read(file)?,
        cwd,
        patience: PATIENCE,
    };
    Kernel::join_tapped(join, Some(tap)).await
}
