//! What can go wrong with a session's folder, log and files.

use std::io;
use std::path::{Path, PathBuf};

/// Why a session could not be opened, written, read or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
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
    /// Another process, or another part of this one, has the session open. `holder` says which.
    #[error(
        "the session in {} is in use by {holder}. Close it there, or start a new session",
        folder.display()
    )]
    Locked { folder: PathBuf, holder: String },
    /// A file or folder of the session could not be read or written.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
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
fn advice(error: &io::Error) -> &'static str {
    use io::ErrorKind::*;
    match error.kind() {
        StorageFull | QuotaExceeded => ". Free some space, or choose another workspace",
        PermissionDenied | ReadOnlyFilesystem | NotADirectory => {
            ". Choose a workspace that you can write to"
        }
        _ => "",
    }
}
