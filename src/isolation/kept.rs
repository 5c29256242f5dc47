//! Files that decide what a later kernel may do. Code in an isolated kernel may neither change those that are in its
//! folders nor leave new ones there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::PROJECT_FILES;

/// The packages of a project, which its kernels import.
const PACKAGES: &str = ".heddle";

/// What is appended to the name of a file that code made.
const LEFT: &str = "left-by-code";

fn names(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let names = PROJECT_FILES.into_iter().chain([PACKAGES]);
    names.map(|name| folder.join(name))
}

/// Those that are in a folder. A link is none: what it leads to is not the folder's.
pub(crate) fn find(folder: &Path) -> Vec<PathBuf> {
    let is_own = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_symlink());
    names(folder).filter(is_own).collect()
}

/// Gives another name to those that are in these folders now and were not `known` before. Nobody may be writing there
/// any more. What cannot be renamed stays.
pub(crate) fn set_aside(folders: &[PathBuf], known: &[PathBuf]) {
    let made = folders.iter().flat_map(|folder| names(folder));
    for path in made.filter(|path| !known.contains(path)) {
        let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
        let other = |number: u32| {
            let mut name = path.clone().into_os_string();
            name.push(match number {
                1 => format!(".{LEFT}"),
                n => format!(".{LEFT}-{n}"),
            });
            PathBuf::from(name)
        };
        if is_there(&path)
            && let Some(free) = (1..1000).map(other).find(|path| !is_there(path))
        {
            let _ = fs::rename(&path, free);
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
        let known = find(folder.path());
        assert_eq!(known, [path("heddle.toml")]);
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
}
