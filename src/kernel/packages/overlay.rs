//! Generations of the overlay on the disk: staged beside the one that is used, then put in its place by one rename.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::libc;

use super::lock::Pin;
use super::requirement::normalized;
use super::{PackagesError, Progress};

pub(super) const SITE: &str = "site";
pub(super) const LOCK: &str = "requirements.txt";

/// The link to the generation that is used.
const CURRENT: &str = "current";
/// Held by whoever changes the overlay.
const MUTEX: &str = "lock";

/// The generation that is used, through the link, so that a kernel that has this path sees later ones too.
pub(super) fn current(folder: &Path) -> PathBuf {
    folder.join(CURRENT)
}

/// The generation that is used, if there is one. Looked at without trust: those of earlier versions lie in a project, where
/// code could have put links, to have other files of the user's read.
pub(super) fn used(folder: &Path) -> Result<Option<PathBuf>, PackagesError> {
    let link = current(folder);
    let target = match fs::read_link(&link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PackagesError::folder(&link)(error)),
    };
    let inside = matches!(
        target.components().collect::<Vec<_>>()[..],
        [Component::Normal(_)]
    );
    let path = folder.join(target);
    let is = |path: &Path, dir| {
        let kind = path.symlink_metadata();
        kind.is_ok_and(|kind| if dir { kind.is_dir() } else { kind.is_file() })
    };
    match inside && is(&path, true) && is(&path.join(SITE), true) && is(&path.join(LOCK), false) {
        true => Ok(Some(path)),
        false => Err(PackagesError::Link { path: link }),
    }
}

/// Makes a folder below `base` and gives its path. No step on the way may be a link.
pub(super) fn folder(base: &Path, steps: &[&str]) -> Result<PathBuf, PackagesError> {
    let mut path = base.to_path_buf();
    for step in steps {
        path.push(step);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(PackagesError::folder(&path)(error));
            }
            _ => {}
        }
        let kind = path
            .symlink_metadata()
            .map_err(PackagesError::folder(&path))?;
        if !kind.is_dir() {
            return Err(PackagesError::Link { path });
        }
    }
    Ok(path)
}

/// A generation in the making. Dropped before it is published, it leaves nothing.
pub(super) struct Staged {
    folder: PathBuf,
    path: PathBuf,
    published: bool,
    /// Locked until the drop.
    _mutex: File,
}

