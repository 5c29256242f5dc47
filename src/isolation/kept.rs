//! Files that decide what a later kernel may do. Code in an isolated kernel may neither change those that are in its
//! folders nor leave new ones there.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::PROJECT_FILES;

/// The packages of a project, which its kernels import.
const PACKAGES: &str = ".heddle";

/// What is appended to the name of a file that code made.
const LEFT: &str = "left-by-code";

fn names(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let names = PROJECT_FILES.into_iter().chain([PACKAGES]);
    names.map(|name| folder.join(name))
}

/// Those that are in some folders before code runs there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Files and folders that cannot be changed.
    pub paths: Vec<PathBuf>,
    /// Links that lead out of the folders, and where to. They may be replaced; what they lead to is out of reach.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Kept {
    /// # Errors
    /// Which of them is a link into one of the folders, where code could change what it leads to.
    pub(crate) fn find(folders: &[PathBuf]) -> Result<Kept, String> {
        let mut kept = Kept::default();
        for path in folders.iter().flat_map(|folder| names(folder)) {
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            if !meta.is_symlink() {
                kept.paths.push(path);
                continue;
            }
            let text = fs::read_link(&path).unwrap_or_default();
            // What lies behind a folder that code can write to, it can put something else behind.
            let first = lexical(&path.parent().unwrap_or(Path::new("/")).join(&text));
            let target = fs::canonicalize(&path).unwrap_or_else(|_| first.clone());
            let inside = |target: &Path| folders.iter().any(|folder| target.starts_with(folder));
            if inside(&first) || inside(&target) {
                return Err(format!(
                    "{} is a link to {}, which the code could change. Put the file itself there, or its target into \
                     a folder that the code cannot write to",
                    path.display(),
                    target.display()
                ));
            }
            kept.links.push((path, text));
        }
        Ok(kept)
    }

    /// Those of them that are settings, in which there may be a key: they are shown empty.
    pub(crate) fn settings(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths.iter().filter(|path| is_settings(path))
    }

    /// Whether this is there as it was.
    fn has(&self, path: &Path) -> bool {
        self.paths.iter().any(|known| known == path)
            || fs::read_link(path).is_ok_and(|text| {
                let mut links = self.links.iter();
                links.any(|(known, to)| known == path && *to == text)
            })
    }
}

/// Lets the owner of a folder write to it.
fn open(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = fs::metadata(folder)?.permissions();
    permissions.set_mode(permissions.mode() | 0o700);
    fs::set_permissions(folder, permissions)
}

pub(crate) fn is_settings(path: &Path) -> bool {
    PROJECT_FILES.iter().any(|name| path.ends_with(name)) && path.is_file()
}

/// Without `.` and `..`, links not followed.
fn lexical(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Gives another name to those that are in these folders now and were not `known` before. Nobody may be writing there
/// any more. What cannot be renamed stays.
pub(crate) fn set_aside(folders: &[PathBuf], known: &Kept) {
    let made = folders.iter().flat_map(|folder| names(folder));
    for path in made.filter(|path| !known.has(path)) {
        let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
        let other = |number: &str| {
            let mut name = path.clone().into_os_string();
            name.push(format!(".{LEFT}{number}"));
            PathBuf::from(name)
        };
        if !is_there(&path) {
            continue;
        }
        // Code may have taken every name that can be foretold.
        let names = ["", "-2", "-3", "-4"].map(other).into_iter();
        let last = || Some(other(&format!("-{}", uuid::Uuid::new_v4().simple())));
        let mut free = names.chain(last()).filter(|path| !is_there(path));
        let moved = free.next().is_some_and(|free| {
            // And have closed the folder.
            fs::rename(&path, &free)
                .or_else(|_| {
                    open(path.parent().unwrap_or(Path::new("/")))?;
                    fs::rename(&path, &free)
                })
                .is_ok()
        });
        if !moved {
            eprintln!("{} was made by code, and cannot be renamed", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_set_aside_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("heddle.toml"), "mine").unwrap();
        let known = Kept::find(&[folder.path().into()]).unwrap();
        assert_eq!(known.paths, [path("heddle.toml")]);
        for text in ["first", "second"] {
            fs::create_dir(path(".heddle")).unwrap();
            std::os::unix::fs::symlink("/usr", path("taskweaver_config.json")).unwrap();
            fs::write(path(".heddle/x"), text).unwrap();
            set_aside(&[folder.path().into()], &known);
            assert!(fs::symlink_metadata(path("taskweaver_config.json")).is_err());
            assert!(!path(".heddle").exists());
        }
        assert_eq!(fs::read_to_string(path("heddle.toml")).unwrap(), "mine");
        let left = path(".heddle.left-by-code-2/x");
        assert_eq!(fs::read_to_string(left).unwrap(), "second");
    }

    #[test]
    fn a_link_of_the_users_own_stays_and_one_that_code_could_change_is_refused() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [folder.path().canonicalize().unwrap()];
        let link = folders[0].join("heddle.toml");
        fs::write(other.path().join("mine.toml"), "mine").unwrap();
        std::os::unix::fs::symlink(other.path().join("mine.toml"), &link).unwrap();
        let known = Kept::find(&folders).unwrap();
        set_aside(&folders, &known);
        assert_eq!(fs::read_to_string(&link).unwrap(), "mine");
        // Another in its place.
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        set_aside(&folders, &known);
        assert!(fs::symlink_metadata(&link).is_err());

        fs::create_dir(folders[0].join("conf")).unwrap();
        fs::write(folders[0].join("conf/heddle.toml"), "").unwrap();
        std::os::unix::fs::symlink("conf/heddle.toml", &link).unwrap();
        let refused = Kept::find(&folders).unwrap_err();
        assert!(refused.contains("conf/heddle.toml"), "{refused}");
        // By way of something that leads out now.
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(other.path(), folders[0].join("shared")).unwrap();
        std::os::unix::fs::symlink("./shared/mine.toml", &link).unwrap();
        Kept::find(&folders).unwrap_err();
    }

    #[test]
    fn what_code_made_goes_however_it_holds_on_to_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("heddle.toml"), "evil").unwrap();
        for name in ["", "-2", "-3", "-4"] {
            fs::write(path(&format!("heddle.toml.left-by-code{name}")), "").unwrap();
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
        set_aside(&[folder.path().into()], &Kept::default());
        assert!(!path("heddle.toml").exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }
}
