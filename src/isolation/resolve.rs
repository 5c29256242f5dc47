//! Opens the paths that decide what a kernel gets, component by component, and follows no link that code may have made.
//!
//! A link above the folders that code can write to is the person's own, and is followed. Below the topmost of those
//! folders no link is: code of an earlier kernel may have put it there. What was opened is known from then on by its
//! device and inode, so that a name which leads elsewhere a moment later is noticed.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::printable::escape_line;

/// As many links as the machine itself follows on one path.
const LINKS: usize = 40;

/// Which file it is, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl FileId {
    pub fn of(meta: &Metadata) -> FileId {
        FileId {
            device: meta.dev(),
            inode: meta.ino(),
        }
    }
}

/// A file or folder of the host's that a kernel gets to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    pub path: PathBuf,
    /// What the path led to when it was granted. Whoever mounts it opens it anew, and compares.
    pub id: FileId,
}

/// Why a path is not used. Each message says what happened, why, and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error(
        "{} is a link to {}, in a folder that code can write to, so it is not followed: code may have put it there. \
         If it is yours, name the path without the link: {}",
        escaped(link),
        escaped(target),
        escaped(instead)
    )]
    Link {
        link: PathBuf,
        target: PathBuf,
        /// The whole path, with the link followed.
        instead: PathBuf,
    },
    #[error(
        "{} is not what it was when it was first used: something else was put in its place. If that was you, start \
         heddle again",
        escaped(path)
    )]
    Replaced { path: PathBuf },
    #[error("{} cannot be used: {source}", escaped(path))]
    Io { path: PathBuf, source: io::Error },
}

/// A path as text, without what could steer a terminal or reorder what stands beside it.
pub(crate) fn escaped(path: &Path) -> String {
    escape_line(&path.to_string_lossy()).into_owned()
}

/// A file or folder that was opened.
pub struct Opened {
    /// Without links.
    pub path: PathBuf,
    pub id: FileId,
    /// The person's own links on the way, and what each says.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Opened for its name alone (`O_PATH`): it neither reads nor writes.
    #[cfg(target_os = "linux")]
    pub file: std::fs::File,
    meta: Metadata,
}

impl Opened {
    pub fn granted(&self) -> Granted {
        Granted {
            path: self.path.clone(),
            id: self.id,
        }
    }

    pub fn metadata(&self) -> &Metadata {
        &self.meta
    }

    /// The same, if it is what it was.
    ///
    /// # Errors
    /// [`ResolveError::Replaced`] where it is another.
    pub fn expect(self, id: FileId) -> Result<Opened, ResolveError> {
        match self.id == id {
            true => Ok(self),
            false => Err(ResolveError::Replaced { path: self.path }),
        }
    }
}

/// Opens paths where code can write to some folders.
pub struct Resolver {
    writable: Vec<FileId>,
}

impl Resolver {
    /// No link below these folders is followed. Those that are not there do not count.
    pub fn new<P: AsRef<Path>>(writable: impl IntoIterator<Item = P>) -> Resolver {
        // Links to them may be followed here: one that code has made adds a folder, and takes none away.
        let ids = writable.into_iter().filter_map(|path| {
            let meta = std::fs::metadata(path).ok()?;
            Some(FileId::of(&meta))
        });
        Resolver::of_ids(ids.collect())
    }

    /// Device and inode of the folders that code can write to.
    pub fn writable(&self) -> &[FileId] {
        &self.writable
    }

    /// Opens what was granted before.
    ///
    /// # Errors
    /// Also [`ResolveError::Replaced`] where something else is there by now.
    pub(crate) fn open_granted(&self, granted: &Granted) -> Result<Opened, ResolveError> {
        self.open(&granted.path)?.expect(granted.id)
    }

    pub(crate) fn of_ids(writable: Vec<FileId>) -> Resolver {
        Resolver { writable }
    }

    /// Opens an absolute path.
    ///
    /// # Errors
    /// The link that is not followed, or why it cannot be opened.
    pub fn open(&self, path: &Path) -> Result<Opened, ResolveError> {
        self.open_below(Path::new("/"), path)
    }

