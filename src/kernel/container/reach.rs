//! Whether an engine's containers reach what a kernel needs of this machine. An engine in a virtual machine may have
//! its files but not its Unix sockets; one outside of the container that Heddle itself runs in has neither.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::launcher::Container;
use crate::kernel::folder::RunFolder;
use crate::kernel::launcher::{Grants, Launch, Launcher};
use crate::protocol::{Address, Channel, Transport};

/// How long a container may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(20);

/// Listens at its first argument, and greets whoever connects.
const GREET: &str = "\
import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
c = s.accept()[0]; c.sendall(b'!'); c.recv(1)";

impl Container {
    /// Starts a container that listens at a socket in a run folder, as a kernel does, and connects to it.
    ///
    /// # Errors
    /// Why a kernel could not be reached in a container of this engine.
    pub async fn reaches_here(&self) -> Result<(), String> {
        let inside = |folder: &Path| self.inside(folder);
        let folder = RunFolder::create(Transport::Ipc, "trial", inside)
            .map_err(|error| error.to_string())?;
        let address = folder.connection.address(Channel::Shell);
        let Address::Ipc(path) = address else {
            return Err("there are no Unix sockets".into());
        };
        let name = path.file_name().unwrap_or_default();
        let socket = self.inside(folder.path()).join(name);
        let cwd = tempfile::tempdir().map_err(|error| error.to_string())?;
        let launch = Launch {
            argv: vec![
                "python3".into(),
                "-c".into(),
                GREET.into(),
                socket.to_string_lossy().into_owned(),
            ],
            env: Vec::new(),
            cwd: cwd.path().to_path_buf(),
            program: Vec::new(),
            grants: Grants {
                mounts: Vec::new(),
                network: false,
                memory: 256 << 20,
                processes: 64,
                cpus: 0.0,
            },
            folder: folder.path().to_path_buf(),
        };
        let process = self.launch(launch).await.map_err(|e| e.to_string())?;
        let greeted = tokio::select! {
            greeted = greeting(&path) => greeted,
            exit = process.exit() => Err(format!("a trial of it {exit}: {}", process.tail())),
        };
        process.signal(crate::isolation::Signal::Kill);
        process.ended().await;
        greeted
    }
}

/// Whether it is certain that whoever listens at a socket sees the same files as this process.
pub async fn is_beside_us(socket: &Path) -> bool {
    let space = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let peer = match UnixStream::connect(socket).await {
        Ok(stream) => stream.peer_cred().ok().and_then(|peer| peer.pid()),
        Err(_) => None,
    };
    // One of another process space has no number here.
    let theirs = peer
        .filter(|pid| *pid > 0)
        .and_then(|pid| space(&pid.to_string()));
    theirs.is_some() && theirs == space("self")
}

async fn greeting(socket: &Path) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let greeted = async {
            let mut stream = UnixStream::connect(socket).await?;
            stream.read_u8().await
        };
        match tokio::time::timeout_at(deadline, greeted).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) if Instant::now() + AGAIN < deadline => tokio::time::sleep(AGAIN).await,
            _ => {
                return Err(
                    "the Unix sockets of a kernel do not cross the border of the machine that its containers run in"
                        .into(),
                );
            }
        }
    }
}
