//! The folder of one running kernel: connection file and sockets, private to the user, on a tmpfs where there is one.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use uuid::Uuid;

use super::KernelError;
use crate::isolation::remove_folder;
use crate::isolation::supervisor::ENCLOSING;
use crate::protocol::{ConnectionInfo, Transport};

/// The connection file, for clients on this side.
const CONNECTION_FILE: &str = "connection.json";
/// How folders of kernels begin, and how those of sockets that are there for any client: what is in the former, code in
/// the kernel may have written.
const KERNELS: &str = "heddle-";
pub(super) const CLIENTS: &str = "heddle-clients-";
/// The connection file of sockets that are there for any client.
pub(super) const CLIENTS_FILE: &str = "clients.json";
/// The connection file as the kernel reads it, where the kernel sees its folder elsewhere than we do.
pub(super) const INSIDE: &str = "inside.json";

/// Made by [`RunFolder::create`], removed by the kernel's supervisor, or here when no kernel was started.
pub struct RunFolder {
    path: PathBuf,
    pub connection: ConnectionInfo,
    /// Where the kernel sees the folder.
    inside: PathBuf,
    file: &'static str,
}

impl RunFolder {
    /// A new folder, which the kernel will see at `inside` of its path.
    pub fn create(
        transport: Transport,
        kernel_name: &str,
        inside: impl FnOnce(&Path) -> PathBuf,
    ) -> Result<Self, KernelError> {
        RunFolder::create_as(KERNELS, transport, kernel_name, inside)
    }

    fn create_as(
        prefix: &str,
        transport: Transport,
        kernel_name: &str,
        inside: impl FnOnce(&Path) -> PathBuf,
    ) -> Result<Self, KernelError> {
        let path = runtime_root().join(format!("{prefix}{}", Uuid::new_v4().simple()));
        let key = SecretString::from(Uuid::new_v4().to_string());
        let failed = |source| KernelError::Folder {
            path: path.clone(),
            source,
        };
        let mut connection = match transport {
            Transport::Ipc => ConnectionInfo::ipc(&path.join("k").to_string_lossy(), key)?,
            Transport::Tcp => ConnectionInfo::tcp("127.0.0.1", free_ports().map_err(failed)?, key)?,
        };
        connection.kernel_name = Some(kernel_name.to_owned());
        let folder = RunFolder {
            inside: inside(&path),
            path: path.clone(),
            connection,
            file: CONNECTION_FILE,
        };
        folder.connection_inside().validate()?;
        folder.write().map_err(failed)?;
        Ok(folder)
    }

    /// A new folder for sockets of our own, which any client of this user's may connect to.
    pub fn for_clients() -> Result<Self, KernelError> {
        let mut folder =
            RunFolder::create_as(CLIENTS, Transport::Ipc, "heddle", Path::to_path_buf)?;
        let failed = |source| KernelError::Folder {
            path: folder.path.clone(),
            source,
        };
        let clients = folder.path.join(CLIENTS_FILE);
        std::fs::rename(folder.connection_file(), clients).map_err(failed)?;
        folder.file = CLIENTS_FILE;
        Ok(folder)
    }

    /// Writes the connection file anew, for a start or a restart, and clears the sockets of the kernel before.
    pub(super) fn write(&self) -> std::io::Result<()> {
        remove_folder(&self.path)?;
        std::fs::DirBuilder::new().mode(0o700).create(&self.path)?;
        write_private(&self.connection_file(), &self.connection)?;
        match self.inside == self.path {
            true => Ok(()),
            false => write_private(&self.path.join(INSIDE), &self.connection_inside()),
        }
    }

    /// The same sockets, by the names that the kernel knows.
    fn connection_inside(&self) -> ConnectionInfo {
        let mut connection = self.connection.clone();
        if connection.transport == Transport::Ipc {
            connection.ip = self.inside.join("k").to_string_lossy().into_owned();
        }
        connection
    }

    /// The connection file by the name that the kernel knows.
    pub(super) fn kernel_file(&self) -> PathBuf {
        match self.inside == self.path {
            true => self.connection_file(),
            false => self.inside.join(INSIDE),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub fn connection_file(&self) -> PathBuf {
        self.path.join(self.file)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // The supervisor has removed it already, unless none was started.
        let _ = remove_folder(&self.path);
    }
}

fn write_private(path: &Path, connection: &ConnectionInfo) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    (&file).write_all(connection.to_json().as_bytes())
}

/// Five ports that are free now. Another process may take one before the kernel binds it; the kernel then says so and
/// ends. Unix sockets, the default, know no such race.
fn free_ports() -> std::io::Result<[u16; 5]> {
    let mut listeners = Vec::new();
    let mut ports = [0; 5];
    for port in &mut ports {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Whether a folder of this name is one that Heddle made: `heddle-` or `heddle-clients-`, and 32 hexadecimal digits.
pub fn is_own_name(name: &str) -> bool {
    let id = name
        .strip_prefix(CLIENTS)
        .or_else(|| name.strip_prefix(KERNELS));
    id.is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Removes the folder of this connection file, if Heddle made it and nobody listens on its sockets any more, as when
/// the process that would have removed it was killed.
pub fn remove_deserted(connection_file: &Path) {
    let Some(folder) = connection_file.parent() else {
        return;
    };
    let name = folder.file_name().and_then(|name| name.to_str());
    let in_place = folder
        .parent()
        .is_some_and(|root| roots().iter().any(|known| known == root));
    let deserted = || is_listened_to(folder) == Some(false);
    if in_place && name.is_some_and(is_own_name) && deserted() {
        // What cannot be removed is found by the doctor.
        let _ = remove_folder(folder);
    }
}

/// Whether there is a process behind the sockets of such a folder; `None` where there are none, or none yet.
pub fn is_listened_to(folder: &Path) -> Option<bool> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let connected = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )
    .and_then(|socket| {
        nix::fcntl::fcntl(
            &socket,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )?;
        connect(socket.as_raw_fd(), &UnixAddr::new(&folder.join("k-1"))?)
    });
    match connected {
        Err(nix::Error::ENOENT) => None,
        Err(nix::Error::ECONNREFUSED) => Some(false),
        // One that has no time to accept is there too.
        _ => Some(true),
    }
}

/// Every place where folders of kernels, or of connections, may be.
pub fn roots() -> Vec<PathBuf> {
    let mut roots = vec![
        runtime_root(),
        std::env::temp_dir(),
        PathBuf::from("/dev/shm"),
    ];
    roots.sort();
    roots.dedup();
    roots
}

/// Where running kernels have their folders. Short, since a Unix socket's path ends at 107 bytes.
fn runtime_root() -> PathBuf {
    [ENCLOSING, "XDG_RUNTIME_DIR"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from)
        .find(|path| path.is_absolute() && path.is_dir() && path.as_os_str().len() < 50)
        .unwrap_or_else(|| {
            let shm = PathBuf::from("/dev/shm");
            if shm.is_dir() {
                shm
            } else {
                PathBuf::from("/tmp")
            }
        })
}
