//! The relay's two ends: the inner one as a program of this machine, and one that lies.

use std::process::Stdio;
use std::time::Instant;

use secrecy::SecretString;
use tokio::io::DuplexStream;
use tokio::process::{Child, Command};

use super::*;
use crate::kernel::container::init;

const PATIENCE: Duration = Duration::from_secs(20);

fn run_folder() -> (tempfile::TempDir, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let inside = ConnectionInfo::ipc("/run/heddle/k", SecretString::from("key")).unwrap();
    std::fs::write(folder.path().join(INSIDE), inside.to_json()).unwrap();
    let plan = Plan::of(folder.path()).unwrap();
    (folder, plan)
}

/// An inner end that says what the test tells it to.
async fn with_a_liar() -> (Relay, DuplexStream, tempfile::TempDir) {
    let (folder, plan) = run_folder();
    let (input, heard) = tokio::io::duplex(1 << 20);
    let mut relay = Relay::start(plan, Box::pin(input));
    relay.take(&encode(Kind::Ready, 0, b""), |_| {}).unwrap();
    (relay, heard, folder)
}

/// The next frame that goes to the inner end.
async fn heard(from: &mut DuplexStream) -> (u8, u8, Vec<u8>) {
    let mut header = [0; 4];
    from.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; u16::from_be_bytes([header[2], header[3]]).into()];
    from.read_exact(&mut body).await.unwrap();
    (header[0], header[1], body)
}

