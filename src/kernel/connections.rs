//! Connection files of running kernels: where they are, and whether one may be used.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt};
use tokio::time::Instant;

use super::folder::{self, CLIENTS, CLIENTS_FILE};
use super::{KernelError, discovery};
use crate::protocol::{Channel, ConnectionInfo};
use crate::transport::Heartbeat;

/// No connection file is nearly as long, in bytes.
const LONGEST: u64 = 64 << 10;
/// The most files that are looked at: a runtime folder keeps those of kernels that were killed.
const MOST: usize = 200;
/// How long a kernel may take to echo a beat when the newest that answers is looked for.
const ECHO: Duration = Duration::from_millis(1500);
/// How many ids an error names.
const NAMED: usize = 8;

/// A connection file, of a kernel that may have ended since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// By which a person names it.
    pub id: String,
    pub path: PathBuf,
    pub modified: SystemTime,
}

/// Jupyter's folder for running kernels, as jupyter_core's `jupyter_runtime_dir` finds it.
pub fn runtime_folder() -> Option<PathBuf> {
    std::env::var_os("JUPYTER_RUNTIME_DIR")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(discovery::user_data_folder()?.join("runtime")))
}

/// Where connection files are looked for, as people read it.
pub fn places() -> Vec<String> {
    let own = folder::roots();
    let own = own.iter().map(|root| root.join(format!("{CLIENTS}*")));
    let places = runtime_folder().into_iter().chain(own);
    let places = places.map(|place| place.display().to_string());
    places.chain(["Heddle's sessions".to_owned()]).collect()
}

/// This user's connection files, the newest first: Jupyter's `kernel-<ID>.json`, those that Heddle made for other
/// clients, and `more`. That of a kernel behind a bridge is not among them: what is held back for it there would not be.
fn list(more: &[PathBuf]) -> Vec<Found> {
    let jupyter = runtime_folder();
    let mut found: Vec<Found> = jupyter
        .iter()
        .flat_map(|folder| entries(folder))
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let id = name.strip_prefix("kernel-")?.strip_suffix(".json")?;
            ours(id.to_owned(), path)
        })
        .collect();
    let own = folder::roots();
    found.extend(
        own.iter()
            .flat_map(|root| entries(root))
            .filter_map(|path| {
                let id = path.file_name()?.to_str()?.strip_prefix(CLIENTS)?;
                ours(id.to_owned(), path.join(CLIENTS_FILE))
            }),
    );
    found.extend(more.iter().filter_map(|path| {
        // It is named by the folder that it is for.
        let id = path.parent()?.file_name()?.to_str()?;
        ours(id.to_owned(), path.clone())
    }));
    found.sort_by(|a, b| (b.modified, &a.id).cmp(&(a.modified, &b.id)));
    found.truncate(MOST);
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// One of ours: in a folder that all can write, others may have put theirs.
fn ours(id: String, path: PathBuf) -> Option<Found> {
    let meta = std::fs::symlink_metadata(&path).ok()?;
    let ours = meta.is_file() && meta.uid() == me();
    let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    ours.then_some(Found { id, path, modified })
}

/// The connection file that `text` means: a path, an id, or the beginning of one.
///
/// # Errors
/// [`KernelError::NoSuchConnection`] where there is none, or more than one.
pub fn find(text: &str, more: &[PathBuf]) -> Result<PathBuf, KernelError> {
    let path = Path::new(text);
    if text.contains('/') || text.ends_with(".json") && path.exists() {
        return Ok(path.to_path_buf());
    }
    let text = text
        .strip_prefix("kernel-")
        .unwrap_or(text)
        .trim_end_matches(".json");
    let all = list(more);
    if let Some(exact) = all.iter().find(|found| found.id == text) {
        return Ok(exact.path.clone());
    }
    let begun: Vec<&Found> = all
        .iter()
        .filter(|found| found.id.starts_with(text))
        .collect();
    let (reason, named) = match &begun[..] {
        [one] if !text.is_empty() => return Ok(one.path.clone()),
        [] => ("no connection file has this id", all.iter().collect()),
        _ => ("several connection files begin like that", begun),
    };
    Err(KernelError::NoSuchConnection {
        text: text.chars().take(80).collect(),
        reason,
        known: named
            .iter()
            .take(NAMED)
            .map(|found| found.id.clone())
            .collect(),
    })
}

