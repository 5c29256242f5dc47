//! What crashed runs left behind: folders and containers of kernels that are gone.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Uid;

use super::Check;
use crate::isolation::STRANGER;
use crate::kernel::container::{self, Engine, EngineProblem};
use crate::kernel::{is_listened_to, is_own_name};

/// Younger folders may belong to a kernel that is starting.
const GRACE: Duration = Duration::from_secs(60);
/// Names that a line shows.
const SHOWN: usize = 3;

pub(super) async fn check(engine: &Result<Engine, EngineProblem>, fix: bool) -> Check {
    let folders = find();
    let (containers, unseen) = containers(engine.as_ref()).await;
    let names: Vec<String> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .chain(containers.iter().map(ToString::to_string))
        .collect();
    if names.is_empty() {
        return match unseen {
            None => Check::pass("leftovers", "none"),
            Some((why, next)) => Check::warn("leftovers", format!("none that runs; {why}"), next),
        };
    }
    if !fix {
        let found = format!("of kernels that are gone: {}", some_of(&names));
        return Check::warn("leftovers", found, "heddle doctor --fix");
    }
    container::remove_leftovers(engine.as_ref().ok(), &containers).await;
    let failed: Vec<String> = folders
        .iter()
        .filter_map(|folder| {
            let error = crate::isolation::remove_folder(folder).err()?;
            Some(format!("{}: {error}", folder.display()))
        })
        .collect();
    match failed.is_empty() {
        true => Check::pass("leftovers", format!("removed {}", some_of(&names))),
        false => Check::warn("leftovers", failed.join("; "), "remove them by hand"),
    }
}

/// What is left of containers, and where not all of it can be seen why, and what to type.
async fn containers(
    engine: Result<&Engine, &EngineProblem>,
) -> (Vec<container::Leftover>, Option<(String, String)>) {
    let unseen = match engine {
        Ok(engine) => match container::leftovers(Some(engine)).await {
            Ok(left) => return (left, None),
            Err(error) => Some((
                format!(
                    "the container engine at {} does not say what it has: {error}",
                    engine.socket.display()
                ),
                "docker info".to_owned(),
            )),
        },
        Err(problem) => problem.may_have_containers().then(|| {
            let why = "what a container engine still has that does not answer is not known";
            (why.to_owned(), problem.remedy())
        }),
    };
    let left = container::leftovers(None).await;
    (left.unwrap_or_default(), unseen)
}

/// Folders of this user's that Heddle made for kernels or connections, and that no process listens in or names any more.
fn find() -> Vec<PathBuf> {
    let me = Uid::effective();
    let lines = command_lines();
    let mut found = Vec::new();
    for root in crate::kernel::folder_roots() {
        for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = entry.path();
            let Ok(meta) = entry.metadata() else { continue };
            let old = meta
                .modified()
                .ok()
                .and_then(|time| time.elapsed().ok())
                .is_some_and(|age| age > GRACE);
            let ours = is_ours(&name) && meta.is_dir() && owners(me).contains(&meta.uid());
            let in_use = || {
                is_listened_to(&path) == Some(true) || lines.iter().any(|line| names(line, &path))
            };
            if ours && old && !in_use() {
                found.push(path);
            }
        }
    }
    found
}

/// Whom such folders of a user's belong to: root gives them away to the user inside.
fn owners(user: Uid) -> Vec<u32> {
    let stranger = user.is_root().then_some(STRANGER);
    [user.as_raw()].into_iter().chain(stranger).collect()
}

/// A kernel's folder, or `heddle-link-` and anything.
fn is_ours(name: &str) -> bool {
    name.starts_with("heddle-link-") || is_own_name(name)
}

/// So many names as one reads.
fn some_of(names: &[String]) -> String {
    match names.get(SHOWN..) {
        Some(rest @ [_, ..]) => format!("{} and {} more", names[..SHOWN].join(", "), rest.len()),
        _ => names.join(", "),
    }
}

fn names(command_line: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    command_line.windows(path.len()).any(|part| part == path)
}

fn command_lines() -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_looks_for_what_it_gave_away() {
        assert_eq!(owners(Uid::from_raw(0)), [0, STRANGER]);
        assert_eq!(owners(Uid::from_raw(1000)), [1000]);
    }

    #[test]
    fn many_names_are_counted() {
        let names = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(some_of(&names(3)), "0, 1, 2");
        assert_eq!(some_of(&names(5)), "0, 1, 2 and 2 more");
    }

    #[test]
    fn only_folders_of_the_exact_form_are_ours() {
        assert!(is_ours("heddle-0123456789abcdef0123456789abcdef"));
        assert!(is_ours("heddle-link-Xy12"));
        for other in [
            "heddle",
            "heddle-notes",
            "heddle-0123456789abcdef0123456789abcdeg",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
