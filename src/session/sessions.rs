//! The sessions of a workspace: what is believed of them in the state folder, what code can write in the workspace.
//!
//! ```text
//! <state>/sessions/<id>/workspace      the workspace that the session belongs to
//!                       events.jsonl   its log, with a lock and notes beside it
//! <state>/notebooks/<name>             the session of a front end's kernel
//! <workspace>/sessions/<id>/cwd        the kernel's working directory
//!                           outputs    texts that were too long for a model
//! ```

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use super::{SessionError, SessionId, Workspace};
use crate::{folders, way};

/// The log of a session.
pub(super) const LOG: &str = "events.jsonl";
/// The workspace of a session, as the bytes of its path.
const WORKSPACE: &str = "workspace";
/// Bytes of a log in a workspace that are read. Code may have written it, and may have made it endless.
const LONGEST_UNPROTECTED: u64 = 1 << 30;

/// The sessions of one workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    state: PathBuf,
    root: PathBuf,
}

impl Sessions {
    /// Those of the workspace `root`, an absolute path, with what this user's state folder holds of them.
    ///
    /// # Errors
    /// [`SessionError::NoHome`]
    pub fn of(root: &Path) -> Result<Sessions, SessionError> {
        let state = folders::state().ok_or(SessionError::NoHome)?;
        Ok(Sessions::with_state(&state, root))
    }

    /// The same with another state folder.
    pub fn with_state(state: &Path, root: &Path) -> Sessions {
        Sessions {
            state: state.to_owned(),
            root: way::follow(root).end,
        }
    }

    /// The workspace, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the sessions of notebooks are noted.
    pub(super) fn notebooks(&self) -> PathBuf {
        self.state.join("notebooks")
    }

    /// Where session `id` is, whether it is there or not.
    pub fn place(&self, id: &SessionId) -> Workspace {
        Workspace::at(self.files().join(id.as_str()), self.kept(id))
    }

    /// The folder of an earlier session, ready for a kernel: what is missing inside is made again.
    ///
    /// # Errors
    /// [`SessionError::NotFound`], [`SessionError::Unprotected`], and what is wrong with the workspace.
    pub fn workspace(&self, id: &SessionId) -> Result<Workspace, SessionError> {
        if !self.has(id) {
            return Err(match self.unprotected_log(id) {
                Some(_) => SessionError::Unprotected { id: id.clone() },
                None => SessionError::NotFound {
                    text: id.to_string(),
                    workspace: self.root.clone(),
                },
            });
        }
        let workspace = self.place(id);
        workspace.complete()?;
        Ok(workspace)
    }

    /// Makes the folders of a new session.
    pub(super) fn make(&self, id: &SessionId) -> Result<Workspace, SessionError> {
        let workspace = self.place(id);
        workspace.complete()?;
        let kept = self.kept(id);
        make_durable(&kept)?;
        record(&kept, &self.root)?;
        Ok(workspace)
    }

    /// Whether this workspace has such a session, as far as the state folder says.
    pub(super) fn has(&self, id: &SessionId) -> bool {
        let kept = self.kept(id);
        kept.join(LOG).is_file() && self.is_of_this_workspace(&kept)
    }

    /// A workspace that was moved, with a link left in its old place, is the same.
    fn is_of_this_workspace(&self, kept: &Path) -> bool {
        recorded(kept).is_some_and(|root| root == self.root || way::follow(&root).end == self.root)
    }

    /// The ids in the state folder that belong to this workspace.
    pub(super) fn protected(&self) -> Result<Vec<SessionId>, SessionError> {
        let mut ids = ids_in(&self.state.join("sessions"))?;
        ids.retain(|id| self.has(id));
        Ok(ids)
    }

    /// The ids of sessions whose log lies in the workspace alone.
    pub(super) fn unprotected(&self) -> Result<Vec<SessionId>, SessionError> {
        let mut ids = self.ids_of_files()?;
        ids.retain(|id| !self.has(id) && self.unprotected_log(id).is_some());
        Ok(ids)
    }

    /// The names of sessions in the workspace, where code may have made any.
    fn ids_of_files(&self) -> Result<Vec<SessionId>, SessionError> {
        match is_folder(&self.files()) {
            true => ids_in(&self.files()),
            false => Ok(Vec::new()),
        }
    }

    /// The ids of sessions whose files are here, and whose log is believed, but was kept for a workspace that has them no
    /// more: this one, before it was moved.
    pub fn moved(&self) -> Result<Vec<SessionId>, SessionError> {
        let mut ids = self.ids_of_files()?;
        ids.retain(|id| {
            let before = recorded(&self.kept(id));
            let before = before.map(|root| root.join("sessions").join(id.as_str()));
            !self.has(id)
                && self.kept(id).join(LOG).is_file()
                && before.is_some_and(|before| fs::symlink_metadata(before).is_err())
        });
        Ok(ids)
    }