/// The connection files whose kernels echo a heartbeat now, the newest first. All are asked at once, and none that comes
/// later holds up one that comes before.
pub fn answering(more: &[PathBuf]) -> impl Stream<Item = (PathBuf, ConnectionInfo)> + use<> {
    let files = list(more).into_iter();
    let beats: FuturesOrdered<_> =
        files
            .filter_map(|found| Some((read(&found.path).ok()?, found.path)))
            .map(|(connection, path)| async move {
                echoes(&connection).await.then_some((path, connection))
            })
            .collect();
    beats.filter_map(std::future::ready)
}

/// Whether a kernel echoes a heartbeat now.
pub async fn echoes(connection: &ConnectionInfo) -> bool {
    let deadline = Instant::now() + ECHO;
    let address = connection.address(Channel::Heartbeat);
    let beat = async {
        let mut heartbeat = Heartbeat::connect(address, deadline).await.ok()?;
        heartbeat.beat(ECHO).await.ok()
    };
    let echoed = tokio::time::timeout_at(deadline, beat).await;
    matches!(echoed, Ok(Some(true)))
}

/// Reads a connection file of the user's own: whoever writes one decides who gets to see what is typed.
///
/// # Errors
/// [`KernelError::NotJoined`], with what to do.
pub fn read(path: &Path) -> Result<ConnectionInfo, KernelError> {
    let refused = |reason| KernelError::NotJoined {
        file: path.to_path_buf(),
        reason,
    };
    // A pipe in its place must not be waited for.
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| refused(unreadable(path, &error)))?;
    let meta = file
        .metadata()
        .map_err(|error| refused(error.to_string()))?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(refused(
            "it is no connection file. See those of running kernels: heddle attach last".into(),
        ));
    }
    if meta.uid() != me() {
        return Err(refused(others(path, &meta)));
    }
    let mut text = Vec::new();
    file.take(LONGEST)
        .read_to_end(&mut text)
        .map_err(|error| refused(error.to_string()))?;
    ConnectionInfo::from_json(&text).map_err(|error| refused(error.to_string()))
}

fn me() -> u32 {
    nix::unistd::Uid::effective().as_raw()
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    match (error.kind(), std::fs::metadata(path)) {
        (ErrorKind::NotFound, _) => {
            let known: Vec<String> = list(&[]).into_iter().take(NAMED).map(|f| f.id).collect();
            format!(
                "there is no such file; a kernel removes its own when it ends. Connection files of yours: {}",
                super::list(&known)
            )
        }
        (ErrorKind::PermissionDenied, Ok(meta)) if meta.uid() != me() => others(path, &meta),
        _ => format!("the file cannot be read: {error}"),
    }
}

fn others(path: &Path, meta: &Metadata) -> String {
    let owner = nix::unistd::User::from_uid(meta.uid().into());
    let owner = match owner {
        Ok(Some(user)) => user.name,
        _ => meta.uid().to_string(),
    };
    format!(
        "it belongs to another user, {owner}, who could read all that you type and run. As that user: sudo -u {owner} \
         heddle attach {}",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::folder::RunFolder;
    use super::*;
    use crate::protocol::Transport;

    /// A kernel's folder is its code's to write in, also under the name that is looked for.
    #[test]
    fn connection_files_are_looked_for_only_where_no_kernel_can_write() {
        let ours = RunFolder::for_clients().unwrap();
        let kernels = RunFolder::create(Transport::Ipc, "x", Path::to_path_buf).unwrap();
        let forged = kernels.path().join(CLIENTS_FILE);
        std::fs::copy(ours.connection_file(), &forged).unwrap();
        let found: Vec<PathBuf> = list(&[]).into_iter().map(|found| found.path).collect();
        assert!(found.contains(&ours.connection_file()));
        assert!(!found.contains(&forged), "{found:?}");
    }
}
