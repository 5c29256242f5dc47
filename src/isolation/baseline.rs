//! What other programs execute in the folders that an isolated kernel can write to, as it was before its code ran, and what
//! became of it.
//!
//! A mount on a file lasts until somebody outside replaces that file, and not everything can be kept from code. So what
//! is at the top of a folder is compared with a copy, in memory, where no code can change it; and what merely may be
//! executed later, such as tests and environments, is looked for by name.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::kept::{GIT, GIT_PROGRAMS, TOOLS};
use super::resolve::escaped;
use crate::printable::{escape_line, shell_word};

/// Bytes of one file that are copied, and of all of them.
const FILE: u64 = 64 << 10;
const ALL: usize = 4 << 20;
/// Files and folders that are looked at, and how deep.
const MOST: usize = 5000;
const DEEPEST: usize = 6;
/// Lines that are shown of one file, and characters of a line.
const LINES: usize = 20;
const LINE: usize = 160;
/// Names that are told in one line.
const NAMES: usize = 12;
/// Copies that are left for people, the newest ones.
const COPIES: usize = 20;

/// Folders with so many files that nobody executes by chance.
const PASSED_OVER: &[&str] = &[GIT, "node_modules", "__pycache__"];

/// What is looked for by name: Python executes it when it starts, or a test runner does.
const BY_NAME: &[&str] = &["sitecustomize.py", "conftest.py", "pyvenv.cfg"];
const ENVIRONMENT: &str = ".venv";

/// Which file it is, and when something about it was changed last, which nobody can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        Stamp {
            inode: meta.ino(),
            // That of a folder says nothing.
            size: if meta.is_dir() { 0 } else { meta.len() },
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// A file at the top of a folder that other programs execute or obey.
#[derive(Clone, Debug)]
struct Guarded {
    stamp: Stamp,
    /// What it says; what a link leads to. `None` for one that is too large.
    content: Option<Vec<u8>>,
    is_file: bool,
}

/// The files before code ran.
#[derive(Default)]
pub struct Baseline {
    folders: Vec<PathBuf>,
    /// Whether code may change Git's configuration.
    git_config: bool,
    guarded: BTreeMap<PathBuf, Guarded>,
    named: BTreeMap<PathBuf, Stamp>,
    /// How the files were when they were told of.
    told: BTreeMap<PathBuf, Option<Stamp>>,
    /// Where copies are put for people: outside of everything that code can write to.
    copies: Option<PathBuf>,
}

impl Baseline {
    /// Takes what is there now. `copies` is a folder that is made where one is needed. Blocking.
    pub fn take(folders: Vec<PathBuf>, git_config: bool, copies: Option<PathBuf>) -> Baseline {
        let mut baseline = Baseline {
            guarded: BTreeMap::new(),
            named: BTreeMap::new(),
            told: BTreeMap::new(),
            folders,
            git_config,
            copies,
        };
        baseline.guarded = baseline.guarded_now();
        baseline.named = baseline.named_now();
        baseline
    }

    /// What has changed of what was there, and was not told of yet: one text for each file, with the lines that differ and
    /// the command that puts the copy back. Blocking.
    pub fn changes(&mut self) -> Vec<String> {
        let mut texts = Vec::new();
        for path in self.guarded.keys().cloned().collect::<Vec<_>>() {
            let Some(before) = self.guarded.get(&path) else {
                continue;
            };
            let meta = fs::symlink_metadata(&path).ok();
            let stamp = meta.as_ref().map(Stamp::of);
            let known = self.told.get(&path).copied();
            if stamp == Some(before.stamp) || known == Some(stamp) {
                continue;
            }
            let now = meta.and_then(|meta| Guarded::read(&path, &meta, &mut { ALL }));
            self.told.insert(path.clone(), stamp);
            let same = now.as_ref().is_some_and(|now| {
                now.is_file == before.is_file && now.content == before.content
                    // Without a copy the stamp is all that there is.
                    && now.content.is_some()
            });
            if !same {
                texts.push(self.change(&path, before, now.as_ref()));
            }
        }
        texts
    }

