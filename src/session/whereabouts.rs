//! Where a session's kernel can be found by others than the command that works in it, and what it is.

use std::io::Write;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SessionError, Sessions, Workspace};
use crate::protocol::ConnectionInfo;

/// A way to the session's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a kernel that goes on while nobody is at it.
    Kept,
    /// To a kernel that ends with the command that works in it. For no client but ours: the kernel has made its sockets,
    /// and may own the file beside them, which is why this is another.
    Running,
    /// To a bridge before that, which was made for other clients.
    Shared,
}

impl Way {
    /// The note, where no kernel can write. That of [`Way::Running`] is a connection file itself.
    fn file(self, workspace: &Workspace) -> PathBuf {
        workspace.state().join(match self {
            Way::Kept => "kept-kernel.json",
            Way::Running => "running-kernel.json",
            Way::Shared => "shared-kernel.json",
        })
    }
}

/// What a kernel is, for those who come to it later. Empty where it is not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Surroundings {
    /// The launcher's, as in `--mode`.
    pub mode: String,
    pub kernel: String,
    /// What the models are told of them.
    pub environment: String,
}

/// What a note says.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    pub connection_file: PathBuf,
    pub surroundings: Surroundings,
    /// Of the process that the kernel ends with.
    pub pid: i32,
}

/// The connection files of kernels that end with the commands which work in them, in all of these sessions.
pub fn running(sessions: &Sessions) -> Vec<PathBuf> {
    let ids = sessions.protected().unwrap_or_default();
    let notes = ids
        .iter()
        .filter_map(|id| noted(&sessions.place(id), Way::Running));
    notes.map(|note| note.connection_file).collect()
}

/// Says where the kernel is, for as long as this is kept.
pub struct Note {
    path: PathBuf,
    text: String,
}

impl Note {
    /// For [`Way::Kept`] and [`Way::Shared`].
    pub fn of_file(
        workspace: &Workspace,
        way: Way,
        connection_file: &Path,
        surroundings: &Surroundings,
    ) -> Result<Note, SessionError> {
        let file = Value::from(connection_file.to_string_lossy());
        let note = Map::from_iter([(FILE.to_owned(), file)]);
        Note::write(way.file(workspace), note, surroundings)
    }

    /// For [`Way::Running`].
    pub fn of_connection(
        workspace: &Workspace,
        connection: &ConnectionInfo,
        surroundings: &Surroundings,
    ) -> Result<Note, SessionError> {
        let note = serde_json::from_str(&connection.to_json()).unwrap_or_default();
        Note::write(Way::Running.file(workspace), note, surroundings)
    }

    fn write(
        path: PathBuf,
        mut note: Map<String, Value>,
        surroundings: &Surroundings,
    ) -> Result<Note, SessionError> {
        note.insert(PID.to_owned(), std::process::id().into());
        // One that is written anew is another, which the end of the one before does not remove.
        note.insert(
            "heddle_note".to_owned(),
            uuid::Uuid::new_v4().to_string().into(),
        );
        note.insert(SURROUNDINGS.to_owned(), serde_json::json!(surroundings));
        let text = Value::from(note).to_string();
        let failed = SessionError::io("note the session's kernel in", &path);
        let folder = path.parent().unwrap_or(Path::new("."));
        // Read by others meanwhile, so that it is there as a whole or not at all. It may hold a kernel's key.
        let written = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .tempfile_in(folder)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                Ok(file.persist(&path)?)
            });
        written.map_err(failed)?;
        Ok(Note { path, text })
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // Another may have been noted for the session since.
        if std::fs::read(&self.path).is_ok_and(|text| text == self.text.as_bytes()) {
            // A note without a kernel is noticed by whoever follows it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Fields of a note, beside those of a connection file.
const FILE: &str = "connection_file";
const PID: &str = "heddle_pid";
const SURROUNDINGS: &str = "heddle_surroundings";

/// What was noted. A kernel whose process was killed may have ended without a word; a note of such a one is removed.
pub fn noted(workspace: &Workspace, way: Way) -> Option<Whereabouts> {
    let path = way.file(workspace);
    let note: Map<String, Value> = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
    let pid = note.get(PID).and_then(Value::as_i64)?;
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let surroundings = note.get(SURROUNDINGS).cloned().unwrap_or_default();
    let connection_file = match way {
        Way::Running => path.clone(),
        Way::Kept | Way::Shared => note.get(FILE)?.as_str()?.into(),
    };
    if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) && way == Way::Running {
        let _ = std::fs::remove_file(&path);
        return None;
    }
    Some(Whereabouts {
        connection_file,
        surroundings: serde_json::from_value(surroundings).unwrap_or_default(),
        pid,
    })
}
