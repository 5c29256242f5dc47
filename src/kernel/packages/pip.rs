//! Calls to pip, the one of the kernel's own Python: it alone knows what fits that Python and its machine.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::PackagesError;
use super::interpreter::{Asked, Said};
use super::lock::{self, Pin};
use super::requirement::{Requirement, is_name, is_version, normalized};

/// The most that is read of a report, in bytes.
const LONGEST_REPORT: u64 = 64 << 20;

/// Signs in what pip prints that it did not get through to the index.
const OFFLINE: &[&str] = &[
    "after connection broken by",
    "Max retries exceeded",
    "Could not fetch URL",
    "Read timed out",
];

/// A sign that a file is not the one that was pinned.
const OTHER_FILE: &str = "THESE PACKAGES DO NOT MATCH THE HASHES";

/// One of pip's own lines with more to say than that something failed.
const NO_MATCH: &str = "No matching distribution found for ";

/// What the environment has, normalized name to version.
pub(super) async fn installed(python: &Asked) -> Result<BTreeMap<String, String>, PackagesError> {
    let said = python.run(&["installed".into()], &mut |_| {}).await?;
    parsed(&said)
}

/// Which of the packages in the folder `site` the `roots` and their dependencies are.
pub(super) async fn needed(
    python: &Asked,
    site: &Path,
    roots: impl Iterator<Item = String>,
) -> Result<Vec<String>, PackagesError> {
    let mut args = vec!["needed".into(), site.to_string_lossy().into_owned()];
    args.extend(roots);
    let said = python.run(&args, &mut |_| {}).await?;
    parsed(&said)
}

fn parsed<'a, T: Deserialize<'a>>(said: &'a Said) -> Result<T, PackagesError> {
    let failed = || PackagesError::Pip {
        said: last_lines(&said.stderr),
    };
    match said.done {
        true => serde_json::from_str(&said.stdout).map_err(|_| failed()),
        false => Err(failed()),
    }
}

/// What there is to install for the pins that are there and the wishes that are new: wheels alone, nothing of what the
/// environment has, and nothing that would change it.
pub(super) async fn resolve(
    python: &Asked,
    folder: &Path,
    pins: &[Pin],
    wishes: &[Requirement],
    progress: super::Progress<'_>,
) -> Result<Vec<Pin>, PackagesError> {
    let fixed = installed(python).await?;
    let constraints: String = fixed
        .iter()
        .filter(|(name, version)| is_name(name) && is_version(version))
        .map(|(name, version)| format!("{name}=={version}\n"))
        .collect();
    let (constraints_file, report_file) = (folder.join("constraints"), folder.join("report"));
    std::fs::write(&constraints_file, constraints)
        .map_err(PackagesError::folder(&constraints_file))?;
    let mut args = install();
    args.extend(["--dry-run", "--report"].map(str::to_owned));
    args.push(report_file.to_string_lossy().into_owned());
    args.push("--constraint".into());
    args.push(constraints_file.to_string_lossy().into_owned());
    args.push("--".into());
    // What the environment has by now comes first on the path, whatever the overlay has.
    let kept = pins.iter().filter(|pin| !fixed.contains_key(&pin.name));
    args.extend(kept.map(|pin| format!("{}=={}", pin.root(), pin.version)));
    args.extend(wishes.iter().map(ToString::to_string));
    let said = python
        .run(&args, &mut |line| {
            if let Some(package) = line.strip_prefix("Collecting ") {
                progress(&format!("Looking up {}", first_word(package)));
            }
        })
        .await?;
    if !said.done {
        return Err(explained(python, &said).await);
    }
    let mut text = String::new();
    std::fs::File::open(&report_file)
        .and_then(|file| {
            use std::io::Read;
            file.take(LONGEST_REPORT).read_to_string(&mut text)
        })
        .map_err(PackagesError::folder(&report_file))?;
    let report: Report = serde_json::from_str(&text).map_err(|error| PackagesError::Pip {
        said: format!("its report cannot be read: {error}"),
    })?;
    report
        .install
        .into_iter()
        .map(|item| item.pin(pins, wishes))
        .collect()
}