    /// The same, and holds it for as long as this process lives: a later kernel of this process gets the same, or none.
    ///
    /// # Errors
    /// Also [`ResolveError::Replaced`].
    pub fn open_held(&self, path: &Path) -> Result<Opened, ResolveError> {
        static HELD: Mutex<Option<HashMap<PathBuf, Held>>> = Mutex::new(None);
        let opened = self.open(path)?;
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.get_or_insert_default();
        match held.get(path) {
            Some(first) => opened.expect(first.id),
            None => {
                let first = Held::new(&opened).map_err(|source| ResolveError::Io {
                    path: path.to_path_buf(),
                    source,
                })?;
                held.insert(path.to_path_buf(), first);
                Ok(opened)
            }
        }
    }

    /// Opens a path of the file system whose root is seen as `root` here.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub(crate) fn open_below(&self, root: &Path, path: &Path) -> Result<Opened, ResolveError> {
        let failed = |source| ResolveError::Io {
            path: path.to_path_buf(),
            source,
        };
        let mut walk = vec![self.step(Step::root(root).map_err(failed)?, false)];
        let mut names: Vec<OsString> = Vec::new();
        let mut rest = parts(path);
        let mut links = Vec::new();
        let real = |names: &[OsString]| Path::new("/").join(names.iter().collect::<PathBuf>());
        while let Some(part) = rest.pop_front() {
            let name = match part {
                Part::Root => {
                    walk.truncate(1);
                    names.clear();
                    continue;
                }
                Part::Up => {
                    walk.truncate(walk.len().saturating_sub(1).max(1));
                    names.pop();
                    continue;
                }
                Part::Name(name) => name,
            };
            let (here, inside) = walk
                .last()
                .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
            let inside = *inside;
            match here.enter(&name).map_err(failed)? {
                Entered::Link(target) => {
                    let link = real(&names).join(&name);
                    if inside {
                        let left: PathBuf = rest.iter().map(Part::text).collect();
                        let through = link.join(left);
                        return Err(ResolveError::Link {
                            instead: std::fs::canonicalize(&through).unwrap_or_else(|_| {
                                let parent = link.parent().unwrap_or(Path::new("/"));
                                parent.join(&target)
                            }),
                            link,
                            target,
                        });
                    }
                    if links.len() == LINKS {
                        return Err(failed(io::Error::from_raw_os_error(nix::libc::ELOOP)));
                    }
                    let mut next = parts(&target);
                    next.append(&mut rest);
                    rest = next;
                    links.push((link, target));
                }
                Entered::Step(step) => {
                    walk.push(self.step(step, inside));
                    names.push(name);
                }
            }
        }
        let Some((step, _)) = walk.pop() else {
            return Err(failed(io::ErrorKind::NotFound.into()));
        };
        Ok(Opened {
            path: real(&names),
            id: FileId::of(&step.meta),
            links,
            #[cfg(target_os = "linux")]
            file: step.file,
            meta: step.meta,
        })
    }

    /// A step with whether it is in a folder that code can write to, or is one.
    fn step(&self, step: Step, inside: bool) -> (Step, bool) {
        let inside = inside || self.writable.contains(&FileId::of(&step.meta));
        (step, inside)
    }
}

/// What was opened first by a path. While it is open, no other file has its numbers.
struct Held {
    id: FileId,
    #[cfg(target_os = "linux")]
    _file: std::fs::File,
}

impl Held {
    fn new(opened: &Opened) -> io::Result<Held> {
        Ok(Held {
            id: opened.id,
            #[cfg(target_os = "linux")]
            _file: opened.file.try_clone()?,
        })
    }
}

enum Part {
    Root,
    Up,
    Name(OsString),
}

impl Part {
    fn text(&self) -> &Path {
        match self {
            Part::Root => Path::new("/"),
            Part::Up => Path::new(".."),
            Part::Name(name) => Path::new(name),
        }
    }
}

fn parts(path: &Path) -> VecDeque<Part> {
    let part = |component| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Up),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

enum Entered {
    Link(PathBuf),
    Step(Step),
}

/// A file or folder on the way, held open where it can be: a name that is given away meanwhile changes nothing.
struct Step {
    #[cfg(target_os = "linux")]
    file: std::fs::File,
    #[cfg(not(target_os = "linux"))]
    path: PathBuf,
    meta: Metadata,
}

