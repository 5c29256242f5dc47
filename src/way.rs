//! Where a path leads: through which links, and to what, whether that is there already or not.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many links as the machine itself follows on one path.
const MOST: usize = 40;

/// A path, followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// Each link on the way, by its own path without links, and what it says.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// The end, without links. What is not there yet is taken as it is written.
    pub end: PathBuf,
}

/// Follows an absolute path. One with more links than the machine follows ends at the last of those.
pub(crate) fn follow(path: &Path) -> Way {
    let mut way = Way {
        links: Vec::new(),
        end: PathBuf::from("/"),
    };
    let mut rest = path.to_path_buf();
    loop {
        let mut parts = rest.components();
        let link = loop {
            match parts.next() {
                None => return way,
                Some(Component::Normal(name)) => way.end.push(name),
                Some(Component::ParentDir) => drop(way.end.pop()),
                Some(Component::RootDir) => way.end = PathBuf::from("/"),
                Some(Component::CurDir | Component::Prefix(_)) => {}
            }
            match fs::read_link(&way.end) {
                Ok(target) if way.links.len() < MOST => break target,
                _ => {}
            }
        };
        way.links.push((way.end.clone(), link.clone()));
        way.end.pop();
        rest = link.join(parts.as_path());
    }
}

/// Without `.` and `..`, links not followed.
pub(crate) fn lexical(path: &Path) -> PathBuf {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_is_named_and_what_is_not_there_is_taken_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("a", root.join("one")).unwrap();
        symlink("../one/b", root.join("a/two")).unwrap();
        let way = follow(&root.join("a/two/./none/../new/file"));
        assert_eq!(way.end, root.join("a/b/new/file"));
        let links: Vec<&PathBuf> = way.links.iter().map(|(link, _)| link).collect();
        assert_eq!(links, [&root.join("a/two"), &root.join("one")]);
        symlink("loop", root.join("loop")).unwrap();
        assert!(follow(&root.join("loop/x")).end.starts_with(&root));
    }
}
