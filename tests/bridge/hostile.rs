//! Peers that mean no good, on the addresses that anybody on the machine may reach.

use heddle::kernel::Incoming;
use heddle::protocol::content::{ExecuteRequest, KernelInfoRequest};
use heddle::protocol::{Address, Channel, Content, Message, RawMessage, Signer, Transport};
use heddle::transport::{Dealer, Frames, Popped};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::served::{SOON, START, Served};
use crate::support::kernels::{cell, collect, next, run};
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

/// A stranger's connection, until it is ended: what it does that a client would not.
async fn stranger(address: Address, channel: Channel, kind: usize) {
    let Address::Tcp(host, port) = address else {
        unreachable!("it was asked for tcp");
    };
    let role = match channel {
        Channel::Iopub => "SUB",
        _ => "DEALER",
    };
    // It comes back when it is shown out.
    for _ in 0..20 {
        let Ok(mut stream) = TcpStream::connect((host.as_str(), port)).await else {
            return;
        };
        let mut bytes = zmtp::greeting();
        if kind > 1 {
            // The name of the one real client: it is in the header of all that it causes.
            bytes.extend(zmtp::ready(role, if kind == 4 { "peer" } else { "" }));
        }
        if kind > 0 && stream.write_all(&bytes).await.is_err() {
            continue;
        }
        bytes.clear();
        match kind {
            2 => {
                bytes.extend(zmtp::header(0, 900 << 10));
                bytes.extend(vec![1; 300 << 10]);
            }
            3 => {
                for frame in request("count += 100", b"wrong") {
                    bytes.extend(zmtp::frame(zmtp::MORE, &frame));
                }
                bytes.extend(zmtp::frame(0, b""));
            }
            5 => bytes.extend(zmtp::header(zmtp::LONG, 256 << 20)),
            6 => bytes.extend(zmtp::frame(0, b"\x01")),
            _ => {}
        }
        let messages = if kind == 3 { 1000 } else { 1 };
        for _ in 0..messages {
            if stream.write_all(&bytes).await.is_err() {
                break;
            }
        }
        if kind != 3 {
            // Until then it stays, and says no more.
            let mut chunk = [0; 4096];
            while let Ok(1..) = stream.read(&mut chunk).await {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_strangers_cost_little_take_nothing_and_keep_nobody_out() {
    let served = Served::start(Transport::Tcp);
    let client = served.client().await;
    let mut peer = dealer(&served).await;
    let hello = request_of(KernelInfoRequest {}.into(), b"secret");
    peer.sender.send(hello).await.unwrap();
    let reply = tokio::time::timeout(SOON, peer.receiver.recv()).await;
    reply.unwrap().unwrap();

    let mut strangers = tokio::task::JoinSet::new();
    // More than a channel has seats for strangers on those that a client cannot do without.
    let ports = [
        (Channel::Shell, 130),
        (Channel::Stdin, 130),
        (Channel::Control, 20),
        (Channel::Iopub, 12),
        (Channel::Heartbeat, 8),
    ];
    for (channel, strangers_there) in ports {
        for number in 0..strangers_there {
            let address = served.info.address(channel);
            // Those that are shown out at once take no seats.
            let kind = match number {
                ..14 => number % 7,
                _ => [0, 1, 2, 4, 6][number % 5],
            };
            strangers.spawn(stranger(address, channel, kind));
        }
    }
    let mut most = 0;
    for round in 0..10 {
        // One that is there, one that is known by a name that others have taken, and a new one.
        let ran = run(&client, &format!("print('x' * 1_000_000); {round}")).await;
        assert_eq!(ran.value.as_deref(), Some(&*round.to_string()));
        most = most.max(served.memory());
        peer.sender.send(request("1", b"secret")).await.unwrap();
        let reply = tokio::time::timeout(SOON, peer.receiver.recv()).await;
        let reply = RawMessage::parse(reply.unwrap().unwrap()).unwrap();
        assert_eq!(reply.peek().unwrap().msg_type, "execute_reply");
        let new = served.client().await;
        let mut asking = new.request(Channel::Shell, cell("print(input('?'))"));
        let question = loop {
            match next(&mut asking).await.unwrap() {
                Popped::Item(Incoming::Input(question)) => break question,
                Popped::Item(_) => {}
                gap => panic!("{gap:?}"),
            }
        };
        new.answer_input(&question, "heard".into());
        assert_eq!(collect(&mut asking).await.stdout, "heard\n");
        most = most.max(served.memory());
    }
    assert!(most < 100 << 20, "{most} bytes of memory");
    drop(strangers);
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
