//! Files at the top of the folders that an isolated kernel can write to, which decide what happens later: Heddle's
//! settings, and what other programs execute when a person works in the folder, such as Git's hooks. Code cannot change
//! them where they are there at the start.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::resolve::escaped;
use crate::config::PROJECT_FILES;
use crate::printable::escape_line;
use crate::way::lexical;

/// Of Git: the folder itself, so that no other can be put in its place, and what in it names programs.
pub(super) const GIT: &str = ".git";
pub(super) const GIT_PROGRAMS: &[&str] = &["hooks", "config", "config.worktree", "modules"];

/// What editors, shells and agents execute or obey when a person works in a folder.
pub(super) const TOOLS: &[&str] = &[
    ".vscode",
    ".idea",
    ".envrc",
    ".claude",
    ".codex",
    ".cursor",
    ".mcp.json",
];

/// Whether a path has the name of Heddle's settings in a project.
pub(crate) fn is_settings(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| PROJECT_FILES.iter().any(|own| name == *own))
}

/// How code sees such a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// As an empty file: there may be a key in it.
    Empty,
    ReadOnly,
    /// It can be written to, and not be moved or replaced.
    InPlace,
}

/// Those that are in some folders before code runs there, outer ones first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub paths: Vec<(PathBuf, Access)>,
}

impl Kept {
    /// With `git_config`, Git's own files are left alone.
    ///
    /// # Errors
    /// Which of Heddle's own files is a link into one of the folders, where code could change what it leads to.
    pub fn find(folders: &[PathBuf], git_config: bool) -> Result<Kept, String> {
        let mut kept = Kept::default();
        for folder in folders {
            for path in PROJECT_FILES.map(|name| folder.join(name)) {
                kept.own(folders, path)?;
            }
            let git = folder.join(GIT);
            // Of a worktree or a submodule it is a file, which names the folder that Git uses.
            match fs::symlink_metadata(&git) {
                Ok(meta) if meta.is_dir() && !git_config => {
                    kept.paths.push((git.clone(), Access::InPlace));
                    let programs = GIT_PROGRAMS.iter().map(|name| git.join(name));
                    kept.tools(programs);
                }
                Ok(meta) if meta.is_file() => kept.paths.push((git, Access::ReadOnly)),
                _ => {}
            }
            kept.tools(TOOLS.iter().map(|name| folder.join(name)));
        }
        Ok(kept)
    }

    /// Adds the settings in a folder that is shown read-only.
    ///
    /// # Errors
    /// As those of [`Kept::find`].
    pub fn settings_of(&mut self, project: &Path) -> Result<(), String> {
        let found = Kept::find(&[project.to_path_buf()], true)?;
        let settings = found.paths.into_iter();
        let settings = settings.filter(|(_, access)| *access == Access::Empty);
        self.paths.extend(settings);
        Ok(())
    }

    fn own(&mut self, folders: &[PathBuf], path: PathBuf) -> Result<(), String> {
        let Ok(meta) = fs::symlink_metadata(&path) else {
            return Ok(());
        };
        if !meta.is_symlink() {
            let access = match meta.is_file() {
                true => Access::Empty,
                false => Access::ReadOnly,
            };
            self.paths.push((path, access));
            return Ok(());
        }
        let text = fs::read_link(&path).unwrap_or_default();
        // Code can replace the target of a link that leads into a folder which it can write to.
        let first = lexical(&path.parent().unwrap_or(Path::new("/")).join(&text));
        let target = fs::canonicalize(&path).unwrap_or_else(|_| first.clone());
        let inside = |target: &Path| folders.iter().any(|folder| target.starts_with(folder));
        match inside(&first) || inside(&target) {
            true => Err(format!(
                "{} is a link to {}, which the code could change. Put the file itself there, or its target into \
                 a folder that the code cannot write to",
                path.display(),
                escaped(&target)
            )),
            // The link may be replaced; what it leads to is out of reach.
            false => Ok(()),
        }
    }

    /// Links are left out: nothing can be mounted on one.
    fn tools(&mut self, paths: impl Iterator<Item = PathBuf>) {
        let there =
            paths.filter(|path| fs::symlink_metadata(path).is_ok_and(|it| !it.is_symlink()));
        self.paths
            .extend(there.map(|path| (path, Access::ReadOnly)));
    }