    fn change(&self, path: &Path, before: &Guarded, now: Option<&Guarded>) -> String {
        let what = match now {
            None => "is gone",
            Some(_) => "has changed",
        };
        let mut text = format!(
            "{} {what} while code ran, and other programs execute or obey what it says.",
            escaped(path)
        );
        let lines = |guarded: Option<&Guarded>| {
            let content = guarded.and_then(|guarded| guarded.content.clone());
            let text = String::from_utf8_lossy(&content.unwrap_or_default()).into_owned();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let (old, new) = (lines(Some(before)), lines(now));
        // Code chooses how many lines there are.
        let (had, has): (HashSet<_>, HashSet<_>) = (old.iter().collect(), new.iter().collect());
        let gone = old.iter().filter(|line| !has.contains(line));
        let come = new.iter().filter(|line| !had.contains(line));
        let marked = gone
            .map(|line| ('-', line))
            .chain(come.map(|line| ('+', line)));
        let marked: Vec<_> = marked.collect();
        for (mark, line) in marked.iter().take(LINES) {
            let line: String = line.chars().take(LINE).collect();
            text.push_str(&format!("\n  {mark} {}", escape_line(&line)));
        }
        if marked.len() > LINES {
            text.push_str(&format!("\n  … and {} lines more", marked.len() - LINES));
        }
        if let Some(copy) = self.copy(path, before) {
            let word = |path: &Path| shell_word(&path.to_string_lossy()).into_owned();
            let (copy, path) = (word(&copy), word(path));
            // What is no file now, such as a link, is not written through.
            let first = match now.is_none_or(|now| now.is_file) {
                true => String::new(),
                false => format!("rm -r {path} && "),
            };
            text.push_str(&format!(
                "\nTo put it back as it was: {first}cp {copy} {path}"
            ));
        }
        text
    }

    /// Writes a copy of what was there to where a person finds it.
    fn copy(&self, path: &Path, before: &Guarded) -> Option<PathBuf> {
        use std::io::Write;
        let content = before.content.as_ref().filter(|_| before.is_file)?;
        let root = self.copies.as_ref()?;
        let mut folders = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(folders.recursive(true), 0o700);
        folders.create(root).ok()?;
        let mut old: Vec<_> = fs::read_dir(root)
            .ok()?
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        old.sort();
        for (_, path) in old.iter().rev().skip(COPIES - 1) {
            let _ = fs::remove_file(path);
        }
        let name = path
            .file_name()
            .unwrap_or(OsStr::new("file"))
            .to_string_lossy();
        let copy = root.join(format!("{}-{name}", uuid::Uuid::new_v4().simple()));
        let mut options = fs::File::options();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&copy)
            .ok()?;
        file.write_all(content).ok()?;
        Some(copy)
    }

    /// One line that names what appeared or changed and is executed by other programs; `None` where nothing has. Blocking.
    pub fn left_behind(&self) -> Option<String> {
        let before = self.guarded.iter().map(|(path, it)| (path, it.stamp));
        let before: BTreeMap<_, _> = before
            .chain(self.named.iter().map(|(path, stamp)| (path, *stamp)))
            .collect();
        let guarded = self.guarded_now();
        let now = guarded.iter().map(|(path, it)| (path, it.stamp));
        let named = self.named_now();
        let now = now.chain(named.iter().map(|(path, stamp)| (path, *stamp)));
        let differs = |(path, stamp): &(&PathBuf, Stamp)| {
            before.get(path) != Some(stamp)
                // A copy that was written back, or touched.
                && match (self.guarded.get(*path), guarded.get(*path)) {
                    (Some(old), Some(new)) => old.content.is_none() || old.content != new.content,
                    _ => true,
                }
        };
        let paths: Vec<&PathBuf> = now.filter(differs).map(|(path, _)| path).collect();
        if paths.is_empty() {
            return None;
        }
        let mut names: Vec<String> = paths.iter().take(NAMES).map(|path| escaped(path)).collect();
        if paths.len() > NAMES {
            names.push(format!("and {} more", paths.len() - NAMES));
        }
        Some(format!(
            "Made or changed while code ran, and executed by other programs when you work there: {}. Look at them first.",
            names.join(", ")
        ))
    }

    fn guarded_now(&self) -> BTreeMap<PathBuf, Guarded> {
        let mut found = BTreeMap::new();
        let mut left = ALL;
        let git = |folder: &PathBuf| {
            let git = folder.join(GIT);
            match git.is_dir() && !git.is_symlink() {
                true => GIT_PROGRAMS.iter().map(|name| git.join(name)).collect(),
                false => vec![git],
            }
        };
        let tools = |folder: &PathBuf| {
            TOOLS
                .iter()
                .map(|name| folder.join(name))
                .collect::<Vec<_>>()
        };
        for folder in &self.folders {
            let git: Vec<PathBuf> = if self.git_config {
                Vec::new()
            } else {
                git(folder)
            };
            for top in git.into_iter().chain(tools(folder)) {
                for (path, meta) in walk(&top, DEEPEST) {
                    if !meta.is_dir()
                        && let Some(guarded) = Guarded::read(&path, &meta, &mut left)
                    {
                        found.insert(path, guarded);
                    }
                }
            }
        }
        found
    }

    fn named_now(&self) -> BTreeMap<PathBuf, Stamp> {
        let is_named = |path: &Path, meta: &Metadata| {
            let name = path.file_name().unwrap_or_default();
            let in_environment = || {
                let parent = path.parent().unwrap_or(path);
                parent.ends_with("bin")
                    && parent.parent().is_some_and(|it| it.ends_with(ENVIRONMENT))
            };
            match meta.is_dir() {
                true => name == ENVIRONMENT,
                false => {
                    BY_NAME.iter().any(|known| name == *known)
                        || path.extension() == Some(OsStr::new("pth"))
                        || in_environment()
                }
            }
        };
        let all = self.folders.iter().flat_map(|folder| walk(folder, DEEPEST));
        all.filter(|(path, meta)| is_named(path, meta))
            .map(|(path, meta)| (path, Stamp::of(&meta)))
            .collect()
    }
}

