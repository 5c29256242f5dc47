//! Our client and peers that are no kernels.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use heddle::kernel::{Client, Kernel};
use heddle::protocol::content::KernelInfoRequest;
use heddle::protocol::{Address, Channel, Content, Transport};
use heddle::transport::{Dealer, Subscriber, TransportError};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

use crate::support::kernels::{cell, collect, command, connection, printed, run, start};
use crate::support::process::resident;
use crate::support::zmtp::{LONG, MORE, closes, frame, header, read_message, shake};

fn within(limit: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + limit
}

const SECOND: Duration = Duration::from_secs(1);
/// Far above what anything here takes, on a busy machine too, and below every limit that would hide a fault.
const PROMPT: Duration = Duration::from_secs(4);

/// A peer that greets, shakes hands as `socket_type`, waits for a message and then sends `bytes`; gives the connection
/// back.
fn peer(
    path: &Path,
    socket_type: &'static str,
    bytes: Vec<u8>,
) -> tokio::task::JoinHandle<UnixStream> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        shake(&mut stream, socket_type).await;
        read_message(&mut stream).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream
    })
}

/// A connection on which a message was sent.
async fn asked(address: Address) -> Dealer {
    let mut shell = Dealer::connect(address, "me", within(PROMPT))
        .await
        .unwrap();
    shell
        .sender
        .send(vec![Bytes::from_static(b"hello")])
        .await
        .unwrap();
    shell
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    (folder, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_announces_terabytes_is_cut_off() {
    let before = resident();
    for (socket_type, flags) in [("ROUTER", 0), ("ROUTER", MORE), ("PUB", 0)] {
        let (_folder, path) = place();
        let peer = peer(&path, socket_type, header(flags, 5 << 40));
        let address = Address::Ipc(path);
        let received = match socket_type {
            "PUB" => {
                let iopub = Subscriber::connect(address, within(PROMPT)).await;
                iopub.unwrap().recv().await
            }
            _ => asked(address).await.receiver.recv().await,
        };
        let message = received.unwrap_err().to_string();
        assert!(message.contains("5497558138880"), "{message}");
        assert!(closes(&mut peer.await.unwrap(), PROMPT).await);
    }
    assert!(resident() < before + (200 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_leaves_in_mid_message_is_told_of() {
    let (_folder, path) = place();
    let mut bytes = frame(MORE, b"first frame");
    bytes.extend(header(0, 1000));
    bytes.extend([7; 500]);
    let peer = peer(&path, "ROUTER", bytes);
    let mut shell = asked(Address::Ipc(path)).await;
    drop(peer.await.unwrap());
    let received = tokio::time::timeout(PROMPT, shell.receiver.recv()).await;
    assert!(
        matches!(received, Ok(Err(TransportError::Closed(_)))),
        "{received:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_shakes_hands_is_given_up_at_the_deadline() {
    for greets in [false, true] {
        let (_folder, path) = place();
        let listener = UnixListener::bind(&path).unwrap();
        let silent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            if greets {
                stream
                    .write_all(&crate::support::zmtp::greeting())
                    .await
                    .unwrap();
            }
            stream
        });
        let asked = Instant::now();
        let connected = Dealer::connect(Address::Ipc(path), "me", within(SECOND / 2)).await;
        let error = connected.err().unwrap();
        assert!(matches!(error, TransportError::Handshake(_)), "{error}");
        assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
        assert!(closes(&mut silent.await.unwrap(), PROMPT).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_zmtp_are_an_error_at_once() {
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n........"[..],
        &[0xff; 200],
        &[0; 200],
    ] {
        let (_folder, path) = place();
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream
        });
        let asked = Instant::now();
        let connected = Dealer::connect(Address::Ipc(path), "me", within(10 * SECOND)).await;
        assert!(matches!(
            connected.err(),
            Some(TransportError::Handshake(_))
        ));
        assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
        drop(server.await.unwrap());
    }
}

/// Code in a kernel may swap the name of its socket for a link to a socket of the host.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_a_socket_is_refused_and_so_is_a_file() {
    let (folder, path) = place();
    let target = UnixListener::bind(&path).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [link, file, folder.path().to_owned()] {
        let asked = Instant::now();
        let connected = Dealer::connect(Address::Ipc(path), "me", within(10 * SECOND)).await;
        let message = connected.err().unwrap().to_string();
        assert!(message.contains("it is not a socket"), "{message}");
        assert!(asked.elapsed() < PROMPT);
    }
    let touched = tokio::time::timeout(SECOND / 5, target.accept()).await;
    assert!(touched.is_err(), "nobody spoke to the host's socket");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_listen_in_time_is_named() {
    let (_folder, path) = place();
    let connected = Dealer::connect(Address::Ipc(path.clone()), "me", within(SECOND / 5)).await;
    let message = connected.err().unwrap().to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_appears_late_is_waited_for() {
    let (_folder, path) = place();
    let connecting = tokio::spawn(Dealer::connect(
        Address::Ipc(path.clone()),
        "me",
        within(10 * SECOND),
    ));
    tokio::time::sleep(SECOND / 5).await;
    let peer = peer(&path, "ROUTER", frame(0, b"here"));
    let mut shell = connecting.await.unwrap().unwrap();
    shell
        .sender
        .send(vec![Bytes::from_static(b"hello")])
        .await
        .unwrap();
    assert_eq!(shell.receiver.recv().await.unwrap(), [&b"here"[..]]);
    drop(peer);
}

/// A connection that breaks under a waiting request ends it, also where nobody watches the kernel's process.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_request_is_told_of_a_kernel_that_went_away() {
    let kernel: Kernel = start(Transport::Ipc).await;
    let client = Client::connect(&connection(&kernel), within(10 * SECOND))
        .await
        .unwrap();
    let mut exchange = client.request(
        Channel::Shell,
        cell("print('begun', flush=True)\nimport time; time.sleep(100)"),
    );
    printed(&mut exchange, "begun").await;
    kernel.kill();
    let killed = Instant::now();
    assert!(collect(&mut exchange).await.died.is_some());
    assert!(killed.elapsed() < PROMPT, "{:?}", killed.elapsed());
    let late = client
        .ask(Channel::Shell, KernelInfoRequest {}.into())
        .await;
    assert!(late.is_err());
}

/// Messages that anybody could have sent, and that no kernel means: dropped, counted, and the client goes on.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_between_good_messages_is_counted_and_harms_nothing() {
    let python = crate::support::kernels::python()
        .executable
        .to_string_lossy();
    let code = "
import sys
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance()
app.initialize(['-f', sys.argv[1]])
def garbage():
    for frames in ([b''], [b'<IDS|MSG>'], [b'<IDS|MSG>', b'', b'{}', b'{}', b'{}', b'{}'], [b'x'] * 900):
        app.iopub_thread.send_multipart(frames)
app.kernel.shell.user_ns['garbage'] = garbage
app.start()";
    let kernel = Kernel::start(command(&[&python, "-c", code, "{connection_file}"]))
        .await
        .unwrap();
    let ran = run(kernel.client(), "garbage(); 1 + 1").await;
    assert_eq!(ran.value.unwrap(), "2");
    assert_eq!(kernel.client().unverified(), 4);
    kernel.shutdown().await;
}

#[test]
fn helpers_write_what_the_specification_says() {
    assert_eq!(header(0, 255), [0, 255]);
    assert_eq!(header(MORE, 256), [MORE | LONG, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert!(matches!(
        Content::from(KernelInfoRequest {}),
        Content::KernelInfoRequest(_)
    ));
}
