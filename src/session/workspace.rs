//! The folders of a session: the one in the workspace, with the kernel's working directory in it, and the one in the state
//! folder, with what is believed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use super::SessionError;
use super::sessions::LOG;
use crate::kernel::Mount;
use crate::printable::is_unprintable;

/// Where a session's files are. Folders have mode 0700.
#[derive(Clone, Debug)]
pub struct Workspace {
    folder: PathBuf,
    state: PathBuf,
}

impl Workspace {
    /// With the folder that code can write parts of, and the one for what is believed.
    pub(super) fn at(folder: PathBuf, state: PathBuf) -> Workspace {
        Workspace { folder, state }
    }

    /// The session's folder in the workspace. Nothing in it is believed.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The session's folder in the state folder, which no kernel is given: what Heddle believes later.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The kernel's working directory: the user's files and what the code leaves behind.
    pub fn cwd(&self) -> PathBuf {
        self.folder.join("cwd")
    }

    /// The full texts of outputs that were too long for the model.
    pub fn outputs(&self) -> PathBuf {
        self.folder.join("outputs")
    }

    /// The same, as a kernel sees it: its code can read again what was too long for the model, and not change it.
    pub fn outputs_mount(&self) -> Mount {
        Mount {
            path: self.outputs(),
            writable: false,
        }
    }

    /// The session's event log.
    pub fn log(&self) -> PathBuf {
        self.state.join(LOG)
    }

    /// Makes what is missing in the workspace.
    pub(super) fn complete(&self) -> Result<(), SessionError> {
        let sessions = self.folder.parent().unwrap_or(&self.folder);
        if let Some(root) = sessions.parent() {
            fs::create_dir_all(root).map_err(SessionError::io("make the folder", sessions))?;
        }
        make_plain(sessions, 0o777)?;
        for folder in [self.folder.clone(), self.cwd(), self.outputs()] {
            make_plain(&folder, 0o700)?;
        }
        Ok(())
    }

    /// Copies a file of the user's into the working directory and gives its name there.
    ///
    /// Nothing is overwritten: the copy of another file that has the same name gets a number (`data-2.csv`). A
    /// file with the same name and content is taken as that copy, and a file that is in the working directory
    /// already stays where it is.
    pub fn add_file(&self, path: &Path) -> Result<String, SessionError> {
        let cannot_read = || SessionError::io("read the file", path);
        // A pipe or device could wait, or give bytes, for ever; non-blocking is for the moment until it is known.
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let mut source = options.open(path).map_err(cannot_read())?;
        let kind = source.metadata().map_err(cannot_read())?;
        let refuse = |reason| SessionError::NotAFile {
            path: path.to_owned(),
            reason,
        };
        if kind.is_dir() {
            return Err(refuse("it is a folder. Name the files in it, one by one"));
        }
        if !kind.is_file() {
            return Err(refuse(
                "it is a pipe or a device. Save its content as a file first",
            ));
        }
        let cwd = self.cwd();
        if let (Ok(path), Ok(cwd)) = (path.canonicalize(), cwd.canonicalize())
            && let Ok(inside) = path.strip_prefix(cwd)
        {
            return Ok(inside.to_string_lossy().into_owned());
        }
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = name.to_string_lossy().replace(is_unprintable, "_");
        let (stem, extension) = match name.rfind('.') {
            Some(dot) if dot > 0 => name.split_at(dot),
            _ => (name.as_str(), ""),
        };
        let mut candidate = name.clone();
        for number in 2.. {
            let target = cwd.join(&candidate);
            match File::create_new(&target) {
                Ok(mut copy) => {
                    if let Err(fault) = io::copy(&mut source, &mut copy) {
                        // Half a file must not be taken for the file.
                        let _ = fs::remove_file(&target);
                        return Err(SessionError::io("copy the file to", &target)(fault));
                    }
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if same_content(path, &target).unwrap_or(false) {
                        break;
                    }
                    candidate = format!("{stem}-{number}{extension}");
                }
                Err(error) => return Err(SessionError::io("write the file", &target)(error)),
            }
        }
        Ok(candidate)
    }
}

/// Makes a folder where there is none. A link in its place is not followed.
fn make_plain(folder: &Path, mode: u32) -> Result<(), SessionError> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(SessionError::io("make the folder", folder)(error));
        }
        _ => {}
    }
    let meta = fs::symlink_metadata(folder).map_err(SessionError::io("use the folder", folder))?;
    if meta.is_symlink() {
        return Err(SessionError::Link {
            path: folder.to_owned(),
            target: fs::read_link(folder).unwrap_or_default(),
        });
    }
    match meta.is_dir() {
        true => Ok(()),
        false => Err(SessionError::io("use the folder", folder)(
            io::ErrorKind::NotADirectory.into(),
        )),
    }
}