impl Staged {
    /// Waits for others who change the overlay, then begins.
    pub(super) async fn begin(
        folder: &Path,
        progress: Progress<'_>,
    ) -> Result<Staged, PackagesError> {
        let failed = || PackagesError::folder(folder);
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false);
        let options = options.custom_flags(libc::O_NOFOLLOW);
        let mut mutex = options.open(folder.join(MUTEX)).map_err(failed())?;
        if mutex.try_lock().is_err() {
            progress("Another heddle is changing the packages; waiting for it");
            let waiting = tokio::task::spawn_blocking(move || mutex.lock().map(|()| mutex));
            let waited = waiting.await.map_err(io::Error::other);
            mutex = waited.and_then(|locked| locked).map_err(failed())?;
        }
        let path = folder.join(uuid::Uuid::new_v4().simple().to_string());
        // Kernels may run as another user, who must be able to read.
        let mut builder = fs::DirBuilder::new();
        let builder = builder.mode(0o755).recursive(true);
        builder.create(path.join(SITE)).map_err(failed())?;
        let staged = Staged {
            folder: folder.to_path_buf(),
            path,
            published: false,
            _mutex: mutex,
        };
        staged.sweep(&staged.path);
        Ok(staged)
    }

    /// A folder for what is only needed until the generation is published, and for the generation itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes everything of the generation before, without the packages in `gone`. Files are shared, not copied.
    pub(super) fn take_over<'a>(
        &self,
        gone: impl Iterator<Item = &'a Pin>,
    ) -> Result<(), PackagesError> {
        let Some(old) = used(&self.folder)? else {
            return Ok(());
        };
        let old = old.join(SITE);
        let names: BTreeSet<&str> = gone.map(|pin| pin.name.as_str()).collect();
        let taken = Taken::of(&old, &names).and_then(|taken| taken.link(&old, &self.site()));
        taken.map_err(PackagesError::folder(&old))
    }

    /// Moves what was installed into the folder `fresh` to the other packages.
    pub(super) fn merge(&self, fresh: &Path) -> Result<(), PackagesError> {
        merge(fresh, &self.site()).map_err(PackagesError::folder(fresh))
    }

    /// Puts this generation in the place of the one before.
    pub(super) fn publish(mut self, lock: &str) -> Result<(), PackagesError> {
        self.put_in_place(lock)
            .map_err(PackagesError::folder(&self.folder))?;
        self.published = true;
        self.sweep(&self.path);
        Ok(())
    }

    fn put_in_place(&self, lock: &str) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() != SITE {
                remove(&entry.path())?;
            }
        }
        fs::write(self.path.join(LOCK), lock)?;
        let link = self.path.join(CURRENT);
        // Relative, so that it leads to the same place wherever the folder is mounted.
        symlink(self.path.file_name().unwrap_or_default(), &link)?;
        fs::rename(link, current(&self.folder))
    }

    fn site(&self) -> PathBuf {
        self.path.join(SITE)
    }

    /// Removes earlier generations, those included that a killed process has left half-made. What cannot be removed is
    /// no reason to fail: the next change tries again.
    fn sweep(&self, except: &Path) {
        let Ok(used) = used(&self.folder) else { return };
        let used = used.as_deref();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let in_use = Some(&*path) == used || path == except;
            if name != MUTEX && name != CURRENT && !in_use {
                let _ = remove(&path);
            }
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

/// The files of a generation that stay behind.
struct Taken {
    left: BTreeSet<PathBuf>,
}

impl Taken {
    /// Leaves the files of the packages `names`, as their `RECORD` lists them, but for those that others list too.
    fn of(site: &Path, names: &BTreeSet<&str>) -> io::Result<Taken> {
        let (mut left, mut kept) = (BTreeSet::new(), BTreeSet::new());
        if !names.is_empty() {
            for entry in fs::read_dir(site)? {
                let info = entry?.file_name();
                let Some(name) = distribution(&info.to_string_lossy()) else {
                    continue;
                };
                let files = match names.contains(name.as_str()) {
                    true => &mut left,
                    false => &mut kept,
                };
                let record = fs::read(site.join(&info).join("RECORD")).unwrap_or_default();
                files.extend(recorded(&String::from_utf8_lossy(&record)));
                files.insert(PathBuf::from(info).join("RECORD"));
            }
        }
        left.retain(|file| !kept.contains(file));
        Ok(Taken { left })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.link_below(from, to, Path::new("")).map(|_| ())
    }

    /// Whether there was anything to take.
    fn link_below(&self, from: &Path, to: &Path, below: &Path) -> io::Result<bool> {
        let mut any = false;
        for entry in fs::read_dir(from.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let (source, target) = (from.join(&path), to.join(&path));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                fs::create_dir(&target)?;
                match self.link_below(from, to, &path)? {
                    true => any = true,
                    false => fs::remove_dir(&target)?,
                }
            } else if kind.is_file() && !self.left.contains(&path) {
                // Where the file system knows no hard links, a copy does.
                fs::hard_link(&source, &target)
                    .or_else(|_| fs::copy(&source, &target).map(drop))?;
                any = true;
            }
        }
        Ok(any)
    }
}

/// The package that a folder such as `six-1.17.0.dist-info` tells of.
fn distribution(folder: &str) -> Option<String> {
    let (name, _) = folder.strip_suffix(".dist-info")?.split_once('-')?;
    Some(normalized(name))
}

