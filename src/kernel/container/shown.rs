//! What a container shows at its mounts, compared inside with what was opened here, before any other code runs: an engine
//! takes a path, and that may lead elsewhere by then.
//!
//! On one kernel device and inode say which folder it is. Where the engine's kernel is another, or the file system is one
//! that makes up its own numbers, a file of a random name that was made in what is open here must be seen there.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::Serialize;
use uuid::Uuid;

use crate::isolation::resolve::Opened;

/// What the first program inside is to find.
#[derive(Serialize)]
pub(super) struct Shown {
    /// Of this machine's kernel; empty where it is not known.
    boot: String,
    mounts: Vec<Expected>,
}

#[derive(Serialize)]
struct Expected {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// A file in it.
    mark: Option<String>,
}

impl Shown {
    /// With marks where numbers may not tell; which may be the case for all where the engine may be `apart`.
    pub(super) fn of<'a>(opened: impl Iterator<Item = &'a Opened>, apart: bool) -> Shown {
        let expected = |opened: &Opened| Expected {
            path: opened.path.clone(),
            device: opened.id.device,
            inode: opened.id.inode,
            mark: match apart || makes_up_numbers(&opened.path) {
                true => mark(opened),
                false => None,
            },
        };
        Shown {
            boot: boot(),
            mounts: opened.map(expected).collect(),
        }
    }

    /// Nothing to compare.
    pub(super) fn nothing() -> Shown {
        Shown {
            boot: String::new(),
            mounts: Vec::new(),
        }
    }

    pub(super) fn to_argument(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The files that were made.
    pub(super) fn marks(&self) -> Vec<PathBuf> {
        let mounts = self.mounts.iter();
        mounts
            .filter_map(|mount| Some(mount.path.join(mount.mark.as_ref()?)))
            .collect()
    }
}

/// Removes marks. One that is gone already is what was wanted.
pub(super) fn remove(marks: &[PathBuf]) {
    for mark in marks {
        let _ = std::fs::remove_file(mark);
    }
}

/// Whether nothing tells that a container shows the same here.
pub(super) fn cannot_be_compared(path: &Path, apart: bool) -> bool {
    (apart || makes_up_numbers(path)) && !(path.is_dir() && access(path, AccessFlags::W_OK).is_ok())
}

/// The number of this boot of this kernel.
fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.unwrap_or_default().trim().to_owned()
}

/// Makes a file where what is open is, whatever its path leads to by now.
fn mark(opened: &Opened) -> Option<String> {
    let name = format!(".heddle-{}", Uuid::new_v4().simple());
    #[cfg(target_os = "linux")]
    let folder = {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}", opened.file.as_raw_fd()))
    };
    #[cfg(not(target_os = "linux"))]
    let folder = opened.path.clone();
    let made = opened.metadata().is_dir() && std::fs::File::create_new(folder.join(&name)).is_ok();
    made.then_some(name)
}

/// Whether a file system is 9p or FUSE, which virtiofs is too.
#[cfg(target_os = "linux")]
fn makes_up_numbers(path: &Path) -> bool {
    use nix::sys::statfs::{FUSE_SUPER_MAGIC, FsType, statfs};
    const V9FS_MAGIC: FsType = FsType(0x0102_1997);
    statfs(path).is_ok_and(|it| [FUSE_SUPER_MAGIC, V9FS_MAGIC].contains(&it.filesystem_type()))
}

#[cfg(not(target_os = "linux"))]
fn makes_up_numbers(_: &Path) -> bool {
    true
}
