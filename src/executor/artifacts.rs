//! Files that running code leaves: rich outputs saved as files, and files that it wrote itself.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use serde_json::Value;

use crate::event::MimeBundle;
use crate::held::HeldFolder;

/// Files noted of a workspace, entries of folders looked at, how deep, and for how long: a cell that unpacks an archive
/// should not hold up the next one.
const MOST_FILES: usize = 5000;
const MOST_ENTRIES: usize = 50_000;
const DEEPEST: usize = 6;
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// How much later than the clock a file system may take a file for written.
const CLOCKS: Duration = Duration::from_secs(1);

/// A file of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    pub path: PathBuf,
    pub mime: String,
}

/// Where rich outputs go: settled before any code runs, so that no code can move it.
pub struct Folder {
    /// As it was named.
    shown: PathBuf,
    held: std::io::Result<HeldFolder>,
}

impl Folder {
    /// Makes the folder, if it is not there, and holds it. What is in the way is told each time that an output is saved.
    pub fn settle(path: &Path) -> Folder {
        Folder {
            shown: path.to_owned(),
            held: std::fs::create_dir_all(path).and_then(|()| HeldFolder::open(path)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.shown
    }

    /// Writes `stem.ending`, or `stem-2.ending` and so on where that exists: a file of the user's is never replaced.
    pub fn write_new(&self, stem: &str, ending: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
        let held = match &self.held {
            Ok(held) => held.name(),
            Err(error) => return Err(std::io::Error::new(error.kind(), error.to_string())),
        };
        let mut number = 1;
        loop {
            let name = match number {
                1 => format!("{stem}.{ending}"),
                n => format!("{stem}-{n}.{ending}"),
            };
            // A new file: a link at its name is in the way, and not followed.
            match std::fs::File::create_new(held.join(&name)) {
                Ok(mut file) => return file.write_all(bytes).map(|()| self.shown.join(name)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// MIME types and their file name endings. For an output that comes in several types, the first here is saved.
const TYPES: &[(&str, &str)] = &[
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/gif", "gif"),
    ("image/svg+xml", "svg"),
    ("application/pdf", "pdf"),
    ("text/html", "html"),
    ("text/csv", "csv"),
    ("application/json", "json"),
    ("application/geo+json", "geojson"),
    ("text/markdown", "md"),
    ("text/plain", "txt"),
    ("text/x-python", "py"),
    ("text/css", "css"),
    ("text/javascript", "js"),
    ("application/x-ipynb+json", "ipynb"),
    ("application/xml", "xml"),
    ("application/vnd.apache.parquet", "parquet"),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xlsx",
    ),
    ("application/zip", "zip"),
];

/// The MIME type that a file's name tells.
pub fn mime_of(path: &Path) -> &'static str {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let ending = ending.map(|ending| match ending.to_ascii_lowercase().as_str() {
        "jpeg" => "jpg".to_owned(),
        "htm" => "html".to_owned(),
        other => other.to_owned(),
    });
    TYPES
        .iter()
        .find(|(_, known)| Some(*known) == ending.as_deref())
        .map_or("application/octet-stream", |(mime, _)| mime)
}

/// Saves the best form of a rich output as a new file `stem.png` (or `.svg`, `.html`, …) in `folder`. `None` where the
/// output is only text, or a table that is shown as text as well.
pub fn save(folder: &Folder, stem: &str, data: &MimeBundle) -> std::io::Result<Option<Artifact>> {
    for (mime, ending) in TYPES
        .iter()
        .filter(|(mime, _)| *mime != "text/plain" && *mime != "text/markdown")
    {
        let Some(value) = data.get(*mime) else {
            continue;
        };
        if *mime == "text/html" && is_table(data) {
            return Ok(None);
        }
        return folder
            .write_new(stem, ending, &bytes_of(mime, value))
            .map(|path| {
                Some(Artifact {
                    path,
                    mime: (*mime).to_owned(),
                })
            });
    }
    // A chart as data (vega, plotly) that no general type goes with.
    let chart = data.iter().find(|(mime, _)| mime.ends_with("+json"));
    let Some((mime, value)) = chart else {
        return Ok(None);
    };
    let text = value.to_string();
    folder.write_new(stem, "json", text.as_bytes()).map(|path| {
        Some(Artifact {
            path,
            mime: mime.clone(),
        })
    })
}

/// Whether the output is a pandas table, whose text says the same as its HTML.
pub fn is_table(data: &MimeBundle) -> bool {
    data.get("text/html")
        .is_some_and(|html| text_of(html).contains("class=\"dataframe\""))
}

/// The text of a MIME value; some kernels send a list of lines.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        other => other.to_string(),
    }
}

/// The bytes of a MIME value's text.
pub fn length_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(lines) => lines.iter().map(length_of).sum(),
        other => other.to_string().len(),
    }
}

fn bytes_of(mime: &str, value: &Value) -> Vec<u8> {
    let text = text_of(value);
    let is_text = mime.starts_with("text/") || mime.ends_with("xml") || mime.ends_with("json");
    if is_text {
        return text.into_bytes();
    }
    let joined: String = text.split_ascii_whitespace().collect();
    base64::engine::general_purpose::STANDARD
        .decode(joined)
        .unwrap_or_else(|_| text.into_bytes())
}

/// The files of a workspace at one moment.
#[derive(Default)]
pub struct Snapshot {
    files: HashMap<PathBuf, (SystemTime, u64)>,
    /// When it was begun, where there was more than could be looked at.
    cut: Option<SystemTime>,
}

