//! The outer end of a kernel's connections where no socket crosses the border to its container.
//!
//! The kernel's sockets are made here a second time, in the run folder, once they are there inside. Whoever connects
//! to one of them, by the connection file as ever, is connected through the container's standard input and output to a
//! its first process (`kernelspec/init.py`), and by that to the kernel's own socket.

mod inbox;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::frame::{BODY, Decoder, Frame, Kind, WINDOW, encode};
use crate::kernel::folder::INSIDE;
use crate::protocol::{Address, Channel, ConnectionInfo};
use inbox::Inbox;

/// How much of a socket is read at a time.
const CHUNK: usize = 32 << 10;
/// How long what has come from a kernel that has ended may take to its clients.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The way to the standard input of a container.
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// What is there before the container runs.
pub(super) struct Plan {
    hello: Vec<u8>,
    sockets: Vec<PathBuf>,
}

impl Plan {
    /// For the kernel of this run folder, which holds its connection files.
    pub(super) fn of(folder: &Path) -> io::Result<Plan> {
        let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        let text = std::fs::read(folder.join(INSIDE))?;
        let inside = ConnectionInfo::from_json(&text).map_err(|e| invalid(&e.to_string()))?;
        let mut hello = INSIDE.as_bytes().to_vec();
        let mut sockets = Vec::new();
        for channel in Channel::ALL {
            let Address::Ipc(path) = inside.address(channel) else {
                return Err(invalid("a kernel in a container needs Unix sockets"));
            };
            let name = path.file_name().unwrap_or_default();
            hello.push(0);
            hello.extend(name.as_encoded_bytes());
            sockets.push(folder.join(name));
        }
        hello.push(0);
        hello.extend(text);
        match hello.len() <= BODY {
            true => Ok(Plan { hello, sockets }),
            false => Err(invalid("the connection file is too long")),
        }
    }
}

/// A relay that runs. Dropping it closes all of its connections.
pub(super) struct Relay {
    shared: Arc<Shared>,
    decoder: Decoder,
    /// The sockets that are to be made, until they are.
    sockets: Vec<PathBuf>,
    accepting: JoinSet<()>,
    _sending: JoinSet<()>,
    closing: watch::Sender<bool>,
}

struct Shared {
    connections: Mutex<HashMap<u8, Arc<Connection>>>,
    frames: mpsc::UnboundedSender<Vec<u8>>,
}

/// One connection, from its opening until both ends have closed it.
struct Connection {
    inbox: Inbox,
    /// Bytes that may be sent to the relay.
    room: Semaphore,
}

impl Relay {
    pub(super) fn start(plan: Plan, input: Input) -> Relay {
        // What is in the queue is bounded by the room of each connection.
        let (frames, queue) = mpsc::unbounded_channel();
        let mut sending = JoinSet::new();
        sending.spawn(send_all(input, queue));
        // A queue without a receiver means that the container has ended.
        let _ = frames.send(encode(Kind::Hello, 0, &plan.hello));
        Relay {
            shared: Arc::new(Shared {
                connections: Mutex::default(),
                frames,
            }),
            decoder: Decoder::default(),
            sockets: plan.sockets,
            accepting: JoinSet::new(),
            _sending: sending,
            closing: watch::Sender::new(false),
        }
    }

    /// Takes what the container's standard output says; what the kernel prints goes to `printed`.
    ///
    /// # Errors
    /// What the other end did that no relay does.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut printed: impl FnMut(&[u8]),
    ) -> Result<(), String> {
        let Relay {
            shared,
            decoder,
            sockets,
            accepting,
            closing,
            ..
        } = self;
        decoder.feed(bytes, |frame| match frame.kind {
            Kind::Output => {
                printed(frame.body);
                Ok(())
            }
            Kind::Ready => {
                let sockets = std::mem::take(sockets);
                let listeners: io::Result<Vec<_>> =
                    sockets.iter().map(UnixListener::bind).collect();
                let listeners =
                    listeners.map_err(|error| format!("no socket can be made here: {error}"))?;
                accepting.spawn(accept_all(shared.clone(), listeners, closing.subscribe()));
                Ok(())
            }
            _ => shared.take(&frame),
        })
    }

    /// The container has ended: what came before still goes to the clients.
    pub(super) async fn finish(mut self) {
        for connection in self.shared.connections().values() {
            connection.inbox.end();
        }
        self.closing.send_replace(true);
        let _ = tokio::time::timeout(LAST_WORDS, self.accepting.join_next()).await;
    }
}

async fn send_all(mut input: Input, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        let sent = input.write_all(&frame).await;
        // The end of the container is noticed by its output.
        if sent.is_err() || input.flush().await.is_err() {
            break;
        }
    }
    // Closing it ends the container, which is not for us to do.
    std::future::pending::<()>().await;
}

