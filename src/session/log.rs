//! The event log of a session, `events.jsonl`: one event a line, only ever appended to.
//!
//! Each line is one `write`, and the end of a round is synced to the disk: a killed Heddle loses at most the event
//! it was writing, a power cut at most the round. A line is the event's object with one more field, `ts`: when it
//! was written (RFC 3339, UTC).

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SessionError;
use super::lock::Lock;
use crate::event::{Event, Sink};

/// Longer lines are not read into memory; no event that Heddle writes comes near it.
const LONGEST_LINE: usize = 256 << 20;

/// An event log that is open for appending. While it is, no one else can open it so.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    /// The file's length as of the last whole line.
    len: u64,
    /// There may be a part of a line behind `len`.
    torn: bool,
    error: Option<SessionError>,
    _lock: Lock,
}

impl Log {
    /// Opens the log at `path` (mode 0600), and makes it if there is none. A last line that was torn by a kill or a
    /// power cut is cut off; what was lost with it is told in the second value.
    pub fn open(path: &Path) -> Result<(Log, Option<String>), SessionError> {
        let lock = Lock::take(path)?;
        let failed = SessionError::io("open the session log", path);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = options.open(path).map_err(failed)?;
        let mut log = Log {
            file,
            path: path.to_owned(),
            len: 0,
            torn: false,
            error: None,
            _lock: lock,
        };
        let notice = log.mend();
        let notice = notice.map_err(SessionError::io("repair the session log", path))?;
        Ok((log, notice))
    }

    /// Makes the log end with a whole line.
    fn mend(&mut self) -> io::Result<Option<String>> {
        let end = self.file.seek(SeekFrom::End(0))?;
        self.len = end_of_last_line(&mut self.file, end)?;
        if self.len == end {
            return Ok(None);
        }
        self.file.seek(SeekFrom::Start(self.len))?;
        let mut rest = Vec::new();
        (&self.file)
            .take(LONGEST_LINE as u64)
            .read_to_end(&mut rest)?;
        if parse(&rest).is_ok() {
            // Whole, only its newline is missing.
            self.file.write_all(b"\n")?;
            self.len = end + 1;
            return Ok(None);
        }
        self.file.set_len(self.len)?;
        Ok(Some(format!(
            "The last event of this session was written only in part when Heddle ended; it was removed \
             ({} bytes).",
            end - self.len
        )))
    }

    /// Appends one event; what is shown but not kept ([`Event::is_durable`]) passes by. The end of a request is
    /// synced to the disk.
    ///
    /// After an error the log is as it was before, and the next call tries again.
    pub fn append(&mut self, event: &Event) -> Result<(), SessionError> {
        if !event.is_durable() {
            return Ok(());
        }
        let line = Line {
            ts: Some(format!("{:.6}", Timestamp::now())),
            event,
        };
        let written = self.write_line(&line);
        written.map_err(SessionError::io("write the session log", &self.path))?;
        match event {
            Event::Done { .. } => self.sync(),
            _ => Ok(()),
        }
    }

    fn write_line(&mut self, line: &Line<&Event>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        let written = self.file.write_all(&bytes);
        match written {
            Ok(()) => self.len += bytes.len() as u64,
            // On a disk that fills up a part of the line may have been written. If it cannot be cut off now, it is
            // before the next line.
            Err(_) => self.torn = self.file.set_len(self.len).is_err(),
        }
        written
    }

    /// Waits until everything appended is on the disk (`fdatasync`).
    pub fn sync(&self) -> Result<(), SessionError> {
        let synced = self.file.sync_data();
        synced.map_err(SessionError::io("sync the session log", &self.path))
    }

    /// The first error since this was last asked, of events that came through [`Sink`].
    pub fn take_error(&mut self) -> Option<SessionError> {
        self.error.take()
    }
}

/// For the fan-out of the event stream, which cannot stop for a full disk: the error waits in [`Log::take_error`].
impl Sink for Log {
    fn emit(&mut self, event: Event) {
        if let Err(error) = self.append(&event) {
            self.error.get_or_insert(error);
        }
    }
}

/// The place behind the last newline before `end`; 0 if there is none.
fn end_of_last_line(file: &mut File, end: u64) -> io::Result<u64> {
    let mut block = [0; 8192];
    let mut to = end;
    while to > 0 {
        let from = to.saturating_sub(block.len() as u64);
        let part = &mut block[..(to - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line<E> {
    ts: Option<String>,
    #[serde(flatten)]
    event: E,
}

fn parse(line: &[u8]) -> serde_json::Result<Entry> {
    let line: Line<Event> = serde_json::from_slice(line)?;
    Ok(Entry {
        ts: line.ts.and_then(|ts| ts.parse().ok()),
        event: line.event,
    })
}

/// An event of a log, and when it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub ts: Option<Timestamp>,
    pub event: Event,
}

/// What a log holds.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    pub entries: Vec<Entry>,
    /// What could not be read and is missing in `entries`, as a sentence for a person.
    pub warning: Option<String>,
}

impl Replay {
    /// The events alone.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.entries.iter().map(|entry| &entry.event)
    }
}

/// Reads a log, also one that is being written. Lines that are no event (of a newer version, or damaged) are left
/// out and counted in the warning.
pub fn read(path: &Path) -> Result<Replay, SessionError> {
    let mut replay = Replay::default();
    let (mut skipped, mut first) = (0u64, String::new());
    each_line(path, |number, line| {
        let entry = match line {
            Some(line) => parse(line).map_err(|error| error.to_string()),
            None => Err("it is too long".to_owned()),
        };
        match entry {
            Ok(entry) => replay.entries.push(entry),
            Err(reason) => {
                skipped += 1;
                if skipped == 1 {
                    first = format!("line {number}: {reason}");
                }
            }
        }
    })?;
    if skipped > 0 {
        replay.warning = Some(format!(
            "{skipped} line(s) of {} could not be read and are left out (first {first}).",
            path.display()
        ));
    }
    Ok(replay)
}

/// Calls `with` for each line of a log: its number, counting from 1, and its bytes, or `None` if it is too long to be
/// an event. An empty line is none.
pub(super) fn each_line(
    path: &Path,
    mut with: impl FnMut(u64, Option<&[u8]>),
) -> Result<(), SessionError> {
    let failed = || SessionError::io("read the session log", path);
    let mut reader = BufReader::new(File::open(path).map_err(failed())?);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LONGEST_LINE as u64);
        if limited.read_until(b'\n', &mut line).map_err(failed())? == 0 {
            return Ok(());
        }
        number += 1;
        if line.len() == LONGEST_LINE && !line.ends_with(b"\n") {
            reader.skip_until(b'\n').map_err(failed())?;
            with(number, None);
        } else if !line.trim_ascii().is_empty() {
            with(number, Some(&line));
        }
    }
}

#[cfg(test)]
mod tests;
