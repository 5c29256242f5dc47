//! Folders that untrusted code fills: how much is in one, and how it is removed whatever is in it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// What a name takes, whatever it names.
const ENTRY: u64 = 1024;
/// Deeper than any program goes, and far from the length at which paths end.
const DEEPEST: usize = 100;

/// Bytes that the folder takes, without the folders in `except`. All there is, where it is too deep to look into.
pub(super) fn size(folder: &Path, except: &[std::path::PathBuf]) -> u64 {
    let mut total = 0_u64;
    let mut folders = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if depth > DEEPEST {
            return u64::MAX;
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Of a link itself, not of what it leads to.
            let Ok(meta) = entry.metadata() else { continue };
            let path = entry.path();
            if meta.is_dir() && !except.contains(&path) {
                folders.push((path, depth + 1));
            }
            total = total.saturating_add(meta.blocks() * 512 + ENTRY);
        }
    }
    total
}

/// Removes a folder with everything in it: also folders without permissions, and deeper ones than can be named. Nobody
/// may be writing into it any more.
///
/// # Errors
/// What is in the way; a folder that is gone already is none.
pub fn remove(folder: &Path) -> io::Result<()> {
    if fs::symlink_metadata(folder).is_err() {
        return Ok(());
    }
    open_up(folder)?;
    let mut moved = 0_u64;
    while let Some(entry) = fs::read_dir(folder)?.next() {
        let path = entry?.path();
        if !fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_file(&path)?;
            continue;
        }
        // Its folders become its siblings: nothing ever lies deeper than two levels.
        open_up(&path)?;
        for inner in fs::read_dir(&path)? {
            let inner = inner?.path();
            if fs::symlink_metadata(&inner)?.is_dir() {
                open_up(&inner)?;
                fs::rename(&inner, free_name(folder, &mut moved))?;
            } else {
                fs::remove_file(&inner)?;
            }
        }
        fs::remove_dir(&path)?;
    }
    fs::remove_dir(folder)
}

fn free_name(folder: &Path, moved: &mut u64) -> std::path::PathBuf {
    loop {
        *moved += 1;
        let path = folder.join(format!(".{moved}"));
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
}

/// Lets its owner into a folder. It is none of somebody's else, nor a link: the caller has looked, and nobody is left
/// who could have put one there since.
fn open_up(folder: &Path) -> io::Result<()> {
    match fs::symlink_metadata(folder)?.permissions().mode() & 0o700 {
        0o700 => Ok(()),
        _ => fs::set_permissions(folder, PermissionsExt::from_mode(0o700)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn counts_files_and_names_but_not_what_links_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), [0; 8192]).unwrap();
        symlink("/usr", folder.path().join("usr")).unwrap();
        let counted = size(folder.path(), &[]);
        assert!((8192 + 2 * ENTRY..100_000).contains(&counted), "{counted}");
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("b"), [0; 1 << 20]).unwrap();
        assert!(size(folder.path(), &[]) > 1 << 20);
        assert!(size(folder.path(), &[inner]) < 100_000);
    }

    #[test]
    fn removes_what_is_closed_deep_and_linked() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        fs::create_dir_all(folder.join("closed/inner")).unwrap();
        fs::write(folder.join("closed/file"), "").unwrap();
        fs::create_dir(folder.join(".1")).unwrap();
        symlink(outside.path(), folder.join("closed/link")).unwrap();
        // Deeper than a path can name, and than there are descriptors.
        let shell = "cd $0; for i in $(seq 3000); do mkdir d; cd -P d; done";
        let made = std::process::Command::new("sh")
            .args(["-c", shell])
            .arg(&folder)
            .status();
        assert!(made.unwrap().success());
        fs::set_permissions(folder.join("closed/inner"), PermissionsExt::from_mode(0o0)).unwrap();
        fs::set_permissions(folder.join("closed"), PermissionsExt::from_mode(0o0)).unwrap();
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o0)).unwrap();
        assert_eq!(size(parent.path(), &[]), u64::MAX);
        remove(&folder).unwrap();
        assert!(!folder.exists());
        assert!(outside.path().join("kept").exists());
        remove(&folder).unwrap();
    }
}
