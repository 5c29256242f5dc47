//! Where the configuration files are.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::file::Format;

/// The names of a project file, the first that is there is used.
const NAMES: [(&str, Format); 2] = [
    ("heddle.toml", Format::Toml),
    ("taskweaver_config.json", Format::Json),
];

/// The project, if there is one.
#[derive(Debug, Default)]
pub(super) struct Project {
    pub dir: Option<PathBuf>,
    pub file: Option<(PathBuf, Format)>,
    /// Folders that were searched and have no project file.
    pub empty: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

/// The project that the person named. It needs no file: a folder of plugins is a project too.
pub(super) fn named(dir: PathBuf) -> Result<Project, ConfigError> {
    let dir = match dir.canonicalize() {
        Ok(real) if real.is_dir() => real,
        _ => return Err(ConfigError::Project { path: dir }),
    };
    let file = project_file(&dir);
    let warnings = match file {
        Some(_) => vec![],
        None => vec![format!(
            "{} has neither heddle.toml nor taskweaver_config.json: other settings apply",
            dir.display()
        )],
    };
    let empty = match file {
        Some(_) => vec![],
        None => vec![dir.clone()],
    };
    Ok(Project {
        dir: Some(dir),
        file,
        empty,
        warnings,
    })
}

/// The project around `start`: the nearest folder with a project file, up to the home directory or `/`.
///
/// A file of another user (root excepted) is passed over with a warning: whoever can write in a shared folder such as
/// `/tmp` could otherwise make a project of it.
pub(super) fn around(start: &Path, home: Option<&Path>) -> Project {
    let mut project = Project::default();
    for dir in searched(start, home) {
        let Some((path, format)) = project_file(&dir) else {
            project.empty.push(dir);
            continue;
        };
        if is_own(&path) {
            project.dir = Some(dir);
            project.file = Some((path, format));
            break;
        }
        project.warnings.push(format!(
            "{} belongs to another user and is not used: name its folder with -p if you trust it",
            path.display()
        ));
    }
    project
}

/// The folders that a project is looked for in, the nearest first, with their real paths.
pub(super) fn searched(start: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let start = start.canonicalize().unwrap_or_else(|_| start.to_owned());
    let home = home.and_then(|home| home.canonicalize().ok());
    let count = start
        .ancestors()
        .position(|dir| Some(dir) == home.as_deref());
    let all = start.ancestors().map(Path::to_owned);
    all.take(count.map_or(usize::MAX, |count| count + 1))
        .collect()
}

/// The names of a project file.
pub(crate) const PROJECT_FILES: [&str; 2] = [NAMES[0].0, NAMES[1].0];

/// Whether a file of this name is a project's.
pub(super) fn is_project_file(name: &std::ffi::OsStr) -> bool {
    NAMES.iter().any(|(project_file, _)| name == *project_file)
}

fn project_file(dir: &Path) -> Option<(PathBuf, Format)> {
    NAMES
        .iter()
        .map(|(name, format)| (dir.join(name), *format))
        .find(|(path, _)| path.symlink_metadata().is_ok())
}

/// Whether this user or root wrote it. What can't be looked at is reported when it is read.
fn is_own(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| {
        let owner = meta.uid();
        owner == 0 || owner == nix::unistd::geteuid().as_raw()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let deep = root
            .path()
            .canonicalize()
            .unwrap()
            .join("home/project/deep");
        fs::create_dir_all(&deep).unwrap();
        (root, deep)
    }

    fn up(dir: &Path, steps: usize) -> PathBuf {
        dir.ancestors().nth(steps).unwrap().to_owned()
    }

    #[test]
    fn the_nearest_folder_with_a_project_file_is_the_project() {
        let (_root, deep) = tree();
        fs::write(up(&deep, 1).join("heddle.toml"), "").unwrap();
        fs::write(up(&deep, 2).join("heddle.toml"), "").unwrap();
        let found = around(&deep, None);
        assert_eq!(found.dir, Some(up(&deep, 1)));
        assert_eq!(
            found.file,
            Some((up(&deep, 1).join("heddle.toml"), Format::Toml))
        );
    }

    #[test]
    fn heddle_toml_wins_over_taskweaver_config_json_beside_it() {
        let (_root, deep) = tree();
        fs::write(deep.join("taskweaver_config.json"), "{}").unwrap();
        assert_eq!(around(&deep, None).file.unwrap().1, Format::Json);
        fs::write(deep.join("heddle.toml"), "").unwrap();
        assert_eq!(around(&deep, None).file.unwrap().1, Format::Toml);
    }

    #[test]
    fn the_search_ends_at_the_home_directory() {
        let (_root, deep) = tree();
        let home = up(&deep, 2);
        fs::write(up(&deep, 3).join("heddle.toml"), "").unwrap();
        assert_eq!(around(&deep, Some(&home)).dir, None);
        fs::write(home.join("heddle.toml"), "").unwrap();
        assert_eq!(around(&deep, Some(&home)).dir, Some(home));
    }

    #[test]
    fn a_file_of_another_user_is_not_used_unless_named() {
        let (_root, deep) = tree();
        let file = deep.join("heddle.toml");
        fs::write(&file, "").unwrap();
        let other = nix::unistd::Uid::from_raw(54_321);
        if nix::unistd::chown(&file, Some(other), None).is_err() {
            return; // Only root can give a file away.
        }
        let found = around(&deep, Some(&deep));
        assert_eq!((found.file, found.empty), (None, vec![]));
        assert!(found.warnings[0].contains("belongs to another user"));
        assert!(named(deep).unwrap().file.is_some());
    }

    #[test]
    fn a_named_project_must_be_a_folder_but_needs_no_file() {
        let (_root, deep) = tree();
        assert!(named(deep.join("nowhere")).is_err());
        let project = named(deep.join("../deep/.")).unwrap();
        assert_eq!((project.dir, project.file), (Some(deep), None));
        assert_eq!(project.warnings.len(), 1);
    }
}
