//! The disks that an isolated kernel writes to: it leaves some of each to everybody else.
//!
//! Its own file systems are in memory and limited with that. Its working directory and what it was given to write to are
//! the user's, on disks that no limit of a kernel's is on; so it is ended, like one that takes too much memory, when
//! little is left. No file of a sandboxed one can be larger than what it may take.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::launcher::Grants;

/// How often it is looked at what is left.
const LOOK: Duration = Duration::from_millis(500);

/// The part of all files that a disk can hold, as a divisor, which stays free.
const FILES_SHARE: u64 = 20;

/// The disks of one kernel; by default none is looked at.
#[derive(Default)]
pub(super) struct Disks {
    places: Vec<Place>,
}

struct Place {
    path: PathBuf,
    /// What has to stay free.
    reserve: Room,
}

/// What a disk has, or is to have.
#[derive(Clone, Copy)]
struct Room {
    bytes: u64,
    /// Files and folders that can still be made; `None` where the disk has no number of them.
    files: Option<u64>,
}

impl Disks {
    /// Those of the folders that the kernel can write to. Where little is free already, half of that is for the kernel. Of
    /// the files that a disk can hold, a share stays free.
    pub(super) fn new(cwd: &Path, grants: &Grants) -> Disks {
        let given = grants.mounts.iter().filter(|mount| mount.writable);
        let paths = std::iter::once(cwd).chain(given.map(|mount| mount.path.as_path()));
        let places = paths.filter_map(|path| {
            let (free, all) = free(path)?;
            let reserve = Room {
                bytes: grants.disk_free.min(free.bytes / 2),
                files: free.files.map(|files| (all / FILES_SHARE).min(files / 2)),
            };
            let path = path.to_path_buf();
            (reserve.bytes > 0).then_some(Place { path, reserve })
        });
        Disks {
            places: places.collect(),
        }
    }

    /// Waits until one of them is as good as full, and gives the reason to end the kernel. Safe to cancel.
    pub(super) async fn full(&self) -> String {
        if self.places.is_empty() {
            return std::future::pending().await;
        }
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Some(reason) = self.places.iter().find_map(Place::full) {
                return reason;
            }
        }
    }
}

impl Place {
    /// Why to end the kernel.
    fn full(&self) -> Option<String> {
        let (free, _) = free(&self.path)?;
        if free.bytes < self.reserve.bytes {
            return Some(format!(
                "was ended before it filled the disk: less than {} MiB are left to {}. Remove files that are not \
                 needed, or allow it more with execution_service.disk_free",
                self.reserve.bytes >> 20,
                self.path.display()
            ));
        }
        let (files, reserve) = (free.files?, self.reserve.files?);
        (files < reserve).then(|| {
            format!(
                "was ended before it used up the disk's inodes: no more than {files} files and folders can still be made \
                 on the disk of {}, however small, of which {reserve} are to stay. Remove files that are not needed \
                 (df -i shows what is used), or put more into one file each",
                self.path.display()
            )
        })
    }
}

/// The largest file that a kernel may write, in bytes: what its working directory's disk has beside the reserve. One that
/// takes all at once would have it before anybody has looked.
pub(super) fn largest_file(cwd: &Path, grants: &Grants) -> u64 {
    match free(cwd) {
        Some((Room { bytes, .. }, _)) if grants.disk_free > 0 => {
            bytes - grants.disk_free.min(bytes / 2)
        }
        _ => u64::MAX,
    }
}

/// What the user can still write there, and how many files and folders the disk can hold.
fn free(path: &Path) -> Option<(Room, u64)> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    // The types differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    let (bytes, available, all) = (
        stat.blocks_available() as u64 * stat.fragment_size() as u64,
        stat.files_available() as u64,
        stat.files() as u64,
    );
    let files = (all > 0).then_some(available);
    Some((Room { bytes, files }, all))
}
