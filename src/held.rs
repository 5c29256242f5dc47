//! A folder that is held open, so that what is written there goes there, wherever its name leads by then.

#[cfg(target_os = "linux")]
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) struct HeldFolder {
    #[cfg(target_os = "linux")]
    file: File,
    #[cfg(not(target_os = "linux"))]
    path: PathBuf,
}

impl HeldFolder {
    /// Opens the folder that `path` leads to now.
    ///
    /// # Errors
    /// There is none, or it is closed to this user.
    pub(crate) fn open(path: &Path) -> io::Result<HeldFolder> {
        let path = path.canonicalize()?;
        match path.is_dir() {
            true => Ok(HeldFolder {
                #[cfg(target_os = "linux")]
                file: File::open(&path)?,
                #[cfg(not(target_os = "linux"))]
                path,
            }),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// A name for the folder itself, for as long as this process holds it.
    #[cfg(target_os = "linux")]
    pub(crate) fn name(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Elsewhere a folder has no name but its path.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn name(&self) -> PathBuf {
        self.path.clone()
    }
}