impl Guarded {
    fn read(path: &Path, meta: &Metadata, left: &mut usize) -> Option<Guarded> {
        let content = match meta.is_symlink() {
            true => Some(
                fs::read_link(path)
                    .ok()?
                    .into_os_string()
                    .into_encoded_bytes(),
            ),
            false if meta.is_file() && meta.len() <= FILE => content(path, *left),
            false => None,
        };
        *left -= content.as_ref().map_or(0, Vec::len).min(*left);
        Some(Guarded {
            stamp: Stamp::of(meta),
            content,
            is_file: meta.is_file(),
        })
    }
}

/// Reads a small file, and nothing else that was put in its place.
fn content(path: &Path, left: usize) -> Option<Vec<u8>> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = fs::File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut content = Vec::new();
    file.take(FILE + 1).read_to_end(&mut content).ok()?;
    (content.len() as u64 <= FILE && content.len() <= left).then_some(content)
}

/// A file or folder and what is below it, what is near first, within bounds. No link is followed.
fn walk(top: &Path, deepest: usize) -> Vec<(PathBuf, Metadata)> {
    let mut found = Vec::new();
    let mut next = VecDeque::from([(top.to_path_buf(), 0)]);
    while let Some((path, depth)) = next.pop_front() {
        if found.len() >= MOST {
            break;
        }
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let name = path.file_name().unwrap_or_default();
        let passed_over = depth > 0 && PASSED_OVER.iter().any(|known| name == *known);
        if meta.is_dir() && depth < deepest && !passed_over {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            let room = MOST.saturating_sub(found.len() + next.len());
            next.extend(entries.take(room).map(|entry| (entry.path(), depth + 1)));
        }
        found.push((path, meta));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_shown_line_by_line_once_and_can_be_put_back() {
        let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = folder.path().join(".git/config");
        fs::create_dir(folder.path().join(".git")).unwrap();
        fs::write(&config, "[core]\n\tbare = false\n").unwrap();
        let folders = vec![folder.path().to_path_buf()];
        let mut baseline = Baseline::take(folders, false, Some(copies.path().join("copies")));
        assert_eq!(baseline.changes(), [""; 0]);
        assert_eq!(baseline.left_behind(), None);
        fs::write(
            &config,
            "[core]\n\tbare = false\n\tfsmonitor = \x1b[8mevil\n",
        )
        .unwrap();
        let told = baseline.changes();
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains("\n  + \\tfsmonitor = \\x1b[8mevil\n"),
            "{}",
            told[0]
        );
        assert!(!told[0].contains("bare"), "{}", told[0]);
        assert_eq!(baseline.changes(), [""; 0]);
        assert!(baseline.left_behind().unwrap().contains(".git/config"));
        let (_, command) = told[0].rsplit_once("To put it back as it was: ").unwrap();
        let back = std::process::Command::new("sh")
            .args(["-c", command])
            .status();
        assert!(back.unwrap().success());
        assert_eq!(
            fs::read_to_string(&config).unwrap(),
            "[core]\n\tbare = false\n"
        );
        assert_eq!(baseline.changes(), [""; 0]);
        assert_eq!(baseline.left_behind(), None);
        // A link in its place is not written through.
        let other = folder.path().join("other");
        fs::write(&other, "mine").unwrap();
        fs::remove_file(&config).unwrap();
        std::os::unix::fs::symlink(&other, &config).unwrap();
        let told = baseline.changes();
        let (_, command) = told[0].rsplit_once("To put it back as it was: ").unwrap();
        std::process::Command::new("sh")
            .args(["-c", command])
            .status()
            .unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
        assert!(config.is_file() && !config.is_symlink());
    }

    #[test]
    fn what_other_programs_execute_is_named_where_it_appears_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("tests")).unwrap();
        fs::write(path("tests/conftest.py"), "").unwrap();
        let mut baseline = Baseline::take(vec![folder.path().to_path_buf()], false, None);
        fs::create_dir_all(path(".venv/lib/python3.12/site-packages")).unwrap();
        fs::write(path(".venv/lib/python3.12/site-packages/x.pth"), "").unwrap();
        fs::create_dir(path("a")).unwrap();
        fs::create_dir(path(".vscode")).unwrap();
        fs::write(path(".vscode/tasks.json"), "").unwrap();
        fs::write(path("harmless.py"), "").unwrap();
        for number in 0..MOST {
            fs::create_dir(path(&format!("a/{number}"))).unwrap();
        }
        assert_eq!(baseline.changes(), [""; 0]);
        let line = baseline.left_behind().unwrap();
        for name in [".venv", ".vscode/tasks.json"] {
            assert!(line.contains(&path(name).display().to_string()), "{line}");
        }
        assert!(
            !line.contains("conftest") && !line.contains("harmless"),
            "{line}"
        );
    }
}