/// Whether two files hold the same bytes. A link is never the same: what it points to may change, and the code in
/// the kernel may have put it there.
fn same_content(one: &Path, copy: &Path) -> io::Result<bool> {
    let mut options = File::options();
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let (one, copy) = (File::open(one)?, options.open(copy)?);
    if !copy.metadata()?.is_file() || one.metadata()?.len() != copy.metadata()?.len() {
        return Ok(false);
    }
    let mut others = BufReader::new(copy).bytes();
    for byte in BufReader::new(one).bytes() {
        if others.next().transpose()? != Some(byte?) {
            return Ok(false);
        }
    }
    Ok(others.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::session::{SessionId, Sessions};

    fn workspace() -> (tempfile::TempDir, Workspace) {
        let root = tempfile::tempdir().unwrap();
        let sessions = Sessions::with_state(&root.path().join("state"), &root.path().join("w"));
        let workspace = sessions.make(&SessionId::generate()).unwrap();
        (root, workspace)
    }

    #[test]
    fn folders_are_private() {
        let (_root, workspace) = workspace();
        for folder in [
            workspace.folder().to_owned(),
            workspace.state().to_owned(),
            workspace.cwd(),
            workspace.outputs(),
        ] {
            let mode = fs::metadata(&folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
        }
    }

    #[test]
    fn files_are_copied_under_names_of_their_own_and_never_twice() {
        let (root, workspace) = workspace();
        let write = |folder: &str, text: &str| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join("销售.tar.gz");
            fs::write(&path, text).unwrap();
            path
        };
        let (a, b) = (write("a", "one"), write("b", "two"));
        assert_eq!(workspace.add_file(&a).unwrap(), "销售.tar.gz");
        assert_eq!(workspace.add_file(&b).unwrap(), "销售.tar-2.gz");
        assert_eq!(workspace.add_file(&a).unwrap(), "销售.tar.gz");
        assert_eq!(workspace.add_file(&b).unwrap(), "销售.tar-2.gz");
        let inside = workspace.cwd().join("销售.tar-2.gz");
        assert_eq!(workspace.add_file(&inside).unwrap(), "销售.tar-2.gz");
        assert_eq!(fs::read_to_string(inside).unwrap(), "two");
        assert_eq!(fs::read_dir(workspace.cwd()).unwrap().count(), 2);
    }

    #[test]
    fn a_link_that_the_code_left_is_not_followed() {
        let (root, workspace) = workspace();
        let (mine, precious) = (root.path().join("data"), root.path().join("precious"));
        fs::write(&mine, "same").unwrap();
        fs::write(&precious, "same").unwrap();
        symlink(&precious, workspace.cwd().join("data")).unwrap();
        assert_eq!(workspace.add_file(&mine).unwrap(), "data-2");
        fs::write(&mine, "new").unwrap();
        assert_eq!(workspace.add_file(&mine).unwrap(), "data-3");
        assert_eq!(fs::read_to_string(precious).unwrap(), "same");
    }

    #[test]
    fn what_is_no_readable_file_is_refused_with_its_path() {
        let (root, workspace) = workspace();
        let pipe = root.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, words) in [
            (root.path().join("missing.csv"), "No such file"),
            (root.path().to_owned(), "is a folder"),
            (pipe, "is a pipe"),
            (PathBuf::from("/dev/zero"), "a device"),
            (PathBuf::from(""), "No such file"),
        ] {
            let message = workspace.add_file(&path).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
        assert_eq!(fs::read_dir(workspace.cwd()).unwrap().count(), 0);
    }

    #[test]
    fn a_workspace_that_cannot_be_made_is_an_error_with_path_and_way_out() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let sessions = Sessions::with_state(&root.path().join("state"), &file.join("workspace"));
        let fault = sessions.make(&SessionId::generate());
        let message = fault.unwrap_err().to_string();
        assert!(message.contains("file/workspace/sessions"), "{message}");
        assert!(message.contains("Choose a workspace"), "{message}");
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_is_refused_with_both_names() {
        let root = tempfile::tempdir().unwrap();
        let precious = root.path().join("precious");
        fs::create_dir(&precious).unwrap();
        let sessions = Sessions::with_state(&root.path().join("state"), &root.path().join("w"));
        let id = SessionId::generate();
        let workspace = sessions.make(&id).unwrap();
        for folder in [
            workspace.outputs(),
            workspace.cwd(),
            workspace.folder().to_owned(),
            sessions.root().join("sessions"),
        ] {
            fs::remove_dir_all(&folder).unwrap();
            symlink(&precious, &folder).unwrap();
            let message = workspace.complete().unwrap_err().to_string();
            for path in [&folder, &precious] {
                assert!(message.contains(path.to_str().unwrap()), "{message}");
            }
            fs::remove_file(&folder).unwrap();
            workspace.complete().unwrap();
        }
        assert_eq!(fs::read_dir(precious).unwrap().count(), 0);
    }
}
