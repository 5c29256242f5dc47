//! Pins that lie in a project. Code and strangers can write there, so they are a proposal: nothing is installed from them,
//! let alone imported, before a person has seen them.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::lock::{self, Pin};
use super::{PackagesError, overlay};
use crate::way;

/// The file that `heddle env export` writes.
pub const FILE: &str = "heddle-packages.txt";
/// Where earlier versions have kept the packages themselves.
const EARLIER: &str = ".heddle/packages";

/// The most that is read of a proposal, in bytes.
const LONGEST: u64 = 1 << 20;

/// Packages that somebody proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub path: PathBuf,
    pub pins: Vec<Pin>,
    /// Whether it is what an earlier version had installed into the project.
    pub is_earlier: bool,
}

/// What the project proposes for Pythons of this tag.
pub(super) fn find(project: &Path, tag: &str) -> Result<Option<Proposal>, PackagesError> {
    if let Some(found) = read(project.join(FILE), false)? {
        return Ok(Some(found));
    }
    let folder = project.join(EARLIER).join(tag);
    // Earlier versions made no links here.
    if !way::follow(&folder).links.is_empty() {
        return Ok(None);
    }
    match overlay::used(&folder) {
        Ok(Some(generation)) => read(generation.join(overlay::LOCK), true),
        _ => Ok(None),
    }
}

fn read(path: PathBuf, is_earlier: bool) -> Result<Option<Proposal>, PackagesError> {
    let mut options = File::options();
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(PackagesError::Link { path });
        }
        file => file.map_err(PackagesError::folder(&path))?,
    };
    let mut bytes = Vec::new();
    let whole = file.metadata().and_then(|meta| {
        file.take(LONGEST).read_to_end(&mut bytes)?;
        Ok(meta.is_file() && (bytes.len() as u64) < LONGEST)
    });
    let whole = whole.map_err(PackagesError::folder(&path))?;
    let text = String::from_utf8(bytes).ok().filter(|_| whole);
    let pins = match text {
        Some(text) => lock::read(&text),
        None => Err("no text of less than a mebibyte".to_owned()),
    };
    let pins = pins.map_err(|line| PackagesError::Proposal {
        path: path.clone(),
        line,
    })?;
    Ok(Some(Proposal {
        path,
        pins,
        is_earlier,
    }))
}

/// Writes these pins into the project. A link in the place of the file is replaced, not followed.
pub(super) fn write(project: &Path, tag: &str, pins: &[Pin]) -> Result<PathBuf, PackagesError> {
    let path = project.join(FILE);
    let head = format!(
        "# Packages for the kernels of this project, as pinned for {tag}.\n\
         # Written by: heddle env export. To install them where this is checked out: heddle env sync\n"
    );
    let written = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(project)
        .and_then(|mut file| {
            file.write_all((head + &lock::lines(pins)).as_bytes())?;
            Ok(file.persist(&path)?)
        });
    written.map_err(PackagesError::folder(&path))?;
    Ok(path)
}
