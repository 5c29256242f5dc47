//! The folder of a session: `<workspace>/sessions/<id>/`, with the kernel's working directory in it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use super::{SessionError, SessionId};
use crate::kernel::Mount;
use crate::printable::is_unprintable;

/// Where a session's files are. Folders have mode 0700.
#[derive(Clone, Debug)]
pub struct Workspace {
    folder: PathBuf,
}

impl Workspace {
    /// Makes the folder of a new session in the workspace `root`.
    pub fn create(root: &Path, id: &SessionId) -> Result<Workspace, SessionError> {
        let workspace = Workspace::at(root, id);
        let sessions = sessions(root);
        let failed = SessionError::io("make the folder", &sessions);
        fs::create_dir_all(&sessions).map_err(failed)?;
        make_private(&workspace.folder)?;
        workspace.complete()?;
        Ok(workspace)
    }

    /// The folder of an earlier session; what is missing inside is made again.
    pub fn open(root: &Path, id: &SessionId) -> Result<Workspace, SessionError> {
        let workspace = Workspace::at(root, id);
        if !workspace.log().is_file() {
            return Err(SessionError::NotFound {
                text: id.to_string(),
                workspace: root.to_owned(),
            });
        }
        workspace.complete()?;
        Ok(workspace)
    }

    /// The folder of session `id`, whether it is there or not.
    pub(super) fn at(root: &Path, id: &SessionId) -> Workspace {
        Workspace {
            folder: sessions(root).join(id.as_str()),
        }
    }

    /// The session's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The kernel's working directory: the user's files and what the code leaves behind.
    pub fn cwd(&self) -> PathBuf {
        self.folder.join("cwd")
    }

    /// For what belongs to the execution of code and not to the user.
    pub fn ces(&self) -> PathBuf {
        self.folder.join("ces")
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
        self.folder.join("events.jsonl")
    }

    fn complete(&self) -> Result<(), SessionError> {
        for folder in [self.cwd(), self.ces(), self.outputs()] {
            if !folder.is_dir() {
                make_private(&folder)?;
            }
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

/// Where the sessions of a workspace are.
pub(super) fn sessions(root: &Path) -> PathBuf {
    root.join("sessions")
}

fn make_private(folder: &Path) -> Result<(), SessionError> {
    let made = DirBuilder::new().mode(0o700).create(folder);
    made.map_err(SessionError::io("make the folder", folder))
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

    fn workspace() -> (tempfile::TempDir, Workspace) {
        let root = tempfile::tempdir().unwrap();
        let workspace = Workspace::create(root.path(), &SessionId::generate()).unwrap();
        (root, workspace)
    }

    #[test]
    fn folders_are_private() {
        let (_root, workspace) = workspace();
        for folder in [
            workspace.folder().to_owned(),
            workspace.cwd(),
            workspace.ces(),
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
        let fault = Workspace::create(&file.join("workspace"), &SessionId::generate());
        let message = fault.unwrap_err().to_string();
        assert!(message.contains("file/workspace/sessions"), "{message}");
        assert!(message.contains("Choose a workspace"), "{message}");
    }
}
