//! The folder of one running kernel: connection file and sockets, private to the user, on a tmpfs where there is one.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::KernelError;
use crate::protocol::{ConnectionInfo, Transport};

/// Made by [`RunFolder::create`], removed by the kernel's supervisor, or here when no kernel was started.
pub(super) struct RunFolder {
    path: PathBuf,
    pub(super) connection: ConnectionInfo,
}

impl RunFolder {
    pub(super) fn create(transport: Transport, kernel_name: &str) -> Result<Self, KernelError> {
        let path = runtime_root().join(format!("heddle-{}", Uuid::new_v4().simple()));
        let mut folder = RunFolder {
            connection: ConnectionInfo {
                transport,
                ip: "127.0.0.1".into(),
                shell_port: 1,
                iopub_port: 2,
                stdin_port: 3,
                control_port: 4,
                hb_port: 5,
                key: Uuid::new_v4().to_string(),
                signature_scheme: "hmac-sha256".into(),
                kernel_name: Some(kernel_name.to_owned()),
                ..ConnectionInfo::default()
            },
            path,
        };
        match transport {
            Transport::Ipc => {
                folder.connection.ip = folder.path.join("k").to_string_lossy().into_owned();
            }
            Transport::Tcp => folder.assign_ports()?,
        }
        folder
            .write()
            .map_err(|error| KernelError::Folder(folder.path.clone(), error))?;
        Ok(folder)
    }

    /// Five ports that are free now. Another process may take one before the kernel binds it; the kernel then says so
    /// and ends, and ipc, the default, knows no such race.
    fn assign_ports(&mut self) -> Result<(), KernelError> {
        let listeners: Vec<_> = (0..5)
            .map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)))
            .collect::<Result<_, _>>()
            .map_err(|error| KernelError::Folder(self.path.clone(), error))?;
        let mut ports = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .map(|address| address.port());
        let info = &mut self.connection;
        for port in [
            &mut info.shell_port,
            &mut info.iopub_port,
            &mut info.stdin_port,
            &mut info.control_port,
            &mut info.hb_port,
        ] {
            *port = ports.next().unwrap_or_default();
        }
        Ok(())
    }

    /// Writes the connection file anew, for a start or a restart, and clears the sockets of the kernel before.
    pub(super) fn write(&self) -> std::io::Result<()> {
        if self.path.exists() {
            std::fs::remove_dir_all(&self.path)?;
        }
        std::fs::DirBuilder::new().mode(0o700).create(&self.path)?;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.connection_file())?;
        serde_json::to_writer_pretty(file, &self.connection)?;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn connection_file(&self) -> PathBuf {
        self.path.join("connection.json")
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // The supervisor has removed it already, unless none was started.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Where running kernels have their folders. Short, since a Unix socket's path ends at 107 bytes.
fn runtime_root() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.is_dir() && path.as_os_str().len() < 50)
        .unwrap_or_else(|| {
            let shm = PathBuf::from("/dev/shm");
            if shm.is_dir() { shm } else { PathBuf::from("/tmp") }
        })
}
