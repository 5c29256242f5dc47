//! Peers that mean no good, on the addresses that anybody on the machine may reach.

use heddle::protocol::content::{ExecuteRequest, KernelInfoRequest};
use heddle::protocol::{Address, Channel, Content, Message, RawMessage, Signer, Transport};
use heddle::transport::{Dealer, Frames};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::served::{SOON, START, Served};
use crate::support::kernels::run;
use crate::support::zmtp;

async fn dealer(served: &Served) -> Dealer {
    let deadline = tokio::time::Instant::now() + START;
    Dealer::connect(served.info.address(Channel::Shell), "peer", deadline)
        .await
        .unwrap()
}

fn request(code: &str, key: &[u8]) -> Frames {
    let cell = ExecuteRequest {
        code: code.to_owned(),
        ..ExecuteRequest::default()
    };
    request_of(cell.into(), key)
}

fn request_of(content: Content, key: &[u8]) -> Frames {
    let mut message: RawMessage = Message::request(content, "session", "user").encode();
    Signer::new("hmac-sha256", key).unwrap().sign(&mut message);
    message.into_frames()
}

#[tokio::test]
async fn forged_repeated_and_broken_messages_do_nothing() {
    let served = Served::start(Transport::Tcp);
    let client = served.client().await;
    run(&client, "count = 0").await;
    let mut peer = dealer(&served).await;
    peer.sender
        .send(request("count += 100", b"wrong"))
        .await
        .unwrap();
    peer.sender
        .send(request("count += 100", b""))
        .await
        .unwrap();
    peer.sender
        .send(vec![bytes::Bytes::from_static(b"nonsense")])
        .await
        .unwrap();
    let genuine = request("count += 1", b"secret");
    for _ in 0..3 {
        peer.sender.send(genuine.clone()).await.unwrap();
    }
    let reply = tokio::time::timeout(SOON, peer.receiver.recv())
        .await
        .unwrap()
        .unwrap();
    let reply = RawMessage::parse(reply).unwrap();
    assert_eq!(reply.peek().unwrap().msg_type, "execute_reply");
    assert_eq!(run(&client, "count").await.value.as_deref(), Some("1"));

    // What the bridge answers itself never reaches the kernel, which would drop a repetition too.
    let asked = request_of(KernelInfoRequest {}.into(), b"secret");
    for _ in 0..3 {
        peer.sender.send(asked.clone()).await.unwrap();
    }
    let last = request_of(KernelInfoRequest {}.into(), b"secret");
    let last_id = RawMessage::parse(last.clone()).unwrap();
    let last_id = last_id.peek().unwrap().msg_id.into_owned();
    peer.sender.send(last).await.unwrap();
    let mut replies = 0;
    loop {
        let reply = tokio::time::timeout(SOON, peer.receiver.recv())
            .await
            .unwrap()
            .unwrap();
        replies += 1;
        let reply = RawMessage::parse(reply).unwrap();
        if reply.parent_msg_id().unwrap() == last_id {
            break;
        }
    }
    assert_eq!(replies, 2);
}

#[tokio::test]
async fn a_header_that_claims_five_terabytes_ends_its_connection_alone() {
    let served = Served::start(Transport::Tcp);
    let client = served.client().await;
    for channel in Channel::ALL {
        let Address::Tcp(host, port) = served.info.address(channel) else {
            unreachable!("it was asked for tcp");
        };
        let mut stream = TcpStream::connect((host, port)).await.unwrap();
        let role = if channel == Channel::Iopub {
            "SUB"
        } else {
            "DEALER"
        };
        zmtp::shake(&mut stream, role).await;
        stream
            .write_all(&zmtp::header(zmtp::LONG, 5 << 40))
            .await
            .unwrap();
        // Whatever it was going to say, it is over.
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{channel:?} is still open");
    }
    assert_eq!(run(&client, "1").await.value.as_deref(), Some("1"));
    assert!(served.memory() < 200 << 20);
}

#[tokio::test]
async fn the_kernel_never_sees_the_front_ends_key() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    // Built at run time, so that the cell itself does not hold it.
    let code = "
import glob, os
needle = ''.join(['sec', 'ret'])
seen = [path for path in glob.glob(os.path.dirname(__import__('ipykernel.connect').get_connection_file()) + '/*.json')
        if needle in open(path).read()]
print(seen, needle in str(dict(os.environ)))";
    let code = code.replace(
        "__import__('ipykernel.connect')",
        "__import__('ipykernel.connect', fromlist=['x'])",
    );
    assert_eq!(run(&client, &code).await.stdout, "[] False\n");
}