    /// Those that are shown in this way.
    pub(crate) fn shown(&self, access: Access) -> impl Iterator<Item = &PathBuf> {
        let paths = self.paths.iter().filter(move |(_, shown)| *shown == access);
        paths.map(|(path, _)| path)
    }

    /// What a person should know before code runs there: which of their tools will not work in it, or are not kept from
    /// it. `None` where none of them is concerned.
    pub fn notice(&self, enforced: bool) -> Option<String> {
        let is_own = |path: &Path| is_settings(path);
        let tools: Vec<&PathBuf> = self
            .shown(Access::ReadOnly)
            .filter(|path| !is_own(path))
            .collect();
        if tools.is_empty() {
            return None;
        }
        let list = |paths: &[&PathBuf]| {
            let mut names: Vec<String> = paths.iter().map(|path| short(path)).collect();
            names.dedup();
            names.join(", ")
        };
        if !enforced {
            return Some(format!(
                "At this level of the sandbox code can change what your other tools execute: {}. What it changes of \
                 that is named when it has run.",
                list(&tools)
            ));
        }
        let of_git = tools.iter().any(|path| is_of_git(path));
        let git = match of_git {
            true => {
                " Inside, `git config`, `git remote add`, `git branch -m` and `git push -u` do not work; \
                 --allow-git-config lets them."
            }
            false => "",
        };
        Some(format!(
            "Code cannot change what your other tools execute: {}.{git}",
            list(&tools)
        ))
    }
}

fn is_of_git(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with(GIT))
}

/// The last name of a path, of what is in `.git` the last two.
fn short(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match is_of_git(path) {
        true => format!("{GIT}/{}", escape_line(&name)),
        false => escape_line(&name).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_empty_and_what_tools_execute_cannot_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path(".git/hooks")).unwrap();
        fs::create_dir(path(".vscode")).unwrap();
        fs::write(path("heddle.toml"), "mine").unwrap();
        std::os::unix::fs::symlink(".vscode", path(".idea")).unwrap();
        let find = |git_config| {
            let folders = [folder.path().to_path_buf()];
            Kept::find(&folders, git_config).unwrap()
        };
        let (empty, read) = (Access::Empty, Access::ReadOnly);
        let kept = find(false);
        assert_eq!(
            kept.paths,
            [
                (path("heddle.toml"), empty),
                (path(".git"), Access::InPlace),
                (path(".git/hooks"), read),
                (path(".vscode"), read),
            ]
        );
        let notice = kept.notice(true).unwrap();
        assert!(
            notice.contains(".git/hooks, .vscode. Inside, `git config`"),
            "{notice}"
        );
        assert_eq!(
            find(true).paths,
            [(path("heddle.toml"), empty), (path(".vscode"), read)]
        );
        // Of a worktree.
        fs::remove_dir_all(path(".git")).unwrap();
        fs::write(path(".git"), "gitdir: elsewhere").unwrap();
        assert!(find(false).paths.contains(&(path(".git"), read)));
    }

    #[test]
    fn a_link_of_the_users_own_stays_and_one_that_code_could_change_is_refused() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folders = [folder.path().canonicalize().unwrap()];
        let link = folders[0].join("heddle.toml");
        fs::write(other.path().join("mine.toml"), "mine").unwrap();
        std::os::unix::fs::symlink(other.path().join("mine.toml"), &link).unwrap();
        assert_eq!(Kept::find(&folders, false), Ok(Kept::default()));

        fs::remove_file(&link).unwrap();
        fs::create_dir(folders[0].join("conf")).unwrap();
        fs::write(folders[0].join("conf/heddle.toml"), "").unwrap();
        std::os::unix::fs::symlink("conf/heddle.toml", &link).unwrap();
        let refused = Kept::find(&folders, false).unwrap_err();
        assert!(refused.contains("conf/heddle.toml"), "{refused}");
        // By way of something that leads out now.
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(other.path(), folders[0].join("shared")).unwrap();
        std::os::unix::fs::symlink("./shared/mine.toml", &link).unwrap();
        Kept::find(&folders, false).unwrap_err();
    }
}
