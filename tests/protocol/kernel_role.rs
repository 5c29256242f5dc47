//! Our kernel side and real front ends, and peers that are none.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use heddle::conform::Target;
use heddle::kernel::Client;
use heddle::protocol::{Address, Channel, Content, Transport};
use heddle::transport::{
    Dealer, Frames, Publisher, Router, Subscriber, TransportError, bind_heartbeat,
};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::support::conformance::Report;
use crate::support::kernels::{cell, collect, python};
use crate::support::process::{alone, resident};
use crate::support::scripted_kernel::{ScriptedKernel, connection, gap};
use crate::support::zmtp::{closes, frame, header, read_message, shake};

const SECOND: Duration = Duration::from_secs(1);

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + 10 * SECOND
}

/// Lets a front end made of jupyter_client do `what`, over both transports.
async fn front_end(what: &str) {
    for transport in [Transport::Ipc, Transport::Tcp] {
        let folder = tempfile::tempdir().unwrap();
        let (info, file) = connection(transport, folder.path());
        let _kernel = ScriptedKernel::start(&info).await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/front_end.py");
        let output = tokio::process::Command::new(&python().executable)
            .arg(script)
            .arg(what)
            .arg(file)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(20 * SECOND, output)
            .await
            .unwrap()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_end_waits_for_ready_and_runs_cells() {
    front_end("execute").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_end_is_asked_for_input() {
    front_end("stdin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_welcomed() {
    front_end("welcome").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_under_its_identity_gets_its_replies() {
    front_end("handover").await;
}

/// What a kernel of a few words does not do is not our kernel side's fault: the rest is.
#[tokio::test(flavor = "multi_thread")]
async fn our_kernel_side_keeps_to_the_wire_protocol() {
    for transport in [Transport::Ipc, Transport::Tcp] {
        let folder = tempfile::tempdir().unwrap();
        let (info, _) = connection(transport, folder.path());
        let _kernel = ScriptedKernel::start(&info).await;
        let report = Report::of(Target::Running(Box::new(info))).await;
        report.assert_failed(&[
            "comm_info_request lists comms",
            "comm_open of an unknown target is closed",
            "inspect_request of nothing is answered",
            "session names the kernel",
        ]);
    }
}

/// Both ends are ours.
#[tokio::test(flavor = "multi_thread")]
async fn our_client_and_our_kernel_side_understand_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (info, _) = connection(Transport::Ipc, folder.path());
    let _kernel = ScriptedKernel::start(&info).await;
    let client = Client::connect(&info, soon()).await.unwrap();
    let ran = collect(&mut client.request(Channel::Shell, cell("say hello"))).await;
    assert_eq!(ran.stdout, "hello");
    assert!(ran.whole() && ran.reply.is_some());
    let another = Client::connect(&info, soon()).await.unwrap();
    let ran = collect(&mut another.request(Channel::Shell, cell("value 7"))).await;
    assert_eq!(ran.value.unwrap(), "7");
}

fn ipc(folder: &Path, name: &str) -> Address {
    Address::Ipc(folder.join(name))
}

async fn raw(address: &Address) -> UnixStream {
    let Address::Ipc(path) = address else {
        panic!("{address}")
    };
    UnixStream::connect(path).await.unwrap()
}

/// A subscriber of everything that reads only when it is told to.
async fn raw_subscriber(address: &Address) -> UnixStream {
    let mut stream = raw(address).await;
    shake(&mut stream, "SUB").await;
    stream.write_all(&frame(0, b"\x01")).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_never_reads_delays_nobody_and_fills_no_memory() {
    let name = "kernel_role::a_subscriber_that_never_reads_delays_nobody_and_fills_no_memory";
    if !alone(name, &[]) {
        return;
    }
    const MEGABYTES: u64 = 500;
    let folder = tempfile::tempdir().unwrap();
    let address = ipc(folder.path(), "iopub");
    let mut publisher = Publisher::bind(address.clone(), gap).await.unwrap();
    let mut stalled = raw_subscriber(&address).await;
    publisher.subscription().await.unwrap();
    let mut healthy = Subscriber::connect(address, soon()).await.unwrap();
    publisher.subscription().await.unwrap();

    let before = resident();
    for number in 0..MEGABYTES {
        let message = vec![
            Bytes::from_static(b"topic"),
            Bytes::from(number.to_string()),
            // Not zeroes, which would take no memory.
            Bytes::from(vec![number as u8 | 1; 1 << 20]),
        ];
        publisher.sender.publish(&message, false);
        let received = tokio::time::timeout(5 * SECOND, healthy.recv()).await;
        assert_eq!(received.unwrap().unwrap()[1], number.to_string().as_bytes());
        let grown = resident().saturating_sub(before) >> 20;
        assert!(grown < 200, "{grown} MB more after {number} MB");
    }
    publisher
        .sender
        .publish(&vec![Bytes::from_static(b"idle")], true);

    // Now it reads again: what was on its way, how much is missing, the newest, and what it cannot do without.
    let (mut next, mut missing) = (0, 0);
    loop {
        let message = tokio::time::timeout(5 * SECOND, read_message(&mut stalled)).await;
        let message = message.unwrap().unwrap();
        match &message[0][..] {
            b"topic" => {
                assert_eq!(message[1], (next + missing).to_string().into_bytes());
                next += 1;
            }
            b"gap" => {
                let text = String::from_utf8(message[1].clone()).unwrap();
                let (messages, bytes) = text.split_once(' ').unwrap();
                let messages: u64 = messages.parse().unwrap();
                assert!(bytes.parse::<u64>().unwrap() >= messages << 20);
                missing += messages;
            }
            b"idle" => break,
            _ => panic!("{message:?}"),
        }
    }
    assert!(next > 25 && missing > 0, "{next} {missing}");
    assert_eq!(next + missing, MEGABYTES);
}

/// What it said before it went is heard, also where an answer to it finds it gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sent_is_received_though_it_takes_no_answer_any_more() {
    // More than wait for us at a time.
    const SENT: u32 = 600;
    let folder = tempfile::tempdir().unwrap();
    let address = ipc(folder.path(), "shell");
    let mut router = Router::bind(address.clone()).await.unwrap();
    let mut leaving = raw(&address).await;
    shake(&mut leaving, "DEALER").await;
    let messages = (0..SENT).flat_map(|number| frame(0, &number.to_be_bytes()));
    let messages: Vec<u8> = messages.collect();
    leaving.write_all(&messages).await.unwrap();
    drop(leaving);
    let first = router.recv().await.unwrap();
    router
        .sender
        .send(vec![first[0].clone(), Bytes::from_static(b"answer")]);
    // It is never taken; by then it has failed.
    let _ = tokio::time::timeout(SECOND / 2, router.sender.drained()).await;
    for number in 1..SENT {
        let received = tokio::time::timeout(10 * SECOND, router.recv()).await;
        assert_eq!(
            received.unwrap().unwrap()[1],
            number.to_be_bytes().as_slice()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_send_faster_than_they_are_read_wait_and_fill_no_memory() {
    let name = "kernel_role::clients_that_send_faster_than_they_are_read_wait_and_fill_no_memory";
    if !alone(name, &[]) {
        return;
    }
    const EACH: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let address = ipc(folder.path(), "shell");
    let mut router = Router::bind(address.clone()).await.unwrap();
    let before = resident();
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let mut stream = raw(&address).await;
        shake(&mut stream, "DEALER").await;
        sending.spawn(async move {
            let message = frame(0, &vec![1; 1 << 20]);
            for _ in 0..EACH {
                stream.write_all(&message).await.unwrap();
            }
            stream
        });
    }
    // They get no further.
    assert!(
        tokio::time::timeout(SECOND, sending.join_next())
            .await
            .is_err()
    );
    let grown = resident().saturating_sub(before) >> 20;
    assert!((32..130).contains(&grown), "{grown} MB more");
    for _ in 0..3 * EACH {
        let received = tokio::time::timeout(5 * SECOND, router.recv()).await;
        assert_eq!(received.unwrap().unwrap()[1].len(), 1 << 20);
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_replies_delays_nobody_and_is_disconnected() {
    let name = "kernel_role::a_client_that_takes_no_replies_delays_nobody_and_is_disconnected";
    if !alone(name, &[]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let address = ipc(folder.path(), "shell");
    let mut router = Router::bind(address.clone()).await.unwrap();
    let mut stalled = raw(&address).await;
    shake(&mut stalled, "DEALER").await;
    stalled.write_all(&frame(0, b"request")).await.unwrap();
    let request = router.recv().await.unwrap();
    let mut healthy = Dealer::connect(address, "healthy", soon()).await.unwrap();

    let before = resident();
    for number in 0..300u32 {
        router
            .sender
            .send(vec![request[0].clone(), Bytes::from(vec![1; 1 << 20])]);
        healthy
            .sender
            .send(vec![Bytes::from(number.to_string())])
            .await
            .unwrap();
        let asked = router.recv().await.unwrap();
        router.sender.send(asked);
        let answer = tokio::time::timeout(5 * SECOND, healthy.receiver.recv()).await;
        assert_eq!(answer.unwrap().unwrap(), [number.to_string().as_bytes()]);
        let grown = resident().saturating_sub(before) >> 20;
        assert!(grown < 200, "{grown} MB more after {number} MB");
    }
    let mut megabytes = 0;
    while let Some(message) = read_message(&mut stalled).await {
        megabytes += message[0].len() >> 20;
    }
    assert!((100..200).contains(&megabytes), "{megabytes}");
}

/// Of each channel's kind.
async fn channels(folder: &Path) -> (Router, Publisher, impl Drop + use<>, [Address; 3]) {
    let addresses = ["shell", "iopub", "hb"].map(|name| ipc(folder, name));
    let [shell, iopub, hb] = addresses.clone();
    (
        Router::bind(shell).await.unwrap(),
        Publisher::bind(iopub, gap).await.unwrap(),
        bind_heartbeat(hb).await.unwrap(),
        addresses,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_announces_terabytes_loses_its_own_connection_only() {
    let before = resident();
    let folder = tempfile::tempdir().unwrap();
    let (mut router, mut publisher, _heartbeat, [shell, iopub, hb]) = channels(folder.path()).await;
    let mut good = Dealer::connect(shell.clone(), "good", soon())
        .await
        .unwrap();
    let mut subscriber = Subscriber::connect(iopub.clone(), soon()).await.unwrap();
    publisher.subscription().await.unwrap();
    for (address, socket_type) in [(&shell, "DEALER"), (&iopub, "SUB"), (&hb, "REQ")] {
        for shaken in [false, true] {
            let mut evil = raw(address).await;
            if shaken {
                shake(&mut evil, socket_type).await;
            } else {
                evil.write_all(&crate::support::zmtp::greeting())
                    .await
                    .unwrap();
            }
            evil.write_all(&header(0, 5 << 40)).await.unwrap();
            assert!(closes(&mut evil, 4 * SECOND).await, "{address}");
        }
    }
    assert!(resident() < before + (200 << 20));
    good.sender
        .send(vec![Bytes::from_static(b"still here")])
        .await
        .unwrap();
    let frames = router.recv().await.unwrap();
    assert_eq!(frames, [&b"good"[..], b"still here"]);
    router.sender.send(frames);
    assert_eq!(good.receiver.recv().await.unwrap(), [&b"still here"[..]]);
    publisher
        .sender
        .publish(&vec![Bytes::from_static(b"news")], true);
    assert_eq!(subscriber.recv().await.unwrap(), [&b"news"[..]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_nothing_is_closed_after_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (_router, _publisher, _heartbeat, addresses) = channels(folder.path()).await;
    let begun = Instant::now();
    let closed = addresses.iter().map(|address| async move {
        let mut silent = raw(address).await;
        assert!(closes(&mut silent, 12 * SECOND).await, "{address}");
    });
    futures_util::future::join_all(closed).await;
    assert!(begun.elapsed() > 4 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_a_channel_serves_are_closed_at_once_until_some_leave() {
    let name =
        "kernel_role::more_connections_than_a_channel_serves_are_closed_at_once_until_some_leave";
    if !alone(name, &[]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let address = ipc(folder.path(), "shell");
    let mut router = Router::bind(address.clone()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..256 {
        let mut stream = raw(&address).await;
        shake(&mut stream, "DEALER").await;
        held.push(stream);
    }
    // The last may be on its way to its seat.
    while !closes(&mut raw(&address).await, SECOND).await {}
    for _ in 0..50 {
        assert!(closes(&mut raw(&address).await, 4 * SECOND).await);
    }
    // The others are served as before.
    held[255].write_all(&frame(0, b"hello")).await.unwrap();
    let frames = router.recv().await.unwrap();
    router.sender.send(frames);
    assert_eq!(read_message(&mut held[255]).await.unwrap(), [b"hello"]);

    held.truncate(100);
    let mut late = loop {
        // Those that left may take a moment to be noticed.
        if let Ok(dealer) = Dealer::connect(address.clone(), "late", soon()).await {
            break dealer;
        }
    };
    late.sender
        .send(vec![Bytes::from_static(b"late")])
        .await
        .unwrap();
    assert_eq!(router.recv().await.unwrap(), [&b"late"[..], b"late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_subscriptions_end_the_connection() {
    let folder = tempfile::tempdir().unwrap();
    let address = ipc(folder.path(), "iopub");
    // Nobody asks for the subscriptions, which must not hold anything up.
    let publisher = Publisher::bind(address.clone(), gap).await.unwrap();
    let mut greedy = raw(&address).await;
    shake(&mut greedy, "SUB").await;
    for number in 0..2000 {
        let _ = greedy
            .write_all(&frame(0, format!("\x01{number}").as_bytes()))
            .await;
    }
    assert!(closes(&mut greedy, 4 * SECOND).await);
    let mut long = raw(&address).await;
    shake(&mut long, "SUB").await;
    long.write_all(&frame(0, &[1; 5000])).await.unwrap();
    assert!(closes(&mut long, 4 * SECOND).await);

    let mut modest = raw(&address).await;
    shake(&mut modest, "SUB").await;
    for number in 0..1000 {
        let topic = format!("\x01{number}");
        modest.write_all(&frame(0, topic.as_bytes())).await.unwrap();
    }
    let news: Frames = vec![Bytes::from_static(b"999")];
    loop {
        publisher.sender.publish(&news, true);
        let heard = tokio::time::timeout(SECOND / 20, read_message(&mut modest)).await;
        if let Ok(message) = heard {
            assert_eq!(message.unwrap(), [b"999"]);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_left_over_is_replaced_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let address = ipc(folder.path(), "shell");
    let Address::Ipc(path) = &address else {
        unreachable!()
    };
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    assert!(path.exists(), "left over");
    let router = Router::bind(address.clone()).await.unwrap();
    let refused = Router::bind(address.clone()).await.err().unwrap();
    assert!(matches!(refused, TransportError::Bind { .. }), "{refused}");
    // It was not harmed by the attempt.
    Dealer::connect(address.clone(), "me", soon())
        .await
        .unwrap();
    drop(router);
    assert!(!path.exists());
    // At once again, while the first may still be ending.
    for _ in 0..20 {
        let router = Router::bind(address.clone()).await.unwrap();
        Dealer::connect(address.clone(), "me", soon())
            .await
            .unwrap();
        drop(router);
    }
    std::fs::write(path, "precious").unwrap();
    assert!(Router::bind(address.clone()).await.is_err());
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
}

/// A queue of connections that is full is not a socket that nobody listens on.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_listener_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let address = ipc(folder.path(), "shell");
    let Address::Ipc(path) = &address else {
        unreachable!()
    };
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SECOND / 2, UnixStream::connect(path)).await {
        waiting.push(stream);
        assert!(waiting.len() < 10_000);
    }
    assert!(Router::bind(address.clone()).await.is_err());
    assert!(path.exists());
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp("127.0.0.1".into(), taken.local_addr().unwrap().port());
    let refused = Publisher::bind(address, gap).await.err().unwrap();
    assert!(refused.to_string().contains("in use"), "{refused}");
}

#[test]
fn the_scripted_kernel_speaks_of_gaps() {
    assert_eq!(gap(2, 7)[1], "2 7");
    assert!(matches!(cell("x"), Content::ExecuteRequest(_)));
}