/// Installs exactly these packages into the folder `site`.
pub(super) async fn fetch(
    python: &Asked,
    folder: &Path,
    site: &Path,
    pins: &[Pin],
    progress: super::Progress<'_>,
) -> Result<(), PackagesError> {
    let list = folder.join("fetch");
    // pip checks all hashes or none.
    let hashed = pins.iter().all(|pin| pin.sha256.is_some());
    let pins: Vec<Pin> = pins
        .iter()
        .map(|pin| Pin {
            extras: Vec::new(),
            sha256: pin.sha256.clone().filter(|_| hashed),
            ..pin.clone()
        })
        .collect();
    std::fs::write(&list, lock::written(&pins)).map_err(PackagesError::folder(&list))?;
    let mut args = install();
    args.extend(["--no-deps", "--requirement"].map(str::to_owned));
    args.push(list.to_string_lossy().into_owned());
    args.push("--target".into());
    args.push(site.to_string_lossy().into_owned());
    let said = python
        .run(&args, &mut |line| {
            if let Some(package) = line.strip_prefix("Collecting ") {
                progress(&format!("Fetching {}", first_word(package)));
            } else if line.starts_with("Installing") {
                progress("Installing the packages");
            }
        })
        .await?;
    match said.done {
        true => Ok(()),
        false => Err(explained(python, &said).await),
    }
}

/// The beginning of every installation: no build code runs, and nobody is asked anything.
fn install() -> Vec<String> {
    [
        "pip",
        "install",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--no-color",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[derive(Deserialize)]
struct Report {
    install: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    download_info: DownloadInfo,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DownloadInfo {
    archive_info: ArchiveInfo,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArchiveInfo {
    hashes: BTreeMap<String, String>,
}

impl Item {
    fn pin(self, pins: &[Pin], wishes: &[Requirement]) -> Result<Pin, PackagesError> {
        let (name, version) = (normalized(&self.metadata.name), self.metadata.version);
        if !is_name(&name) || !is_version(&version) {
            return Err(PackagesError::Pip {
                said: "it names a package whose name or version is malformed".into(),
            });
        }
        let before = pins.iter().find(|pin| pin.name == name);
        let mut extras: Vec<String> = before.map_or_else(Vec::new, |pin| pin.extras.clone());
        let wished = wishes.iter().filter(|wish| wish.key() == name);
        extras.extend(wished.clone().flat_map(|wish| wish.extras().to_vec()));
        extras.sort();
        extras.dedup();
        let hash = self.download_info.archive_info.hashes.get("sha256");
        Ok(Pin {
            extras,
            version,
            sha256: hash.filter(|hash| lock::is_hash(hash)).cloned(),
            asked: before.is_some_and(|pin| pin.asked) || wished.count() > 0,
            name,
        })
    }
}

/// What pip's failure means.
async fn explained(python: &Asked, said: &Said) -> PackagesError {
    let lines = || said.stderr.lines().chain(said.stdout.lines());
    if let Some(line) = lines().find(|line| OFFLINE.iter().any(|sign| line.contains(sign))) {
        return PackagesError::Offline {
            said: short_of_connection(line),
        };
    }
    if lines().any(|line| line.contains(OTHER_FILE)) {
        return PackagesError::Hash {
            said: last_lines(&said.stderr),
        };
    }
    let missing = lines().find_map(|line| Some(line.split_once(NO_MATCH)?.1.trim().to_owned()));
    if let Some(missing) = missing {
        // pip says the same of what does not exist and of what has no wheel: ask it for the versions of any kind.
        let name = Requirement::parse(&missing).map(|wish| wish.key());
        let Ok(name) = name else {
            return PackagesError::NoSuchPackage { name: missing };
        };
        let args = [
            "pip",
            "index",
            "versions",
            "--disable-pip-version-check",
            "--",
            &name,
        ];
        let versions = python.run(&args.map(str::to_owned), &mut |_| {}).await;
        return match versions {
            Ok(versions) if versions.done => PackagesError::NoWheel { wish: missing },
            _ => PackagesError::NoSuchPackage { name: missing },
        };
    }
    let conflict = lines()
        .skip_while(|line| !line.contains("The conflict is caused by"))
        .skip(1);
    let conflict: Vec<&str> = conflict
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .take(10)
        .collect();
    if !conflict.is_empty() {
        return PackagesError::Conflict {
            said: conflict
                .join("\n")
                .replace("The user requested (constraint)", "The environment has")
                .replace("The user requested", "Asked for is"),
        };
    }
    PackagesError::Pip {
        said: last_lines(&said.stderr),
    }
}

/// Of pip's line on a broken connection, what broke it.
fn short_of_connection(line: &str) -> String {
    let line = line.rsplit("broken by '").next().unwrap_or(line);
    let line = line.rsplit_once(">: ").map_or(line, |(_, reason)| reason);
    let line = line.split_once("')").map_or(line, |(reason, _)| reason);
    line.trim_end_matches(['.', '\'', ' ']).to_owned()
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or(text)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_told_in_its_own_words() {
        let line = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip._vendor.X \
                    object at 0x7fcc>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/six/";
        let told = short_of_connection(line);
        let reason = "Failed to establish a new connection: [Errno 111] Connection refused";
        assert_eq!(told, reason);
    }
}
