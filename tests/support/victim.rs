//! What is worth protecting on the host: files, processes and services of the user's, each with a canary.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// Whoever holds this has been where it should not be.
pub const CANARY: &str = "canary-6d1f0c";

const SERVICES: &[&str] = &[
    "loopback tcp",
    "loopback udp",
    "unix socket",
    "unix datagram",
    "abstract socket",
];

pub struct Victim {
    folder: tempfile::TempDir,
    /// The user's program: its command line and environment hold the canary.
    program: Child,
    /// Services that somebody reached.
    reached: Arc<Mutex<BTreeSet<&'static str>>>,
    tcp: u16,
    udp: u16,
    /// In this process's memory, as a key is in Heddle's.
    secret: Box<[u8; 32]>,
}

impl Victim {
    pub fn new() -> Victim {
        let folder = tempfile::Builder::new()
            .prefix("heddle-test-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let home = folder.path();
        let write = |name: &str, mode: u32| {
            let path = home.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, CANARY).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        write(".ssh/id_ed25519", 0o600);
        write(".config/heddle/heddle.toml", 0o600);
        write("document.txt", 0o644);
        let program = Command::new("sleep")
            .args(["1000", "0.000061"])
            .env("CANARY", CANARY)
            .spawn()
            .unwrap();
        let mut secret = Box::new([0; 32]);
        secret[..CANARY.len()].copy_from_slice(CANARY.as_bytes());
        let mut host = Victim {
            folder,
            program,
            reached: Arc::default(),
            tcp: 0,
            udp: 0,
            secret,
        };
        host.serve();
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn serve(&mut self) {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        self.tcp = tcp.local_addr().unwrap().port();
        self.watch("loopback tcp", move || {
            tcp.accept().unwrap().0.write(b"!").is_ok()
        });
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        self.udp = udp.local_addr().unwrap().port();
        self.watch("loopback udp", move || udp.recv(&mut [0; 9]).is_ok());

        let stream = UnixListener::bind(self.path("docker.sock")).unwrap();
        self.watch("unix socket", move || {
            stream.accept().unwrap().0.read(&mut [0; 9]).is_ok()
        });
        let datagram = UnixDatagram::bind(self.path("log.sock")).unwrap();
        self.watch("unix datagram", move || datagram.recv(&mut [0; 9]).is_ok());
        let name = SocketAddr::from_abstract_name(self.abstract_name()).unwrap();
        let hidden = UnixListener::bind_addr(&name).unwrap();
        self.watch("abstract socket", move || hidden.accept().is_ok());
    }

    /// Notes each time that `serve` says it was reached. The thread ends with the test's process.
    fn watch(&self, name: &'static str, serve: impl Fn() -> bool + Send + 'static) {
        let reached = self.reached.clone();
        std::thread::spawn(move || {
            while serve() {
                reached.lock().unwrap().insert(name);
            }
        });
    }

    fn abstract_name(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }

    /// Whether a service was reached since this was last asked; a moment may pass until it has noticed.
    pub fn was_reached(&self, name: &str) -> bool {
        let is_service = SERVICES.contains(&name);
        let mut looks = if is_service { 10 } else { 0 };
        while looks > 0 && !self.reached.lock().unwrap().contains(name) {
            std::thread::sleep(std::time::Duration::from_millis(30));
            looks -= 1;
        }
        self.reached.lock().unwrap().remove(name)
    }

    /// Services that were reached and not yet asked for.
    pub fn all_reached(&self) -> Vec<String> {
        let reached = self.reached.lock().unwrap();
        reached.iter().map(|name| (*name).to_owned()).collect()
    }

    /// What an attacker may know: where everything is.
    pub fn map(&self) -> Value {
        json!({
            "canary": CANARY,
            "home": self.folder.path(),
            "victim": self.program.id(),
            "heddle": std::process::id(),
            "address": self.secret.as_ptr() as usize,
            "tcp": self.tcp,
            "udp": self.udp,
            "abstract": self.abstract_name(),
        })
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
