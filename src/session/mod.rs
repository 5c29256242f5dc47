//! One conversation: event log, workspace, resume, export to a notebook.
//!
//! The log is the truth of a session; everything else here is derived from it. It lies in the user's state folder, which
//! no kernel is given. In the workspace, next to those of TaskWeaver, are the files that code works with: they are
//! shown and handed on, and nothing is decided by them.

mod budget;
mod error;
mod id;
mod list;
mod lock;
mod log;
mod sessions;
mod workspace;

pub mod conversation;
pub mod export;
pub mod history;
pub mod notebooks;
pub mod whereabouts;

use crate::event::{Event, Level, Sink};

pub use error::SessionError;
pub use id::SessionId;
pub use list::{Summary, list, resolve};
pub use log::{Entry, Log, Replay};
pub use sessions::Sessions;
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
    /// Starts a new session.
    pub fn create(sessions: &Sessions) -> Result<Session, SessionError> {
        let id = SessionId::generate();
        let workspace = sessions.make(&id)?;
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
    pub fn open(sessions: &Sessions, id: &SessionId) -> Result<Session, SessionError> {
        let workspace = sessions.workspace(id)?;
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

/// Reads the events of a session, also of one that is in use, and of one whose log lies in the workspace: of that a warning
/// says so.
pub fn read(sessions: &Sessions, id: &SessionId) -> Result<Replay, SessionError> {
    if sessions.has(id) {
        return log::read(&sessions.place(id).log());
    }
    let path = sessions.place(id).folder().join(sessions::LOG);
    let log = sessions.unprotected_log(id);
    let log = log.ok_or_else(|| SessionError::NotFound {
        text: id.to_string(),
        workspace: sessions.root().to_owned(),
    })?;
    let mut replay = log::read_from(log, &path)?;
    let said = format!(
        "Session {id} was written where code could change it, in {}. If it is right: heddle session import {id}",
        sessions.root().display()
    );
    replay.warning = Some(match replay.warning {
        Some(warning) => format!("{said}\n{warning}"),
        None => said,
    });
    Ok(replay)
}

#[cfg(test)]
mod tests;