#[tokio::test]
async fn an_inner_end_that_breaks_the_rules_is_refused() {
    let long = [0; BODY];
    let flood: Vec<u8> = std::iter::repeat_with(|| encode(Kind::Data, 0, &long))
        .take(WINDOW / BODY + 1)
        .flatten()
        .collect();
    let closed = [encode(Kind::Close, 0, b""), encode(Kind::Data, 0, b"x")].concat();
    let twice = [encode(Kind::Close, 0, b""), encode(Kind::Close, 0, b"")].concat();
    for (said, expected) in [
        (encode(Kind::Data, 9, b"x"), "that there is not"),
        (encode(Kind::Credit, 9, &[0; 4]), "that there is not"),
        (
            encode(Kind::Credit, 0, &[0, 0, 0, 1]),
            "more than it was sent",
        ),
        (encode(Kind::Credit, 0, &[255; 4]), "more than it was sent"),
        (encode(Kind::Credit, 0, b"x"), "no proper credit"),
        (encode(Kind::Open, 0, b""), "not for it to send"),
        (encode(Kind::Hello, 0, b""), "not for it to send"),
        (flood, "more data than it was allowed"),
        (closed, "that it had closed"),
        (twice, "twice"),
        (
            b"Traceback (most recent call last)".to_vec(),
            "no known kind",
        ),
    ] {
        let (mut relay, mut to_inside, folder) = with_a_liar().await;
        let _client = UnixStream::connect(folder.path().join("k-1"))
            .await
            .unwrap();
        assert_eq!(heard(&mut to_inside).await.0, Kind::Hello as u8);
        assert_eq!(heard(&mut to_inside).await, (Kind::Open as u8, 0, vec![0]));
        let refused = relay.take(&said, |_| {}).unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[tokio::test]
async fn what_the_kernel_prints_is_told_apart() {
    let (mut relay, _inside, _folder) = with_a_liar().await;
    let mut printed: Vec<u8> = Vec::new();
    let said = [encode(Kind::Output, 7, b"a"), encode(Kind::Output, 0, b"b")].concat();
    for byte in said {
        relay.take(&[byte], |text| printed.extend(text)).unwrap();
    }
    assert_eq!(printed, b"ab");
}

#[tokio::test]
async fn a_second_set_of_sockets_is_not_made() {
    let (mut relay, _inside, folder) = with_a_liar().await;
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    relay.take(&encode(Kind::Ready, 0, b""), |_| {}).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before);
}

/// The real inner end, with a kernel that is a few lines of Python, in a folder of its own.
struct Inside {
    relay: tokio::task::JoinHandle<Vec<u8>>,
    child: Child,
    outside: tempfile::TempDir,
    _inside: tempfile::TempDir,
}

impl Inside {
    fn start(kernel: &str) -> Inside {
        Inside::start_with("0", kernel)
    }

    /// With a silence, in seconds, that ends it.
    fn start_with(silence: &str, kernel: &str) -> Inside {
        let (outside, plan) = run_folder();
        let inside = tempfile::tempdir().unwrap();
        let kernel = format!(
            "import os, sys, socket, threading, time\nos.chdir({:?})\n{kernel}",
            inside.path()
        );
        let mut child = Command::new("python3")
            .args(["-I", "-S", "-c", init::PROGRAM, "python3", "name", "owner"])
            .arg(silence)
            .arg(inside.path())
            .arg(&kernel)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut relay = Relay::start(plan, Box::pin(child.stdin.take().unwrap()));
        let mut output = child.stdout.take().unwrap();
        let relay = tokio::spawn(async move {
            let (mut printed, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
            while let Ok(count @ 1..) = output.read(&mut chunk).await {
                relay
                    .take(&chunk[..count], |text| printed.extend(text))
                    .unwrap();
            }
            relay.finish().await;
            printed
        });
        Inside {
            relay,
            child,
            outside,
            _inside: inside,
        }
    }

    async fn connect(&self, socket: usize) -> UnixStream {
        let path = self.outside.path().join(format!("k-{socket}"));
        let connected = async {
            loop {
                match UnixStream::connect(&path).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.unwrap()
    }
}

/// Five sockets, each of whose connections `serve(number, connection)` gets in a thread.
const SERVE: &str = "
def accept(number, listener):
    while True:
        connection = listener.accept()[0]
        threading.Thread(target=serve, args=(number, connection), daemon=True).start()
for number in range(1, 6):
    listener = socket.socket(socket.AF_UNIX); listener.bind(f'k-{number}'); listener.listen()
    threading.Thread(target=accept, args=(number, listener), daemon=True).start()
";

const ECHO: &str = "
def serve(number, connection):
    while data := connection.recv(65536): connection.sendall(data)
    connection.close()
";

#[tokio::test]
async fn bytes_come_through_both_ways_in_order() {
    let inside = Inside::start(&format!(
        "{ECHO}{SERVE}print('printed', flush=True)\ntime.sleep(60)"
    ));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let echoes = (1..=5).map(async |number| {
        let (mut read, mut write) = inside.connect(number).await.into_split();
        let mut came = vec![0; sent.len()];
        let (_, wrote) = tokio::join!(read.read_exact(&mut came), write.write_all(&sent));
        wrote.unwrap();
        assert!(came == sent);
    });
    tokio::time::timeout(PATIENCE, futures_util::future::join_all(echoes))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stalled_connection_delays_no_other() {
    let serve = "
def serve(number, connection):
    if number == 1:
        time.sleep(60)
    while data := connection.recv(65536): connection.sendall(data)
";
    let inside = Inside::start(&format!("{serve}{SERVE}time.sleep(60)"));
    let mut stalled = inside.connect(1).await;
    let flooded = async {
        loop {
            stalled.write_all(&[0; 1 << 16]).await.unwrap();
        }
    };
    let flooded = tokio::time::timeout(Duration::from_secs(1), flooded).await;
    assert!(flooded.is_err(), "a window is all that it takes");
    let mut other = inside.connect(2).await;
    let started = Instant::now();
    for _ in 0..20 {
        other.write_all(b"x").await.unwrap();
        other.read_exact(&mut [0]).await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_end_that_closes_closes_the_other_and_frees_its_number() {
    let serve = "
def serve(number, connection):
    if number == 1: connection.sendall(b'bye'); connection.close()
    else:
        while connection.recv(65536): pass
        print('closed', flush=True)
        os._exit(0)
";
    let mut inside = Inside::start(&format!("{serve}{SERVE}time.sleep(60)"));
    for _ in 0..600 {
        let mut said = String::new();
        inside
            .connect(1)
            .await
            .read_to_string(&mut said)
            .await
            .unwrap();
        assert_eq!(said, "bye");
    }
    inside.connect(2).await.write_all(b"x").await.unwrap();
    let status = tokio::time::timeout(PATIENCE, inside.child.wait())
        .await
        .unwrap();
    assert!(status.unwrap().success());
    assert_eq!(inside.relay.await.unwrap(), b"closed\n");
}

#[tokio::test]
async fn the_last_words_and_the_way_of_the_end_come_through() {
    for (end, code) in [("os.kill(os.getpid(), 11)", 128 + 11), ("os._exit(7)", 7)] {
        let serve = format!(
            "
def serve(number, connection):
    connection.sendall(bytes(200_000)); os.write(2, b'last'); {end}
"
        );
        let mut inside = Inside::start(&format!("{serve}{SERVE}time.sleep(60)"));
        let mut said = Vec::new();
        inside
            .connect(3)
            .await
            .read_to_end(&mut said)
            .await
            .unwrap();
        assert_eq!(said.len(), 200_000);
        let status = tokio::time::timeout(PATIENCE, inside.child.wait())
            .await
            .unwrap();
        assert_eq!(status.unwrap().code(), Some(code));
        assert_eq!(inside.relay.await.unwrap(), b"last");
    }
}

#[tokio::test]
async fn silence_ends_all_and_says_so() {
    let mut inside = Inside::start_with("1", &format!("{ECHO}{SERVE}time.sleep(60)"));
    let status = tokio::time::timeout(PATIENCE, inside.child.wait())
        .await
        .unwrap();
    assert_eq!(status.unwrap().code(), Some(init::SILENT));
    // No kernel can say it.
    let mut inside = Inside::start(&format!("os._exit({})", init::SILENT));
    let status = tokio::time::timeout(PATIENCE, inside.child.wait())
        .await
        .unwrap();
    assert_eq!(status.unwrap().code(), Some(1));
}