/// The paths of a RECORD, relative to the folder that packages are in. Scripts, which it has elsewhere, are in `bin`
/// here. Source: "Recording installed projects" of the Python packaging specifications.
fn recorded(record: &str) -> impl Iterator<Item = PathBuf> {
    record.lines().filter_map(|line| {
        let path = match line.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next()?,
            None => line.split(',').next()?,
        };
        let parts = Path::new(path).components();
        let inside = parts.skip_while(|part| *part == Component::ParentDir);
        Some(inside.collect())
    })
}

/// Moves files and folders, those of the same name into each other.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() && target.is_dir() {
            merge(&entry.path(), &target)?;
        } else {
            fs::rename(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(name: &str) -> Pin {
        Pin {
            name: name.into(),
            extras: Vec::new(),
            version: "1".into(),
            sha256: None,
            asked: true,
        }
    }

    fn write(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Two packages that share a folder and a file.
    fn two_packages(site: &Path) {
        write(site.join("space/a.py"), "a");
        write(site.join("space/b.py"), "b");
        write(site.join("tests/__init__.py"), "");
        write(site.join("bin/a"), "#!");
        let common = "tests/__init__.py,,\n";
        write(
            site.join("A_one-1.dist-info/RECORD"),
            &format!(
                "space/a.py,sha256=x,1\n../../bin/a,,\n\"A_one-1.dist-info/RECORD\",,\n{common}"
            ),
        );
        write(
            site.join("b-1.dist-info/RECORD"),
            &format!("space/b.py,,\nb-1.dist-info/RECORD,,\n{common}"),
        );
    }

    #[tokio::test]
    async fn a_generation_without_a_package_has_none_of_its_files_and_all_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let first = Staged::begin(folder.path(), &mut |_| {}).await.unwrap();
        two_packages(&first.site());
        first.publish("one\n").unwrap();
        let second = Staged::begin(folder.path(), &mut |_| {}).await.unwrap();
        second.take_over([pin("a-one")].iter()).unwrap();
        second.publish("two\n").unwrap();
        let site = current(folder.path()).join(SITE);
        let there = |path: &str| site.join(path).exists();
        assert!(there("space/b.py") && there("tests/__init__.py") && there("b-1.dist-info"));
        assert!(!there("space/a.py") && !there("bin") && !there("A_one-1.dist-info"));
        assert_eq!(
            fs::read_to_string(current(folder.path()).join(LOCK)).unwrap(),
            "two\n"
        );
        // Of earlier generations nothing is left.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[tokio::test]
    async fn links_that_lead_elsewhere_are_not_followed() {
        let (root, secrets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(secrets.path().join("site/id_rsa"), "secret");
        write(secrets.path().join(LOCK), "");
        let made = folder(root.path(), &["a", "b"]).unwrap();
        symlink(secrets.path(), made.join(CURRENT)).unwrap();
        assert!(matches!(used(&made), Err(PackagesError::Link { .. })));
        let staged = Staged::begin(&made, &mut |_| {}).await.unwrap();
        assert!(staged.take_over([].iter()).is_err());
        symlink(secrets.path(), root.path().join("link")).unwrap();
        assert!(folder(root.path(), &["link", "b"]).is_err());
        assert!(!secrets.path().join("b").exists());
        drop(staged);
        fs::remove_file(made.join(MUTEX)).unwrap();
        symlink(secrets.path().join(LOCK), made.join(MUTEX)).unwrap();
        assert!(Staged::begin(&made, &mut |_| {}).await.is_err());
    }

    #[tokio::test]
    async fn one_that_is_not_published_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let first = Staged::begin(folder.path(), &mut |_| {}).await.unwrap();
        write(first.site().join("a.py"), "old");
        first.publish("one\n").unwrap();
        let second = Staged::begin(folder.path(), &mut |_| {}).await.unwrap();
        second.take_over([].iter()).unwrap();
        write(second.path().join("fresh/a.py"), "new");
        second.merge(&second.path().join("fresh")).unwrap();
        drop(second);
        let old = current(folder.path()).join(SITE).join("a.py");
        assert_eq!(fs::read_to_string(old).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