impl Snapshot {
    /// Looks at a folder and those below it, the outer ones first. Blocking, for a second or so.
    pub fn take(folder: &Path) -> Snapshot {
        let (now, begun) = (SystemTime::now(), Instant::now());
        let mut files = HashMap::new();
        let mut entries = 0;
        let mut folders = VecDeque::from([(folder.to_path_buf(), 0)]);
        while let Some((folder, depth)) = folders.pop_front() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                entries += 1;
                if entries > MOST_ENTRIES || begun.elapsed() > LONGEST_LOOK {
                    let cut = Some(now);
                    return Snapshot { files, cut };
                }
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with('.') || name == "__pycache__" || name == "node_modules" {
                    continue;
                }
                // Of the entry itself: a link is never followed out of the workspace.
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() && depth < DEEPEST {
                    folders.push_back((entry.path(), depth + 1));
                } else if meta.is_file() {
                    if files.len() == MOST_FILES {
                        let cut = Some(now);
                        return Snapshot { files, cut };
                    }
                    let time = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    files.insert(entry.path(), (time, meta.len()));
                }
            }
        }
        Snapshot { files, cut: None }
    }

    /// Whether there was more than could be looked at.
    pub fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// Files that are new here or changed since `before`, by name. Where that could not look at all files, what it has
    /// not seen is new if it was written since.
    pub fn since(&self, before: &Snapshot) -> Vec<Artifact> {
        let unseen = |written: SystemTime| before.cut.is_none_or(|cut| written + CLOCKS >= cut);
        let mut changed: Vec<Artifact> = self
            .files
            .iter()
            .filter(|(path, seen)| match before.files.get(*path) {
                Some(earlier) => earlier != *seen,
                None => unseen(seen.0),
            })
            .map(|(path, _)| Artifact {
                path: path.clone(),
                mime: mime_of(path).to_owned(),
            })
            .collect();
        changed.sort_by(|a, b| a.path.cmp(&b.path));
        changed
    }

    /// Every file with its size in bytes, by name.
    pub fn files(&self) -> Vec<(&Path, u64)> {
        let mut files: Vec<_> = self
            .files
            .iter()
            .map(|(path, (_, size))| (path.as_path(), *size))
            .collect();
        files.sort();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bundle(value: Value) -> MimeBundle {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_picture_is_saved_and_never_over_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let data = bundle(json!({"text/plain": "<Figure>", "image/png": "aGVk\nZGxl\n"}));
        let first = save(&Folder::settle(folder.path()), "figure-1", &data)
            .unwrap()
            .unwrap();
        let second = save(&Folder::settle(folder.path()), "figure-1", &data)
            .unwrap()
            .unwrap();
        assert_eq!(std::fs::read(&first.path).unwrap(), b"heddle");
        assert!(first.path.ends_with("figure-1.png"));
        assert!(second.path.ends_with("figure-1-2.png"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_is_swapped_for_a_link_gets_the_picture_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let (out, elsewhere) = (root.path().join("out"), root.path().join("elsewhere"));
        let folder = Folder::settle(&out);
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::rename(&out, root.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &out).unwrap();
        let data = bundle(json!({"image/png": "aGVkZGxl"}));
        save(&folder, "figure", &data).unwrap();
        assert!(root.path().join("moved/figure.png").is_file());
        assert!(!elsewhere.join("figure.png").exists());
        // Nor is a link at the very name followed.
        let target = root.path().join("target");
        std::os::unix::fs::symlink(&target, root.path().join("moved/next.png")).unwrap();
        save(&folder, "next", &data).unwrap();
        assert!(!target.exists() && root.path().join("moved/next-2.png").is_file());
    }

    #[test]
    fn text_and_tables_make_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let text = bundle(json!({"text/plain": "42"}));
        let table = bundle(json!({"text/html": ["<table border=\"1\" ", "class=\"dataframe\">"]}));
        assert_eq!(
            save(&Folder::settle(folder.path()), "x", &text).unwrap(),
            None
        );
        assert_eq!(
            save(&Folder::settle(folder.path()), "x", &table).unwrap(),
            None
        );
    }

    #[test]
    fn new_and_changed_files_are_found_and_hidden_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("old.csv"), "a").unwrap();
        let before = Snapshot::take(folder.path());
        std::fs::write(folder.path().join("old.csv"), "ab").unwrap();
        std::fs::write(folder.path().join("销售.html"), "").unwrap();
        std::fs::write(folder.path().join(".hidden"), "").unwrap();
        let found = Snapshot::take(folder.path()).since(&before);
        let names: Vec<_> = found.iter().map(|a| a.path.file_name().unwrap()).collect();
        assert_eq!(names, ["old.csv", "销售.html"]);
        assert_eq!(found[1].mime, "text/html");
    }

    #[test]
    fn a_workspace_of_any_size_is_looked_at_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - Duration::from_secs(3600);
        for number in 0..60 {
            let inner = folder.path().join(format!("{number}"));
            std::fs::create_dir(&inner).unwrap();
            for file in 0..100 {
                let file = std::fs::File::create(inner.join(format!("{file}"))).unwrap();
                file.set_modified(old).unwrap();
            }
        }
        let before = Snapshot::take(folder.path());
        assert_eq!(before.files.len(), MOST_FILES);
        // Of the files that it had no room for, none is new; one that is written now is.
        let all: Vec<PathBuf> = (0..60)
            .flat_map(|outer| (0..100).map(move |inner| format!("{outer}/{inner}")))
            .map(|name| folder.path().join(name))
            .collect();
        let whole = Snapshot {
            files: HashMap::from_iter(all.iter().map(|path| (path.clone(), (old, 0)))),
            cut: None,
        };
        assert_eq!(whole.since(&before), []);
        let new = folder.path().join("new");
        std::fs::write(&new, "x").unwrap();
        let mut now = whole;
        now.files.insert(new.clone(), (SystemTime::now(), 1));
        assert_eq!(now.since(&before).len(), 1);
    }
}
