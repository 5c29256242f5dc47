//! The sessions of a workspace: listing them, and finding the one that a person means.

use std::fs::File;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Deserialize;

use super::log::{Gap, each_line};
use super::sessions::Sessions;
use super::{SessionError, SessionId};
use crate::event::Status;

/// How many ids an error names.
const NAMED: usize = 5;

/// A session in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    pub id: SessionId,
    /// Whether its log lies where no code can change it.
    pub protected: bool,
    /// When its first and its last event were written; none if it has no event.
    pub started: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// What it was first asked.
    pub first_message: Option<String>,
    /// Requests of the person.
    pub rounds: u64,
    /// Cells that were run to an end.
    pub cells: u64,
    /// How the last request ended; none if it was cut off, or is still running, or is not known.
    pub status: Option<Status>,
    /// Whether the log could not be written in the last request, so that it lacks events.
    pub incomplete: bool,
}

/// The sessions of a workspace, the most recently used first. Folders that are none of Heddle's sessions are passed over,
/// and so are sessions that cannot be read.
pub fn list(sessions: &Sessions) -> Result<Vec<Summary>, SessionError> {
    let found = found(sessions)?.into_iter();
    Ok(found.filter_map(|found| summary(sessions, found)).collect())
}

/// The session that `text` means: `last`, an id, or the beginning of one. One whose log code could change is meant only
/// where no other is.
pub fn resolve(sessions: &Sessions, text: &str) -> Result<SessionId, SessionError> {
    let all = found(sessions)?;
    let of = |protected: bool| {
        let of_kind = all.iter().filter(|found| found.protected == protected);
        let mut ids: Vec<SessionId> = of_kind.map(|found| found.id.clone()).collect();
        match text {
            "last" => ids.truncate(1),
            "" => ids.clear(),
            _ => ids.retain(|id| id.as_str().starts_with(text)),
        }
        ids
    };
    let ids = Some(of(true)).filter(|ids| !ids.is_empty());
    let ids = ids.unwrap_or_else(|| of(false));
    match &ids[..] {
        [id] => Ok(id.clone()),
        [] => Err(SessionError::NotFound {
            text: text.chars().take(80).collect(),
            workspace: sessions.root().to_owned(),
        }),
        _ => Err(SessionError::Ambiguous {
            text: text.to_owned(),
            count: ids.len(),
            matches: ids.iter().take(NAMED).map(SessionId::to_string).collect(),
        }),
    }
}

/// A session that has a log.
struct Found {
    id: SessionId,
    protected: bool,
    modified: SystemTime,
}

impl Found {
    fn open(sessions: &Sessions, id: &SessionId, protected: bool) -> Option<File> {
        match protected {
            true => File::open(sessions.place(id).log()).ok(),
            false => sessions.unprotected_log(id),
        }
    }
}

/// All sessions, the most recently written first.
fn found(sessions: &Sessions) -> Result<Vec<Found>, SessionError> {
    let looked_at = |id: SessionId, protected: bool| {
        let log = Found::open(sessions, &id, protected)?;
        Some(Found {
            modified: log.metadata().ok()?.modified().ok()?,
            id,
            protected,
        })
    };
    let protected = sessions.protected()?.into_iter();
    let unprotected = sessions.unprotected()?.into_iter();
    let mut found: Vec<Found> = protected
        .filter_map(|id| looked_at(id, true))
        .chain(unprotected.filter_map(|id| looked_at(id, false)))
        .collect();
    found.sort_by(|one, other| (other.modified, &other.id).cmp(&(one.modified, &one.id)));
    Ok(found)
}

/// As much of an event as a summary needs.
#[derive(Deserialize)]
struct Peek {
    event: String,
    ts: Option<Timestamp>,
    message: Option<String>,
    status: Option<Status>,
}

fn summary(sessions: &Sessions, found: Found) -> Option<Summary> {
    let log = Found::open(sessions, &found.id, found.protected)?;
    let path = sessions.place(&found.id).log();
    let mut summary = Summary {
        id: found.id,
        protected: found.protected,
        started: None,
        last: None,
        first_message: None,
        rounds: 0,
        cells: 0,
        status: None,
        incomplete: found.protected && Gap::is_noted(&path),
    };
    each_line(log, &path, |_, line| {
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
    })
    .ok()?;
    if summary.incomplete {
        // Whatever the end says, it is not known what came before it.
        summary.status = None;
    }
    Some(summary)
}
