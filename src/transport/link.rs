//! A link: one connection, one gate, one ZeroMQ socket.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{self, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::net::UnixStream;
use zeromq::{Socket, SocketEvent, SocketRecv, SocketSend, ZmqMessage};

use super::gate::{DRAIN, Gate, Limits};
use super::stream::Stream;
use super::{Frames, TransportError};
use crate::protocol::connection::IPC_PATH_MAX;

/// Bytes that may wait in the socket for a peer to take them.
const WINDOW: u64 = 1 << 20;

/// Splices `stream` to `socket` and completes the handshake. Gives the gate and the peer's identity, a random one where
/// it has none.
///
/// The crate takes connections by name only, so the two meet on a Unix socket in a private folder (mode 0700). It is there
/// for the moment of the connection alone: whoever is killed leaves nothing in the way.
pub(super) async fn open<S: Socket>(
    socket: &mut S,
    stream: Box<dyn Stream>,
    limits: Limits,
) -> Result<(Arc<Gate>, Bytes), TransportError> {
    let failed = |error: &dyn std::fmt::Display| TransportError::Handshake(error.to_string());
    let (listener, inner) = meet().map_err(|error| failed(&error))?;
    let mut events = socket.monitor();
    let endpoint = socket
        .bind_listener(listener)
        .await
        .map_err(|error| failed(&error))?;
    let inner = UnixStream::from_std(inner).map_err(|error| failed(&error))?;
    let gate = Gate::open(stream, inner, limits);

    let handshake = async {
        while let Some(event) = events.next().await {
            match event {
                SocketEvent::Accepted(_, identity) => return Ok(Bytes::from(identity)),
                SocketEvent::AcceptFailed(error) => return Err(failed(&error)),
                _ => {}
            }
        }
        Err(failed(&"the socket was closed"))
    };
    let mut handshake = std::pin::pin!(handshake);
    let outcome = tokio::select! {
        biased;
        outcome = &mut handshake => outcome,
        // What a peer sent before it went may be a whole handshake, and messages.
        reason = gate.closed() => match tokio::time::timeout(DRAIN, handshake).await {
            Ok(Ok(identity)) => Ok(identity),
            _ => Err(TransportError::Handshake(reason)),
        },
        () = tokio::time::sleep(limits.handshake) => Err(failed(&"it took too long")),
    };
    // Its name is gone already, which is all that could be reported.
    let _ = socket.unbind(endpoint).await;
    outcome.map(|identity| (Arc::new(gate), identity))
}

/// A listener with one connection to it that waits to be accepted, and the other end of that.
fn meet() -> std::io::Result<(UnixListener, net::UnixStream)> {
    let folder = meeting_place()?;
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path)?;
    let inner = net::UnixStream::connect(&path)?;
    inner.set_nonblocking(true)?;
    Ok((listener, inner))
}

/// A folder that only we can enter, short enough for a socket in it.
fn meeting_place() -> std::io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&prefix(std::process::id()))
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(meeting_places())
}

/// What the names of a process's folders begin with.
fn prefix(process: u32) -> String {
    format!("heddle-link-{process}-")
}

/// Where the folders are in which links are made, each for a moment.
pub fn meeting_places() -> PathBuf {
    const NAME: &str = "heddle-link-4294967295-123456/s";
    let root = std::env::temp_dir();
    match root.as_os_str().len() + 1 + NAME.len() <= IPC_PATH_MAX {
        true => root,
        false => "/tmp".into(),
    }
}

/// Removes what a process that was killed in such a moment has left there.
pub fn remove_meeting_places(root: &Path, process: u32) {
    let prefix = prefix(process);
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let is_its = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(&prefix));
        if is_its {
            // What cannot be removed is found by the doctor.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The receiving half of a link.
pub(super) struct Receiver<R> {
    socket: R,
    gate: Arc<Gate>,
    received: u64,
}

impl<R: SocketRecv> Receiver<R> {
    pub(super) fn new(socket: R, gate: Arc<Gate>) -> Self {
        Receiver {
            socket,
            gate,
            received: 0,
        }
    }

    /// The next message; an error once the peer has gone and everything it sent has been received. Safe to cancel.
    pub(super) async fn recv(&mut self) -> Result<Frames, TransportError> {
        let message = tokio::select! {
            biased;
            message = self.socket.recv() => message,
            reason = self.gate.closed() => {
                if self.received >= self.gate.messages() {
                    return Err(TransportError::Closed(reason));
                }
                tokio::time::timeout(DRAIN, self.socket.recv())
                    .await
                    .map_err(|_| TransportError::Closed(reason))?
            }
        };
        self.received += 1;
        message
            .map(ZmqMessage::into_vec)
            .map_err(|error| TransportError::Closed(error.to_string()))
    }
}

/// The sending half of a link.
pub(super) struct Sender<S> {
    socket: S,
    gate: Arc<Gate>,
    /// Bytes handed to the socket, as they are on the wire.
    sent: u64,
}

impl<S: SocketSend> Sender<S> {
    pub(super) fn new(socket: S, gate: Arc<Gate>) -> Self {
        Sender {
            socket,
            sent: gate.passed_so_far(),
            gate,
        }
    }

    /// Hands a message to the socket, once the peer has taken most of those before: the crate's own limit counts
    /// messages, however large. `Ok` means queued, not delivered.
    pub(super) async fn send(&mut self, frames: Frames) -> Result<(), TransportError> {
        tokio::select! {
            () = self.gate.passed(self.sent, WINDOW) => {}
            reason = self.gate.closed() => return Err(TransportError::Closed(reason)),
        }
        self.sent += frames.iter().map(on_the_wire).sum::<u64>();
        send(&mut self.socket, &self.gate, frames).await
    }
}

/// ZMTP 3.0, "Framing": flags, a length of one or eight bytes, the body.
fn on_the_wire(frame: &Bytes) -> u64 {
    let header = if frame.len() > 255 { 9 } else { 2 };
    header + frame.len() as u64
}

/// Sends on a socket that is not split.
pub(super) async fn send<S: SocketSend>(
    socket: &mut S,
    gate: &Gate,
    frames: Frames,
) -> Result<(), TransportError> {
    if let Some(reason) = gate.is_closed() {
        return Err(TransportError::Closed(reason));
    }
    let message = ZmqMessage::try_from(frames)
        .map_err(|_| TransportError::Closed("a message needs at least one frame".into()))?;
    tokio::select! {
        sent = socket.send(message) => sent.map_err(|error| TransportError::Closed(error.to_string())),
        reason = gate.closed() => Err(TransportError::Closed(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_left_is_removed_and_nothing_of_others() {
        let root = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (left, others) = (make("heddle-link-12-abc"), make("heddle-link-123-abc"));
        std::fs::write(left.join("s"), "").unwrap();
        remove_meeting_places(root.path(), 12);
        assert!(!left.exists() && others.exists());
    }
}
