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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::isolation::resolve::Resolver;

    /// Runs the first program of a container here, in a folder; it goes on to print `on`.
    fn first_program(cwd: &Path, shown: &Shown) -> String {
        let output = std::process::Command::new("python3")
            .args(["-c", include_str!("start.py"), ""])
            .arg(shown.to_argument())
            .args(["-c", "print('on')"])
            .current_dir(cwd)
            .output()
            .unwrap();
        let both = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&both).trim().to_owned()
    }

    #[test]
    fn what_is_put_in_the_place_of_a_mount_is_noticed_inside_before_any_code() {
        let base = tempfile::tempdir().unwrap();
        let (folder, before) = (base.path().join("data"), base.path().join("before"));
        std::fs::create_dir(&folder).unwrap();
        // Which would say that all is well.
        let code = "print('on'); import os; os._exit(0)";
        std::fs::write(base.path().join("json.py"), code).unwrap();
        let swap = || {
            std::fs::rename(&folder, &before).unwrap();
            std::fs::create_dir(&folder).unwrap();
        };
        let swap_back = || {
            std::fs::remove_dir(&folder).unwrap();
            std::fs::rename(&before, &folder).unwrap();
        };
        let opened = Resolver::new([base.path()]).open(&folder).unwrap();
        // On one kernel by numbers; where the boot is another's by a file.
        let by_numbers = Shown::of(std::iter::once(&opened), false);
        let by_mark = Shown {
            boot: "another".into(),
            ..Shown::of(std::iter::once(&opened), true)
        };
        for shown in [by_numbers, by_mark] {
            assert_eq!(first_program(base.path(), &shown), "on");
            swap();
            let said = first_program(base.path(), &shown);
            assert!(
                said.starts_with("the container shows something else"),
                "{said}"
            );
            swap_back();
            remove(&shown.marks());
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        // Made through what is open, wherever the name leads.
        swap();
        let marked = Shown::of(std::iter::once(&opened), true);
        assert_eq!(std::fs::read_dir(&before).unwrap().count(), 1);
        assert_eq!(marked.marks().len(), 1);
    }
}
