//! One conversation: event log, workspace, resume, export to a notebook.
//!
//! The log is the truth of a session; everything else here is derived from it. A session lives in a folder of its
//! workspace, next to those of TaskWeaver, in the same layout.

mod budget;
mod error;
mod id;
mod list;
mod lock;
mod log;
mod workspace;

pub mod conversation;
pub mod export;
pub mod history;
pub mod notebooks;
pub mod whereabouts;

use std::path::Path;

use crate::event::{Event, Level, Sink};

pub use error::SessionError;
pub use id::SessionId;
pub use list::{Summary, list, resolve};
pub use log::{Entry, Log, Replay};
pub use workspace::Workspace;

/// A session that is open for going on: as a [`Sink`] it takes the events into its log.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    workspace: Workspace,
    log: Log,
    replay: Replay,
    notices: Vec<String>,
}

impl Session {
    /// Starts a new session in the workspace `root`.
    pub fn create(root: &Path) -> Result<Session, SessionError> {
        let id = SessionId::generate();
        let workspace = Workspace::create(root, &id)?;
        let (log, _) = Log::open(&workspace.log())?;
        Ok(Session {
            id,
            workspace,
            log,
            replay: Replay::default(),
            notices: Vec::new(),
        })
    }

    /// Opens an earlier session to go on with it.
    pub fn open(root: &Path, id: &SessionId) -> Result<Session, SessionError> {
        let workspace = Workspace::open(root, id)?;
        let (log, mended) = Log::open(&workspace.log())?;
        let mut replay = log::read(&workspace.log())?;
        let notices = mended.into_iter().chain(replay.warning.take()).collect();
        Ok(Session {
            id: id.clone(),
            workspace,
            log,
            replay,
            notices,
        })
    }

    pub fn id(&self) -> &SessionId {
        &self.id
    }

    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// What happened before this opening.
    pub fn earlier(&self) -> &Replay {
        &self.replay
    }

    /// What a person should know about the state in which the log was found, once.
    pub fn take_notices(&mut self) -> Vec<Event> {
        let notices = std::mem::take(&mut self.notices).into_iter();
        let level = Level::Warning;
        notices
            .map(|message| Event::Notice { level, message })
            .collect()
    }

    /// The log, for its errors: [`Log::append`] and [`Log::sync`] give them at once, [`Log::take_error`] later.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }
}

impl Sink for Session {
    fn emit(&mut self, event: Event) {
        self.log.emit(event);
    }
}

/// Reads the events of a session, also of one that is in use.
pub fn read(root: &Path, id: &SessionId) -> Result<Replay, SessionError> {
    let path = Workspace::at(root, id).log();
    if !path.is_file() {
        return Err(SessionError::NotFound {
            text: id.to_string(),
            workspace: root.to_owned(),
        });
    }
    log::read(&path)
}

#[cfg(test)]
mod tests;