/// Serves whoever connects, until the end of all.
async fn accept_all(
    shared: Arc<Shared>,
    listeners: Vec<UnixListener>,
    mut closing: watch::Receiver<bool>,
) {
    let mut serving = JoinSet::new();
    let mut accepted: FuturesUnordered<_> = listeners.iter().enumerate().map(accept).collect();
    loop {
        tokio::select! {
            Some((number, stream)) = accepted.next() => {
                // A socket of ours that fails is no more use.
                let Ok((stream, _)) = stream else { continue };
                if let Some((id, connection)) = shared.open(number) {
                    serving.spawn(shared.clone().serve(id, connection, stream));
                }
                accepted.push(accept((number, &listeners[number])));
            }
            Some(_) = serving.join_next() => {}
            _ = closing.wait_for(|closing| *closing) => break,
        }
    }
    while serving.join_next().await.is_some() {}
}

/// The next to connect to the socket with this number.
async fn accept(
    (number, listener): (usize, &UnixListener),
) -> (usize, io::Result<(UnixStream, SocketAddr)>) {
    (number, listener.accept().await)
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u8, Arc<Connection>>> {
        // Each critical section leaves valid data wherever it may end.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, kind: Kind, connection: u8, body: &[u8]) {
        // A queue without a receiver means that the container has ended.
        let _ = self.frames.send(encode(kind, connection, body));
    }

    /// Opens a connection to the socket with this number; none where all numbers of connections are taken.
    fn open(&self, socket: usize) -> Option<(u8, Arc<Connection>)> {
        let mut connections = self.connections();
        let id = (0..=u8::MAX).find(|id| !connections.contains_key(id))?;
        let connection = Arc::new(Connection {
            inbox: Inbox::default(),
            room: Semaphore::new(WINDOW),
        });
        connections.insert(id, connection.clone());
        self.send(Kind::Open, id, &[u8::try_from(socket).ok()?]);
        Some((id, connection))
    }

    fn take(&self, frame: &Frame<'_>) -> Result<(), String> {
        let mut connections = self.connections();
        let connection = connections
            .get(&frame.connection)
            .ok_or("it spoke of a connection that there is not")?;
        match frame.kind {
            Kind::Data => connection.inbox.push(frame.body)?,
            Kind::Credit => {
                let body: [u8; 4] = frame
                    .body
                    .try_into()
                    .map_err(|_| "it gave no proper credit")?;
                let more = usize::try_from(u32::from_be_bytes(body)).unwrap_or(usize::MAX);
                // It cannot have taken more than was sent.
                let most = WINDOW - connection.room.available_permits().min(WINDOW);
                if more > most {
                    return Err("it gave credit for more than it was sent".into());
                }
                connection.room.add_permits(more);
            }
            Kind::Close if connection.inbox.has_ended() => {
                return Err("it closed a connection twice".into());
            }
            Kind::Close => {
                connection.inbox.end();
                // Where this end has closed it before, that was the last of it.
                if connection.room.is_closed() {
                    connections.remove(&frame.connection);
                }
            }
            _ => {
                return Err(format!(
                    "it sent a frame that is not for it to send, {:?}",
                    frame.kind
                ));
            }
        }
        Ok(())
    }

    /// Carries bytes both ways until either end closes.
    async fn serve(self: Arc<Self>, id: u8, connection: Arc<Connection>, stream: UnixStream) {
        let (mut read, mut write) = stream.into_split();
        let inward = async {
            let mut chunk = vec![0; CHUNK];
            while let Ok(count @ 1..) = read.read(&mut chunk).await {
                // Never more than the window, and closed by this very task alone.
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                let Ok(room) = connection.room.acquire_many(count).await else {
                    return;
                };
                room.forget();
                self.send(Kind::Data, id, &chunk[..count as usize]);
            }
        };
        let outward = async {
            while let Some(bytes) = connection.inbox.pull().await {
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
                if let Some(taken) = connection.inbox.credit() {
                    let taken = u32::try_from(taken).unwrap_or(u32::MAX);
                    self.send(Kind::Credit, id, &taken.to_be_bytes());
                }
            }
        };
        tokio::select! {
            () = inward => {}
            () = outward => {}
        }
        let mut connections = self.connections();
        // What comes now has nobody who takes it, and is no more than a window.
        connection.room.close();
        if connection.inbox.has_ended() {
            connections.remove(&id);
        }
        self.send(Kind::Close, id, b"");
    }
}

// The inner end needs Linux.
#[cfg(all(test, target_os = "linux"))]
mod tests;
