//! A bridge of a test's own, and clients of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use heddle::kernel::Client;
use heddle::protocol::{ConnectionInfo, Transport};
use tokio::time::Instant;

use crate::support::{kernels, process};

/// The longest that a start may take on a busy machine.
pub const START: Duration = Duration::from_secs(60);
/// The longest that anything else here may take.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Served {
    pub info: ConnectionInfo,
    pub folder: tempfile::TempDir,
    /// For settings, state and run files.
    pub home: tempfile::TempDir,
    child: Option<Child>,
}

impl Served {
    /// A bridge with a local kernel behind it.
    pub fn start(transport: Transport) -> Served {
        Served::with(transport, &["--mode", "local"])
    }

    pub fn with(transport: Transport, args: &[&str]) -> Served {
        let mut served = Served::before_it_starts(transport);
        served.start_again(args);
        served
    }

    /// Its folder and addresses alone.
    pub fn before_it_starts(transport: Transport) -> Served {
        kernels::python();
        let folder = tempfile::Builder::new().prefix("hb").tempdir().unwrap();
        let info = match transport {
            Transport::Ipc => {
                let prefix = folder.path().join("k");
                ConnectionInfo::ipc(&prefix.to_string_lossy(), "secret".into()).unwrap()
            }
            Transport::Tcp => ConnectionInfo::tcp("127.0.0.1", ports(), "secret".into()).unwrap(),
        };
        std::fs::write(folder.path().join("kernel.json"), info.to_json()).unwrap();
        Served {
            info,
            folder,
            home: tempfile::Builder::new().prefix("hb").tempdir().unwrap(),
            child: None,
        }
    }

    /// The command that starts such a bridge, in folders of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heddle"));
        command
            .args(["kernel", "serve", "-f"])
            .arg(self.folder.path().join("kernel.json"))
            .args(args)
            .current_dir(self.folder.path())
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("XDG_STATE_HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.terminal());
        command
    }

    /// Trusts what the project file in its folder sets, as a person does at a terminal.
    pub fn trust(&self) {
        let trusted = Command::new(env!("CARGO_BIN_EXE_heddle"))
            .args(["trust", "--trust"])
            .current_dir(self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.home.path())
            .output()
            .unwrap();
        assert!(trusted.status.success(), "{trusted:?}");
    }

    /// The front end's terminal, which its kernels inherit.
    fn terminal(&self) -> std::fs::File {
        std::fs::File::create(self.folder.path().join("terminal")).unwrap()
    }

    /// What was written there since the last start.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("terminal")).unwrap()
    }

    /// As a front end's restart does: another process on the same connection file.
    pub fn start_again(&mut self, args: &[&str]) {
        self.watch(self.command(args).spawn().unwrap());
    }

    /// This is its process.
    pub fn watch(&mut self, child: Child) {
        self.child = Some(child);
    }

    /// A client of a kernel that has started.
    pub async fn client(&self) -> Client {
        let client = self.connect().await;
        kernels::run(&client, "pass").await;
        client
    }

    pub async fn connect(&self) -> Client {
        Client::connect(&self.info, Instant::now() + START)
            .await
            .unwrap()
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id() as i32
    }

    /// Resident memory of the bridge, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kilobytes: u64 = line
            .split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        kilobytes << 10
    }

    /// Waits until the process has ended, by itself.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let child = self.child.as_mut().unwrap();
        let mut status = None;
        process::within(SOON, "the bridge ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        self.child = None;
        status.unwrap()
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The folders of kernels that this bridge has made.
    pub fn run_folders(&self) -> Vec<PathBuf> {
        run_folders(self.home.path())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn run_folders(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("heddle-") && path.is_dir()
        })
        .collect()
}

fn ports() -> [u16; 5] {
    let listeners: Vec<_> = (0..5)
        .map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap())
        .collect();
    std::array::from_fn(|n| listeners[n].local_addr().unwrap().port())
}
