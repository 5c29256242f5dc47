//! What can go wrong with a session's folder, log and files.

use std::io;
use std::path::{Path, PathBuf};

use super::SessionId;
use crate::folders;

/// Why a session could not be opened, written, read or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// There is nowhere to keep what is believed later.
    #[error("there is no home folder for the logs of sessions. Set HOME, or XDG_STATE_HOME")]
    NoHome,
    /// The text has not the form of a session's id.
    #[error(
        "{text:?} is not a session id: those look like YYYYMMDD-HHMMSS-8hex. See: heddle session list"
    )]
    BadId { text: String },
    /// No session of this workspace is meant by the text.
    #[error("no session {text:?} in {}. See: heddle session list", workspace.display())]
    NotFound { text: String, workspace: PathBuf },
    /// Several sessions begin with the text; `matches` names the newest of them.
    #[error("{text:?} fits {count} sessions: {}{}. Give more of the id", matches.join(", "), if *count > matches.len() { ", …" } else { "" })]
    Ambiguous {
        text: String,
        count: usize,
        matches: Vec<String>,
    },
    /// The session's log lies in the workspace, where earlier versions wrote it.
    #[error(
        "session {id} was written where code could change it, so it is shown and not gone on with. Look at it: heddle \
         session show {id}. If it is right: heddle session import {id}"
    )]
    Unprotected { id: SessionId },
    /// A session that is to be imported has a log in the state folder already.
    #[error("session {id} is there already, as a session of {}", workspace.display())]
    Exists { id: SessionId, workspace: PathBuf },
    /// A link stands where code can put one.
    #[error(
        "{} is a link to {}, and code could have put it there, so it is not followed. Put a folder in its place, or name \
         another workspace: workspace.workspace_path",
        path.display(),
        target.display()
    )]
    Link { path: PathBuf, target: PathBuf },
    /// Another process, or another part of this one, has the session open. `holder` says which.
    #[error(
        "the session in {} is in use by {holder}. Close it there, or start a new session",
        folder.display()
    )]
    Locked { folder: PathBuf, holder: String },
    /// A file or folder of the session could not be read or written.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source, path))]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A file that was to be handed over is none.
    #[error("cannot add {}: {reason}", path.display())]
    NotAFile { path: PathBuf, reason: &'static str },
}

impl SessionError {
    /// For `map_err`: what was being done, to which path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SessionError {
        move |source| SessionError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// What a person can do about it.
fn advice(error: &io::Error, path: &Path) -> &'static str {
    use io::ErrorKind::*;
    let of_state = folders::state().is_some_and(|state| path.starts_with(state));
    match (error.kind(), of_state) {
        (StorageFull | QuotaExceeded, true) => {
            ". Free some space, or set XDG_STATE_HOME to a folder on another disk"
        }
        (StorageFull | QuotaExceeded, false) => ". Free some space, or choose another workspace",
        (PermissionDenied | ReadOnlyFilesystem | NotADirectory, true) => {
            ". Set XDG_STATE_HOME to a folder that you can write to"
        }
        (PermissionDenied | ReadOnlyFilesystem | NotADirectory, false) => {
            ". Choose a workspace that you can write to"
        }
        _ => "",
    }
}
