//! Where a notebook is written: settled before any code runs, so that no code can move it.
//!
//! Links of the person's are followed once, when the target is settled. What stands at the name later, such as a link
//! that a cell made there, is replaced and never followed.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Notebook, NotebookError};
use crate::held::HeldFolder;
use crate::open;

/// A place for a notebook.
pub struct Target {
    shown: PathBuf,
    place: Place,
}

enum Place {
    /// A name in a folder that is held open, and the mode of the file that has it now.
    Name {
        folder: HeldFolder,
        name: OsString,
        mode: Option<Permissions>,
    },
    /// A pipe or a device.
    Stream(File),
}

impl Target {
    /// Settles where `path` leads now.
    ///
    /// # Errors
    /// [`NotebookError::Write`] where nothing could be written there.
    pub fn settle(path: &Path) -> Result<Target, NotebookError> {
        let place = settle(path).map_err(|source| NotebookError::Write {
            path: path.to_owned(),
            source,
        })?;
        Ok(Target {
            shown: path.to_owned(),
            place,
        })
    }

    /// Writes the notebook: whole, or not at all.
    ///
    /// # Errors
    /// [`NotebookError::Write`]; what was there before is unchanged.
    pub fn save(&self, notebook: &Notebook) -> Result<(), NotebookError> {
        let saved = match &self.place {
            Place::Stream(file) => write(notebook, file),
            Place::Name { folder, name, mode } => {
                replace(notebook, &folder.name(), name, mode.as_ref())
            }
        };
        saved.map_err(|source| NotebookError::Write {
            path: self.shown.clone(),
            source,
        })
    }
}

fn settle(path: &Path) -> io::Result<Place> {
    let (path, mode) = match fs::metadata(path) {
        Ok(found) if found.is_file() => (path.canonicalize()?, Some(found.permissions())),
        Ok(_) => {
            return open::output(File::options().write(true), path).map(Place::Stream);
        }
        Err(_) => (path.to_owned(), None),
    };
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    Ok(Place::Name {
        folder: HeldFolder::open(folder)?,
        name: name.to_owned(),
        mode,
    })
}

fn replace(
    notebook: &Notebook,
    folder: &Path,
    name: &OsString,
    mode: Option<&Permissions>,
) -> io::Result<()> {
    let file = tempfile::Builder::new()
        .prefix(".heddle-")
        .suffix(".ipynb")
        // As any new file: the umask takes its part of it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    if let Some(mode) = mode {
        file.as_file().set_permissions(mode.clone())?;
    }
    write(notebook, file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(folder.join(name))?;
    Ok(())
}

fn write(notebook: &Notebook, file: &File) -> io::Result<()> {
    let mut writer = BufWriter::new(file);
    notebook.write_to(&mut writer)?;
    writer.flush()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_that_is_planted_later_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (out, precious) = (folder.path().join("out.ipynb"), folder.path().join("keys"));
        fs::write(&precious, "secret").unwrap();
        let target = Target::settle(&out).unwrap();
        symlink(&precious, &out).unwrap();
        target.save(&Notebook::new("python3", "Python 3")).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "secret");
        assert!(Notebook::read(&out).is_ok());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_is_swapped_for_a_link_is_written_to_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let (out, elsewhere) = (root.path().join("out"), root.path().join("elsewhere"));
        fs::create_dir(&out).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        let target = Target::settle(&out.join("a.ipynb")).unwrap();
        fs::rename(&out, root.path().join("moved")).unwrap();
        symlink(&elsewhere, &out).unwrap();
        target.save(&Notebook::new("python3", "Python 3")).unwrap();
        assert!(root.path().join("moved/a.ipynb").is_file());
        assert!(!elsewhere.join("a.ipynb").exists());
    }
}
