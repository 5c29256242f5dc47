//! Folders of root that a container's user may use: mounted a second time, through a map of owners, so that what
//! belongs to root on the disk belongs to that user inside, and the other way round. Nothing on the disk changes hands.

use std::path::{Path, PathBuf};

use crate::isolation::resolve::{FileId, Granted};
#[cfg(target_os = "linux")]
use crate::isolation::resolve::{Opened, Resolver};

/// Where the second mounts are. Nobody but root gets at the folders by this name.
const PLACE: &str = "/run/heddle-lent";

/// Where the folder with this number is lent to a container.
pub(super) fn place(container: &str, number: usize) -> PathBuf {
    Path::new(PLACE).join(container).join(number.to_string())
}

/// What is lent to one container. Dropping it takes all of it back.
pub(super) struct Lent {
    #[cfg(target_os = "linux")]
    folder: PathBuf,
    /// Locked while it is in use, which ends with the process however that ends.
    #[cfg(target_os = "linux")]
    _lock: nix::fcntl::Flock<std::fs::File>,
}

#[cfg(target_os = "linux")]
impl Lent {
    /// Lends these to a user, each at its [`place`]. No link below what code can write to, `exposed`, is followed.
    ///
    /// # Errors
    /// Which cannot be lent, and why.
    pub(super) fn lend(
        container: &str,
        paths: &[Granted],
        exposed: &[FileId],
        to: u32,
    ) -> Result<Lent, String> {
        let resolver = Resolver::of_ids(exposed.to_vec());
        let folder = Path::new(PLACE).join(container);
        let lock = private_folder(&folder).and_then(|()| lock(&folder));
        let lent = Lent {
            _lock: lock.map_err(|error| format!("{} cannot be used: {error}", folder.display()))?,
            folder,
        };
        for (number, path) in paths.iter().enumerate() {
            let opened = resolver.open_granted(path).map_err(|it| it.to_string())?;
            mount(&opened, &place(container, number), to).map_err(|error| {
                format!(
                    "Heddle runs as root here, and {} cannot be lent to the container's user: {error}. As an ordinary \
                     user it needs no lending; or use --mode sandbox",
                    path.path.display()
                )
            })?;
        }
        Ok(lent)
    }
}

#[cfg(target_os = "linux")]
impl Drop for Lent {
    fn drop(&mut self) {
        take_back(&self.folder);
    }
}

/// Takes back what was lent by keepers that have died.
#[cfg(target_os = "linux")]
pub(super) fn clear_up() {
    /// Younger ones may be on the way to their lock.
    const YOUNG: std::time::Duration = std::time::Duration::from_secs(10);
    for entry in std::fs::read_dir(PLACE).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified());
        let is_old = age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > YOUNG));
        if is_old && let Ok(_lock) = lock(&entry.path()) {
            take_back(&entry.path());
        }
    }
}

#[cfg(target_os = "linux")]
fn lock(folder: &Path) -> std::io::Result<nix::fcntl::Flock<std::fs::File>> {
    use nix::fcntl::{Flock, FlockArg};
    let file = std::fs::File::open(folder)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

#[cfg(target_os = "linux")]
fn private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
}

#[cfg(target_os = "linux")]
fn mount(source: &Opened, at: &Path, to: u32) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let meta = source.metadata();
    match meta.is_dir() {
        true => private_folder(at)?,
        false => std::fs::File::create_new(at).map(drop)?,
    }
    let owner = (meta.uid(), meta.gid());
    crate::isolation::bind_mapped(&source.file, at, owner, (to.into(), to.into()))
}

/// Takes the mounts away, and then what they were put on. What cannot be unmounted stays: all below is the user's.
#[cfg(target_os = "linux")]
fn take_back(folder: &Path) {
    use nix::mount::{MntFlags, umount2};
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let at = entry.path();
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        // EINVAL: nothing is mounted there (any more).
        let unmounted = umount2(&at, flags);
        if unmounted.is_ok() || unmounted == Err(nix::errno::Errno::EINVAL) {
            let _ = match at.is_dir() {
                // Fails where anything is in it.
                true => std::fs::remove_dir(&at),
                false => std::fs::remove_file(&at),
            };
        }
    }
    let _ = std::fs::remove_dir(folder);
}

#[cfg(not(target_os = "linux"))]
impl Lent {
    pub(super) fn lend(_: &str, _: &[Granted], _: &[FileId], _: u32) -> Result<Lent, String> {
        Err("as root, containers are used on Linux alone. Run Heddle as an ordinary user".into())
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn clear_up() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn lent_folders_change_owners_by_their_second_name_alone_and_survive_the_return() {
        if !nix::unistd::Uid::effective().is_root() {
            return;
        }
        let own = tempfile::tempdir().unwrap();
        let file = own.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        let name = format!("heddle-test-{}", std::process::id());
        let none: [&Path; 0] = [];
        let paths =
            [own.path(), &file].map(|path| Resolver::new(none).open(path).unwrap().granted());
        let lent = Lent::lend(&name, &paths, &[], 65_533).unwrap();
        let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
        assert_eq!(owner(&place(&name, 0).join("file")), 65_533);
        assert_eq!(owner(&place(&name, 1)), 65_533);
        assert_eq!(owner(&file), 0);
        // Somebody else's clearing up leaves it alone while it is in use.
        assert!(lock(&Path::new(PLACE).join(&name)).is_err());
        drop(lent);
        assert!(!Path::new(PLACE).join(&name).exists());
        assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    }
}
