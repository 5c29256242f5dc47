//! The event log of a session, `events.jsonl`: one event a line, only ever appended to.
//!
//! Each line is one `write`, and the end of a round is synced to the disk: a killed Heddle loses at most the event
//! it was writing, a power cut at most the round. A line is the event's object with one more field, `ts`: when it
//! was written (RFC 3339, UTC).
//!
//! Where the disk takes no more, the rest of the round is left out as a whole, and that is noted in a file beside the log
//! whose only byte is there from the beginning: changing it needs no space.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SessionError;
use super::lock::Lock;
use super::sessions::sync;
use crate::event::{Event, Level, Sink};

/// Longer lines are not read into memory; no event that Heddle writes comes near it.
const LONGEST_LINE: usize = 256 << 20;

/// What stands where events are missing.
const MISSING: &str =
    "Events of the request before are missing here: the log could not be written.";

/// An event log that is open for appending. While it is, no one else can open it so.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    /// The file's length as of the last whole line.
    len: u64,
    /// There may be a part of a line behind `len`.
    torn: bool,
    gap: Gap,
    error: Option<SessionError>,
    _lock: Lock,
}

impl Log {
    /// Opens the log at `path` (mode 0600), and makes it if there is none. A last line that was torn by a kill or a
    /// power cut is cut off; what was lost with it is told in the second value.
    pub fn open(path: &Path) -> Result<(Log, Option<String>), SessionError> {
        let lock = Lock::take(path)?;
        let failed = || SessionError::io("open the session log", path);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = options.open(path).map_err(failed())?;
        let gap = Gap::open(path).map_err(failed())?;
        // The end of a round syncs the file; its name is in the folder.
        sync(path.parent().unwrap_or(Path::new("/")))?;
        let mut log = Log {
            file,
            path: path.to_owned(),
            len: 0,
            torn: false,
            gap,
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
    /// After an error the log is as it was before, and takes no more of this round: the next one begins with a word on
    /// what is missing.
    ///
    /// # Errors
    /// The event could not be written, or belongs to a round of which one could not.
    pub fn append(&mut self, event: &Event) -> Result<(), SessionError> {
        if !event.is_durable() {
            return Ok(());
        }
        let begins = matches!(event, Event::User { .. });
        let written = match self.gap.why.filter(|_| !begins) {
            Some(why) => Err(io::Error::from_raw_os_error(why)),
            None if begins && self.gap.is_noted => self
                .write_event(&Event::Notice {
                    level: Level::Warning,
                    message: MISSING.to_owned(),
                })
                .and_then(|()| self.write_event(event)),
            None => self.write_event(event),
        };
        if let Err(error) = written {
            self.gap.note(&error);
            return Err(SessionError::io("write the session log", &self.path)(error));
        }
        if begins {
            self.gap.close();
        }
        match event {
            Event::Done { .. } => self
                .sync()
                .inspect_err(|_| self.gap.note(&io::ErrorKind::Other.into())),
            _ => Ok(()),
        }
    }

    fn write_event(&mut self, event: &Event) -> io::Result<()> {
        self.write_line(&Line {
            ts: Some(format!("{:.6}", Timestamp::now())),
            event,
        })
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

/// Whether the log lacks a part of its last round.
#[derive(Debug)]
pub(super) struct Gap {
    file: File,
    is_noted: bool,
    /// The operating system's number of the fault, where it came about in this process and the round still goes on.
    why: Option<i32>,
}

impl Gap {
    const NONE: &[u8] = b"-";
    const NOTED: &[u8] = b"!";

    fn path(log: &Path) -> PathBuf {
        log.with_file_name("gap")
    }

    fn open(log: &Path) -> io::Result<Gap> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(Gap::path(log))?;
        if file.metadata()?.len() == 0 {
            file.write_all_at(Gap::NONE, 0)?;
            file.sync_all()?;
        }
        Ok(Gap {
            file,
            is_noted: Gap::is_noted(log),
            why: None,
        })
    }

    /// Whether it is noted beside this log.
    pub(super) fn is_noted(log: &Path) -> bool {
        std::fs::read(Gap::path(log)).is_ok_and(|content| content == Gap::NOTED)
    }

    fn note(&mut self, error: &io::Error) {
        self.why = Some(error.raw_os_error().unwrap_or(nix::libc::EIO));
        if !self.is_noted {
            self.is_noted = self.file.write_all_at(Gap::NOTED, 0).is_ok();
            let _ = self.file.sync_data();
        }
    }

    fn close(&mut self) {
        self.why = None;
        if self.is_noted {
            self.is_noted = self.file.write_all_at(Gap::NONE, 0).is_err();
        }
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
    let file = File::open(path).map_err(SessionError::io("read the session log", path))?;
    read_from(file, path)
}

/// The same from a file that is open; `path` is for messages.
pub(super) fn read_from(file: File, path: &Path) -> Result<Replay, SessionError> {
    let mut replay = Replay::default();
    let (mut skipped, mut first) = (0u64, String::new());
    each_line(file, path, |number, line| {
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
    file: File,
    path: &Path,
    mut with: impl FnMut(u64, Option<&[u8]>),
) -> Result<(), SessionError> {
    let failed = || SessionError::io("read the session log", path);
    let mut reader = BufReader::new(file);
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
