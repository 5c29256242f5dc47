//! What links leave behind: nothing.

use std::time::Duration;

use bytes::Bytes;
use heddle::kernel::Client;
use heddle::protocol::{Address, Channel, Transport};
use heddle::transport::{Dealer, Router};

use crate::support::kernels::{cell, connection as connection_of, printed, start};
use crate::support::process::{alone_with_folder, open_files, within};
use crate::support::zmtp::shake;

fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(10)
}

/// Runs `use_links` twice, once to warm up, and checks that files, tasks and folders are as before.
async fn leaves_nothing<F: AsyncFnMut()>(mut use_links: F) {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    use_links().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let before = (open_files(), tasks());
    use_links().await;
    let limit = Duration::from_secs(6);
    within(limit, "the same files and tasks", || {
        (open_files(), tasks()) <= before
    })
    .await;
    let left: Vec<_> = std::fs::read_dir(std::env::temp_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("link"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_links_leave_no_file_no_task_and_no_folder() {
    if alone_with_folder("links::two_hundred_links_leave_no_file_no_task_and_no_folder").is_none() {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let address = Address::Ipc(folder.path().join("s"));
    let mut router = Router::bind(address.clone()).await.unwrap();
    leaves_nothing(async || {
        for number in 0..200 {
            let mut dealer = Dealer::connect(address.clone(), "me", soon())
                .await
                .unwrap();
            dealer
                .sender
                .send(vec![Bytes::from(number.to_string())])
                .await
                .unwrap();
            let frames = router.recv().await.unwrap();
            router.sender.send(frames);
            let answer = dealer.receiver.recv().await.unwrap();
            assert_eq!(answer, [number.to_string().as_bytes()]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_and_abandoned_connections_leave_nothing_either() {
    if alone_with_folder("links::failed_and_abandoned_connections_leave_nothing_either").is_none() {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("s");
    // Accepts, says nothing, and goes after a moment.
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let silent = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
            drop(stream);
        }
    });
    let address = Address::Ipc(path);
    leaves_nothing(async || {
        for number in 0..100 {
            let connecting = Dealer::connect(address.clone(), "me", soon());
            let patience = Duration::from_millis(number % 10);
            let connected = tokio::time::timeout(patience, connecting).await;
            assert!(!matches!(connected, Ok(Ok(_))));
        }
    })
    .await;
    silent.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_dropped_with_its_requests_ends_its_tasks() {
    if alone_with_folder("links::a_client_dropped_with_its_requests_ends_its_tasks").is_none() {
        return;
    }
    let kernel = start(Transport::Ipc).await;
    let info = connection_of(&kernel);
    leaves_nothing(async || {
        for _ in 0..5 {
            let client = Client::connect(&info, soon()).await.unwrap();
            let mut exchange = client.request(
                Channel::Shell,
                cell("print('begun', flush=True)\nimport time; time.sleep(0.2)"),
            );
            printed(&mut exchange, "begun").await;
            let asking = client.request(Channel::Control, cell("never"));
            drop((client, exchange, asking));
        }
    })
    .await;
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_arrives_after_the_sender_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Ipc(folder.path().join("s"));
    let mut router = Router::bind(address.clone()).await.unwrap();
    for number in 0..50u8 {
        let mut dealer = Dealer::connect(address.clone(), "me", soon())
            .await
            .unwrap();
        // One in ten takes a while.
        let size = if number % 10 == 0 { 8 << 20 } else { 10 };
        let farewell = Bytes::from(vec![number; size]);
        dealer.sender.send(vec![farewell.clone()]).await.unwrap();
        drop(dealer);
        let received = tokio::time::timeout(Duration::from_secs(5), router.recv()).await;
        assert!(received.unwrap().unwrap()[1] == farewell);
    }
}

/// A peer that takes nothing is not waited for when we close.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_peer_does_not_keep_a_link_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let stalled = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        shake(&mut stream, "ROUTER").await;
        stream
    });
    let mut dealer = Dealer::connect(Address::Ipc(path), "me", soon())
        .await
        .unwrap();
    let stalled = stalled.await.unwrap();
    dealer
        .sender
        .send(vec![Bytes::from(vec![1; 10 << 20])])
        .await
        .unwrap();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    drop(dealer);
    assert!(tasks() > 0);
    within(Duration::from_secs(6), "its tasks end", || tasks() == 0).await;
    drop(stalled);
}
