//! A session's kernel that goes on while nobody is at it: where to find it.

use std::path::{Path, PathBuf};

use super::{SessionError, Workspace};

/// In the session's folder: the path of the connection file.
const NAME: &str = "kept-kernel";

/// Says where the kernel is, for as long as this is kept.
pub struct Note {
    path: PathBuf,
    kernel: PathBuf,
}

impl Note {
    pub fn write(workspace: &Workspace, connection_file: &Path) -> Result<Note, SessionError> {
        let path = workspace.folder().join(NAME);
        let failed = SessionError::io("note the kept kernel in", &path);
        std::fs::write(&path, connection_file.as_os_str().as_encoded_bytes()).map_err(failed)?;
        Ok(Note {
            path,
            kernel: connection_file.to_owned(),
        })
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // Another may have been kept for the session since.
        if read(&self.path).as_ref() == Some(&self.kernel) {
            // A note without a kernel is noticed by whoever follows it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The connection file of the session's kept kernel. It may have ended since without a word.
pub fn noted(workspace: &Workspace) -> Option<PathBuf> {
    read(&workspace.folder().join(NAME)).filter(|path| path.is_file())
}

fn read(note: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let path = std::fs::read(note).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}
