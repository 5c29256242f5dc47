//! The sessions of notebooks: which one belongs to a front end's kernel.
//!
//! A front end that restarts its kernel starts a new process on the same connection file, with the same key. By the
//! two of them the process finds the session of the one before.

use std::path::Path;

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::sessions::make_durable;
use super::{Session, SessionError, SessionId, Sessions, Workspace};
use crate::protocol::ConnectionInfo;

/// The name of a front end's kernel. The key cannot be found from it.
pub fn name(file: &Path, connection: &ConnectionInfo) -> String {
    let mut digest = Sha256::new();
    digest.update(file.as_os_str().as_encoded_bytes());
    digest.update([0]);
    digest.update(connection.key.expose_secret());
    let digest = digest.finalize();
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The name for what front ends ask in the kernel of a session at the terminal.
pub fn beside(workspace: &Workspace) -> String {
    let folder = workspace.folder().file_name();
    let id = folder.map(|id| id.to_string_lossy().into_owned());
    format!("beside-{}", id.unwrap_or_default())
}

/// The session of that kernel in this workspace; a new one where it has none, or where that is in use.
pub fn open(sessions: &Sessions, name: &str) -> Result<Session, SessionError> {
    let folder = sessions.notebooks();
    let note = folder.join(name);
    let known = std::fs::read_to_string(&note)
        .ok()
        .and_then(|id| id.trim().parse::<SessionId>().ok());
    if let Some(session) = known.and_then(|id| Session::open(sessions, &id).ok()) {
        return Ok(session);
    }
    let session = Session::create(sessions)?;
    make_durable(&folder)?;
    let failed = SessionError::io("remember the session in", &note);
    std::fs::write(&note, session.id().as_str()).map_err(failed)?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_finds_its_session_and_another_kernel_does_not() {
        let root = tempfile::tempdir().unwrap();
        let sessions = Sessions::with_state(&root.path().join("state"), &root.path().join("w"));
        let connection = |key: &str| ConnectionInfo::ipc("/x/k", key.to_owned().into()).unwrap();
        let file = Path::new("/run/kernel-1.json");
        let first = name(file, &connection("a"));
        assert_ne!(first, name(file, &connection("b")));
        assert_ne!(
            first,
            name(Path::new("/run/kernel-2.json"), &connection("a"))
        );

        let id = open(&sessions, &first).unwrap().id().clone();
        assert_eq!(open(&sessions, &first).unwrap().id(), &id);
        assert_ne!(open(&sessions, "other").unwrap().id(), &id);
        // One that is in use is left alone.
        let _held = open(&sessions, &first).unwrap();
        assert_ne!(open(&sessions, &first).unwrap().id(), &id);
    }
}
