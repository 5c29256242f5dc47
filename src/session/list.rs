//! The sessions of a workspace: listing them, and finding the one that a person means.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;

use super::log::each_line;
use super::workspace::{Workspace, sessions};
use super::{SessionError, SessionId};
use crate::event::Status;

/// How many ids an error names.
const NAMED: usize = 5;

/// A session in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub id: SessionId,
    /// When its first and its last event were written; none if it has no event.
    pub started: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// What it was first asked.
    pub first_message: Option<String>,
    /// Requests of the person.
    pub rounds: u64,
    /// Cells that were run to an end.
    pub cells: u64,
    /// How the last request ended; none if it was cut off, or is still running.
    pub status: Option<Status>,
}

/// The sessions of the workspace `root`, the most recently used first. Folders that are none of Heddle's sessions
/// are passed over, and so are sessions that cannot be read.
pub fn list(root: &Path) -> Result<Vec<Summary>, SessionError> {
    let ids = ids(root)?.into_iter();
    Ok(ids.filter_map(|id| summary(root, id).ok()).collect())
}

/// The session that `text` means: `last`, an id, or the beginning of one.
pub fn resolve(root: &Path, text: &str) -> Result<SessionId, SessionError> {
    let mut ids = ids(root)?;
    match text {
        "last" => ids.truncate(1),
        "" => ids.clear(),
        _ => ids.retain(|id| id.as_str().starts_with(text)),
    }
    match &ids[..] {
        [id] => Ok(id.clone()),
        [] => Err(SessionError::NotFound {
            text: text.chars().take(80).collect(),
            workspace: root.to_owned(),
        }),
        _ => Err(SessionError::Ambiguous {
            text: text.to_owned(),
            count: ids.len(),
            matches: ids.iter().take(NAMED).map(SessionId::to_string).collect(),
        }),
    }
}

/// The ids of all sessions, the most recently written first.
pub(super) fn ids(root: &Path) -> Result<Vec<SessionId>, SessionError> {
    let folder = sessions(root);
    let failed = SessionError::io("read the sessions in", &folder);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found: Vec<(SystemTime, SessionId)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|id: SessionId| {
            let log = fs::metadata(Workspace::at(root, &id).log()).ok()?;
            log.is_file().then_some((log.modified().ok()?, id))
        })
        .collect();
    found.sort_by(|one, other| other.cmp(one));
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// As much of an event as a summary needs.
#[derive(Deserialize)]
struct Peek {
    event: String,
    ts: Option<Timestamp>,
    message: Option<String>,
    status: Option<Status>,
}

fn summary(root: &Path, id: SessionId) -> Result<Summary, SessionError> {
    let path = Workspace::at(root, &id).log();
    let mut summary = Summary {
        id,
        started: None,
        last: None,
        first_message: None,
        rounds: 0,
        cells: 0,
        status: None,
    };
    each_line(&path, |_, line| {
        let peek = line.and_then(|line| serde_json::from_slice::<Peek>(line).ok());
        let Some(peek) = peek else { return };
        summary.started = summary.started.or(peek.ts);
        summary.last = peek.ts.or(summary.last);
        match peek.event.as_str() {
            "user" => {
                summary.rounds += 1;
                summary.status = None;
                summary.first_message = summary.first_message.take().or(peek.message);
            }
            "executed" => summary.cells += 1,
            "done" => summary.status = peek.status,
            _ => {}
        }
    })?;
    Ok(summary)
}