    /// Takes over a session that was [`moved`](Self::moved).
    ///
    /// # Errors
    /// Where that cannot be noted.
    pub fn adopt(&self, id: &SessionId) -> Result<(), SessionError> {
        record(&self.kept(id), &self.root)
    }

    /// The log that an earlier version has written into the workspace. Code may have put anything in its place: no link
    /// is followed, and only a file is read.
    pub(super) fn unprotected_log(&self, id: &SessionId) -> Option<File> {
        let folder = self.files().join(id.as_str());
        if !is_folder(&self.files()) || !is_folder(&folder) {
            return None;
        }
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(folder.join(LOG)).ok()?;
        let meta = file.metadata().ok()?;
        (meta.is_file() && meta.len() <= LONGEST_UNPROTECTED).then_some(file)
    }

    /// Copies the log of a session that lies in the workspace into the state folder, where it is believed from now on.
    ///
    /// # Errors
    /// [`SessionError::Exists`] where the state folder has a session of this id.
    pub fn import(&self, id: &SessionId) -> Result<(), SessionError> {
        let kept = self.kept(id);
        if fs::symlink_metadata(&kept).is_ok() {
            return Err(SessionError::Exists {
                id: id.clone(),
                workspace: recorded(&kept).unwrap_or_else(|| kept.clone()),
            });
        }
        let log = self.unprotected_log(id);
        let mut log = log.ok_or_else(|| SessionError::NotFound {
            text: id.to_string(),
            workspace: self.root.clone(),
        })?;
        let parent = self.state.join("sessions");
        make_durable(&parent)?;
        let failed = || SessionError::io("import the session into", &kept);
        // Only a whole copy gets the session's name.
        let staged = tempfile::Builder::new()
            .prefix(".import-")
            .tempdir_in(&parent)
            .map_err(failed())?;
        record(staged.path(), &self.root)?;
        let mut copied = || -> io::Result<()> {
            let mut options = File::options();
            let options = options.write(true).create_new(true).mode(0o600);
            let mut copy = options.open(staged.path().join(LOG))?;
            let mut bytes = io::Read::take(&mut log, LONGEST_UNPROTECTED);
            io::copy(&mut bytes, &mut copy)?;
            if let Ok(modified) = log.metadata().and_then(|meta| meta.modified()) {
                copy.set_modified(modified)?;
            }
            copy.sync_all()
        };
        copied().map_err(failed())?;
        sync(staged.path())?;
        fs::rename(staged.path(), &kept).map_err(failed())?;
        sync(&parent)
    }

    fn files(&self) -> PathBuf {
        self.root.join("sessions")
    }

    fn kept(&self, id: &SessionId) -> PathBuf {
        self.state.join("sessions").join(id.as_str())
    }
}

/// A folder, and no link to one.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// Folders in `folder` that are named like sessions.
fn ids_in(folder: &Path) -> Result<Vec<SessionId>, SessionError> {
    let failed = SessionError::io("read the sessions in", folder);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(ids.collect())
}

fn recorded(kept: &Path) -> Option<PathBuf> {
    let bytes = fs::read(kept.join(WORKSPACE)).ok()?;
    let path = PathBuf::from(OsString::from_vec(bytes));
    path.is_absolute().then_some(path)
}

fn record(kept: &Path, root: &Path) -> Result<(), SessionError> {
    let path = kept.join(WORKSPACE);
    let written = tempfile::NamedTempFile::new_in(kept).and_then(|mut file| {
        file.write_all(root.as_os_str().as_bytes())?;
        file.as_file().sync_all()?;
        Ok(file.persist(&path)?)
    });
    written.map_err(SessionError::io("write", &path))?;
    sync(kept)
}

/// Makes a folder, and those above it, so that a power cut does not take it back: its name is in the folder above, which
/// is synced.
pub(super) fn make_durable(folder: &Path) -> Result<(), SessionError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new("/"));
    make_durable(parent)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(SessionError::io("make the folder", folder)(error));
        }
        _ => {}
    }
    sync(parent)
}

/// Waits until the names in a folder are on the disk.
pub(super) fn sync(folder: &Path) -> Result<(), SessionError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    match synced {
        // Some file systems have no such call for folders.
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
            Err(SessionError::io("sync the folder", folder)(error))
        }
        _ => Ok(()),
    }
}
