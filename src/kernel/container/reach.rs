//! Whether an engine's containers reach what a kernel needs of this machine. An engine in a virtual machine may have
//! its files but not its Unix sockets; one outside of the container that Heddle itself runs in has neither.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::launcher::Container;
use crate::kernel::folder::RunFolder;
use crate::kernel::launcher::{Grants, Launch, Launcher, Process};
use crate::protocol::{Address, Channel, Transport};

/// How long a container may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(20);

/// How long a socket may take to show here once it is there inside.
const CROSSING: Duration = Duration::from_millis(500);

/// What a trial prints once it listens.
const LISTENING: &str = "listening";
/// Listens at its first argument, and greets whoever connects.
const GREET: &str = "\
import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('listening', flush=True)
c = s.accept()[0]; c.sendall(b'!'); c.recv(1)";

/// What a Docker Desktop says of a folder that its virtual machine does not have.
const NOT_SHARED: &str = "is not shared";

/// How a kernel in a container is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By its sockets.
    Sockets,
    /// By the container's standard streams, because sockets do not cross.
    Streams,
}

/// The test switch `HEDDLE_CONTAINER_SOCKETS=apart`: as if no socket of a container's could be reached.
pub fn sockets_are_apart() -> bool {
    std::env::var("HEDDLE_CONTAINER_SOCKETS").is_ok_and(|value| value == "apart")
}

impl Container {
    /// Starts a container that listens at a socket in a run folder, as a kernel does, and connects to it.
    ///
    /// # Errors
    /// Why a kernel could not be reached in a container of this engine.
    pub async fn reaches_here(&self) -> Result<Reach, String> {
        if sockets_are_apart() {
            return Ok(Reach::Streams);
        }
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
                memory: 256 << 20,
                processes: 64,
                ..Grants::default()
            },
            folder: folder.path().to_path_buf(),
        };
        let process = match self.launch(launch).await {
            Ok(process) => process,
            // The folder of sockets need not be: the relay's are made here.
            Err(error) if error.to_string().contains(NOT_SHARED) => return Ok(Reach::Streams),
            Err(error) => return Err(error.to_string()),
        };
        let greeted = tokio::select! {
            reach = reach(&path, &*process) => reach,
            exit = process.exit() => Err(format!("a trial of it {exit}: {}", process.tail())),
        };
        crate::kernel::put_away(&*process).await;
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

/// Tries the socket until it answers, or has not for a while although somebody listens inside.
async fn reach(socket: &Path, process: &dyn Process) -> Result<Reach, String> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut listening = false;
    loop {
        let greeted = async {
            let mut stream = UnixStream::connect(socket).await?;
            stream.read_u8().await
        };
        if let Ok(Ok(_)) = tokio::time::timeout_at(deadline, greeted).await {
            return Ok(Reach::Sockets);
        }
        if !listening && process.tail().contains(LISTENING) {
            listening = true;
            deadline = Instant::now() + CROSSING;
        }
        if Instant::now() + AGAIN > deadline {
            return match listening {
                true => Ok(Reach::Streams),
                false => Err("a trial of it did not start in time".into()),
            };
        }
        tokio::time::sleep(AGAIN).await;
    }
}
