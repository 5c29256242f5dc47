//! Byte streams to and from peers: dialling, listening, and pinning a Unix socket before it is used.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

use super::TransportError;
use crate::protocol::Address;

/// How often a peer that does not listen yet is tried. A kernel binds when its imports are done, and says so by
/// nothing but the open socket.
const PROBE: Duration = Duration::from_millis(5);

/// A connected byte stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects, and waits until `deadline` for somebody to listen.
pub(super) async fn dial(
    address: &Address,
    deadline: Instant,
) -> Result<Box<dyn Stream>, TransportError> {
    loop {
        let attempt = tokio::time::timeout_at(deadline, connect(address)).await;
        let error = match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let nobody_listens = matches!(
            error.kind(),
            // The third is what a Unix socket says whose queue is full.
            io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
        );
        if !nobody_listens || Instant::now() + PROBE > deadline {
            let (address, reason) = (address.to_string(), error.to_string());
            return Err(match nobody_listens {
                true => TransportError::NobodyListens { address, reason },
                false => TransportError::Connect { address, reason },
            });
        }
        tokio::time::sleep(PROBE).await;
    }
}

async fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    Ok(match address {
        Address::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            // A port that nobody listens on yet may be picked as our own, and the connection is then one to ourselves.
            if stream.local_addr()? == stream.peer_addr()? {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Address::Ipc(path) => Box::new(connect_pinned(path).await?),
    })
}

/// Connects to the socket that is at `path` now. Code in a kernel may swap the name for a link to a socket of the
/// host, so the name is resolved once, without following links, and the connection goes to what was found.
#[cfg(target_os = "linux")]
async fn connect_pinned(path: &Path) -> io::Result<UnixStream> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::{Mode, SFlag, fstat};
    use std::os::fd::AsRawFd;

    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let pinned = open(path, flags, Mode::empty())?;
    let kind = SFlag::from_bits_truncate(fstat(&pinned)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a socket",
        ));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", pinned.as_raw_fd())).await
}

#[cfg(not(target_os = "linux"))]
async fn connect_pinned(path: &Path) -> io::Result<UnixStream> {
    if !std::fs::symlink_metadata(path)?
        .file_type()
        .is_socket_like()
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a socket",
        ));
    }
    UnixStream::connect(path).await
}

#[cfg(not(target_os = "linux"))]
trait SocketLike {
    fn is_socket_like(&self) -> bool;
}
#[cfg(not(target_os = "linux"))]
impl SocketLike for std::fs::FileType {
    fn is_socket_like(&self) -> bool {
        std::os::unix::fs::FileTypeExt::is_socket(self)
    }
}

/// A listening socket of ours.
pub(super) struct Listener {
    socket: ListenerSocket,
    /// For a Unix socket. Whoever owns the listener's task takes it, so that the name goes at once with the owner.
    pub(super) name: Option<SocketName>,
}

enum ListenerSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The name of a Unix socket, removed when dropped.
pub(super) struct SocketName(PathBuf);

impl Drop for SocketName {
    fn drop(&mut self) {
        // The folder may be gone already; then there is nothing left to remove.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens on `address`. A Unix socket that is left over from a dead process is replaced; one that somebody
    /// listens on is not.
    pub(super) async fn bind(address: &Address) -> Result<Listener, TransportError> {
        let bound = match address {
            Address::Tcp(host, port) => {
                TcpListener::bind((host.as_str(), *port))
                    .await
                    .map(|listener| Listener {
                        socket: ListenerSocket::Tcp(listener),
                        name: None,
                    })
            }
            Address::Ipc(path) => bind_unix(path).await,
        };
        bound.map_err(|error| TransportError::Bind {
            address: address.to_string(),
            reason: error.to_string(),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.socket {
            ListenerSocket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            ListenerSocket::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

async fn bind_unix(path: &Path) -> io::Result<Listener> {
    if let Err(error) = connect_pinned(path).await
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    Ok(Listener {
        socket: ListenerSocket::Unix(listener),
        name: Some(SocketName(path.to_owned())),
    })
}
