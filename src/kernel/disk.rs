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

/// The disks of one kernel; by default none is looked at.
#[derive(Default)]
pub(super) struct Disks {
    places: Vec<Place>,
}

struct Place {
    path: PathBuf,
    /// Bytes that have to stay free.
    reserve: u64,
}

impl Disks {
    /// Those of the folders that the kernel can write to. Where little is free already, half of that is for the kernel.
    pub(super) fn new(cwd: &Path, grants: &Grants) -> Disks {
        let given = grants.mounts.iter().filter(|mount| mount.writable);
        let paths = std::iter::once(cwd).chain(given.map(|mount| mount.path.as_path()));
        let places = paths.filter_map(|path| {
            let reserve = grants.disk_free.min(free(path)? / 2);
            let path = path.to_path_buf();
            (reserve > 0).then_some(Place { path, reserve })
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
            let full = |place: &&Place| free(&place.path).is_some_and(|free| free < place.reserve);
            if let Some(place) = self.places.iter().find(full) {
                return format!(
                    "was ended before it filled the disk: less than {} MiB are left to {}. Remove files that are not \
                     needed, or allow it more with execution_service.disk_free",
                    place.reserve >> 20,
                    place.path.display()
                );
            }
        }
    }
}

/// The largest file that a kernel may write, in bytes: what its working directory's disk has beside the reserve. One that
/// takes all at once would have it before anybody has looked.
pub(super) fn largest_file(cwd: &Path, grants: &Grants) -> u64 {
    match free(cwd) {
        Some(free) if grants.disk_free > 0 => free - grants.disk_free.min(free / 2),
        _ => u64::MAX,
    }
}

/// Bytes that the user can still write there.
fn free(path: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    // The types differ between platforms.
    #[allow(clippy::unnecessary_cast)]
    Some(stat.blocks_available() as u64 * stat.fragment_size() as u64)
}