#[cfg(target_os = "linux")]
impl Step {
    fn root(path: &Path) -> io::Result<Step> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::File::options();
        options.read(true);
        options.custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY);
        let file = options.open(path)?;
        let meta = file.metadata()?;
        Ok(Step { file, meta })
    }

    fn enter(&self, name: &std::ffi::OsStr) -> io::Result<Entered> {
        use nix::fcntl::{OFlag, openat, readlinkat};
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.file, name, flags, nix::sys::stat::Mode::empty())?;
        let file = std::fs::File::from(file);
        let meta = file.metadata()?;
        match meta.is_symlink() {
            true => Ok(Entered::Link(readlinkat(&file, "")?.into())),
            false => Ok(Entered::Step(Step { file, meta })),
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Step {
    fn root(path: &Path) -> io::Result<Step> {
        Ok(Step {
            meta: std::fs::symlink_metadata(path)?,
            path: path.to_path_buf(),
        })
    }

    fn enter(&self, name: &std::ffi::OsStr) -> io::Result<Entered> {
        let path = self.path.join(name);
        let meta = std::fs::symlink_metadata(&path)?;
        match meta.is_symlink() {
            true => Ok(Entered::Link(std::fs::read_link(&path)?)),
            false => Ok(Entered::Step(Step { path, meta })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        (folder, path)
    }

    #[test]
    fn links_above_what_code_can_write_to_are_followed_and_those_below_are_named() {
        let (_kept, base) = folder();
        std::fs::create_dir_all(base.join("real/project/data")).unwrap();
        std::fs::create_dir_all(base.join("other/data")).unwrap();
        symlink("real", base.join("way")).unwrap();
        symlink("../../other", base.join("real/project/\u{202e}x\x1b[8m")).unwrap();
        let resolver = Resolver::new([base.join("way/project")]);
        let opened = resolver.open(&base.join("way/project/data")).unwrap();
        assert_eq!(opened.path, base.join("real/project/data"));
        assert_eq!(opened.links, [(base.join("way"), "real".into())]);
        // By way of `..`, too, which leads out and in again.
        let path = base.join("way/project/data/../../project/\u{202e}x\x1b[8m/data");
        let refused = resolver.open(&path).err().unwrap();
        let ResolveError::Link {
            target, instead, ..
        } = &refused
        else {
            panic!("{refused}");
        };
        assert_eq!(target, Path::new("../../other"));
        assert_eq!(*instead, base.join("other/data"));
        let said = refused.to_string();
        assert!(
            said.contains("\\u202ex\\x1b[8m is a link to ../../other"),
            "{said}"
        );
        // The folder itself is the person's to name.
        symlink(base.join("real/project"), base.join("named")).unwrap();
        let resolver = Resolver::new([base.join("named")]);
        assert!(resolver.open(&base.join("named/data")).is_ok());
        // A link in one of them, to another of them, is none of the person's.
        std::fs::remove_dir(base.join("real/project/data")).unwrap();
        symlink(base.join("other"), base.join("real/project/data")).unwrap();
        let resolver = Resolver::new([base.join("named"), base.join("named/data")]);
        assert!(resolver.open(&base.join("named/data")).is_err());
    }

    #[test]
    fn links_that_lead_to_each_other_end() {
        let (_kept, base) = folder();
        symlink("b", base.join("a")).unwrap();
        symlink("a", base.join("b")).unwrap();
        let none: [&Path; 0] = [];
        let refused = Resolver::new(none).open(&base.join("a/x"));
        assert!(matches!(refused, Err(ResolveError::Io { .. })));
    }

    #[test]
    fn what_is_put_in_the_place_of_something_held_is_refused() {
        let (_kept, base) = folder();
        let path = base.join("data");
        std::fs::create_dir(&path).unwrap();
        let resolver = Resolver::new([&base]);
        resolver.open_held(&path).unwrap();
        resolver.open_held(&path).unwrap();
        std::fs::rename(&path, base.join("before")).unwrap();
        std::fs::create_dir(&path).unwrap();
        let refused = resolver.open_held(&path).err().unwrap();
        assert!(
            refused.to_string().contains("start heddle again"),
            "{refused}"
        );
        std::fs::remove_dir(&path).unwrap();
        std::fs::rename(base.join("before"), &path).unwrap();
        resolver.open_held(&path).unwrap();
    }
}
