//! A link: one connection, one gate, one ZeroMQ socket.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::UnixStream;
use zeromq::{Socket, SocketEvent, SocketRecv, SocketSend, ZmqMessage};

use super::gate::{Gate, Limits};
use super::stream::Stream;
use super::{Frames, TransportError};

/// How long what a peer sent before it went away may take through the socket.
const DRAIN: Duration = Duration::from_secs(5);

/// Splices `stream` to `socket` and completes the handshake.
///
/// The crate takes connections by name only, so the two meet on a Unix socket in a private folder (mode 0700) that
/// exists for this moment and is removed before the link is used.
pub(super) async fn open<S: Socket>(
    socket: &mut S,
    stream: Box<dyn Stream>,
    limits: Limits,
) -> Result<Arc<Gate>, TransportError> {
    let failed = |error: &dyn std::fmt::Display| TransportError::Handshake(error.to_string());
    let folder = tempfile::Builder::new()
        .prefix("heddle-link-")
        .tempdir()
        .map_err(|error| failed(&error))?;
    let path = folder.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(|error| failed(&error))?;
    let mut events = socket.monitor();
    let endpoint = socket
        .bind_listener(listener)
        .await
        .map_err(|error| failed(&error))?;
    let inner = UnixStream::connect(&path)
        .await
        .map_err(|error| failed(&error))?;
    let gate = Gate::open(stream, inner, limits);

    let handshake = async {
        while let Some(event) = events.next().await {
            match event {
                SocketEvent::Accepted(..) => return Ok(()),
                SocketEvent::AcceptFailed(error) => return Err(failed(&error)),
                _ => {}
            }
        }
        Err(failed(&"the socket was closed"))
    };
    let outcome = tokio::select! {
        biased;
        outcome = handshake => outcome,
        reason = gate.closed() => Err(TransportError::Handshake(reason)),
        () = tokio::time::sleep(limits.handshake) => Err(failed(&"it took too long")),
    };
    // The name has done its work; only a failure to remove it could be reported, and the folder goes anyway.
    let _ = socket.unbind(endpoint).await;
    outcome.map(|()| Arc::new(gate))
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
}

impl<S: SocketSend> Sender<S> {
    pub(super) fn new(socket: S, gate: Arc<Gate>) -> Self {
        Sender { socket, gate }
    }

    /// Hands a message to the socket. `Ok` means queued, not delivered.
    pub(super) async fn send(&mut self, frames: Frames) -> Result<(), TransportError> {
        send(&mut self.socket, &self.gate, frames).await
    }
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
