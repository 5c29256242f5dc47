//! Where a session's kernel can be found by others than the command that works in it.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{SessionError, Workspace};
use crate::protocol::ConnectionInfo;

/// A connection file that leads to the session's kernel.
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
    /// In the session's folder: the path of the connection file, or that file itself.
    fn name(self) -> &'static str {
        match self {
            Way::Kept => "kept-kernel",
            Way::Running => "running-kernel.json",
            Way::Shared => "shared-kernel",
        }
    }
}

/// Says where the kernel is, for as long as this is kept.
pub struct Note {
    path: PathBuf,
    text: Vec<u8>,
}

impl Note {
    /// For [`Way::Kept`] and [`Way::Shared`].
    pub fn of_file(
        workspace: &Workspace,
        way: Way,
        connection_file: &Path,
    ) -> Result<Note, SessionError> {
        let text = connection_file.as_os_str().as_encoded_bytes();
        Note::write(workspace, way, text.to_vec())
    }

    /// For [`Way::Running`].
    pub fn of_connection(
        workspace: &Workspace,
        connection: &ConnectionInfo,
    ) -> Result<Note, SessionError> {
        Note::write(workspace, Way::Running, connection.to_json().into_bytes())
    }

    fn write(workspace: &Workspace, way: Way, text: Vec<u8>) -> Result<Note, SessionError> {
        let path = workspace.folder().join(way.name());
        let failed = SessionError::io("note the session's kernel in", &path);
        // That of an earlier one, which others may have opened.
        let _ = std::fs::remove_file(&path);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(&text))
            .map_err(failed)?;
        Ok(Note { path, text })
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // Another may have been noted for the session since.
        if std::fs::read(&self.path).is_ok_and(|text| text == self.text) {
            // A note without a kernel is noticed by whoever follows it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The connection file that was noted. The kernel may have ended since without a word.
pub fn noted(workspace: &Workspace, way: Way) -> Option<PathBuf> {
    let note = workspace.folder().join(way.name());
    let path = match way {
        Way::Running => note,
        Way::Kept | Way::Shared => PathBuf::from(OsString::from_vec(std::fs::read(note).ok()?)),
    };
    path.is_file().then_some(path)
}
