//! Without a terminal: code in, exit codes out, and what is said of kernels that cannot be joined.

use std::io::Write;
use std::os::unix::fs::chown;
use std::process::{Command, Stdio};

use std::time::Duration;

use heddle::kernel::Client;
use heddle::protocol::content::ReplyStatus;
use heddle::protocol::{Channel, Content};
use heddle::transport::Popped;
use serde_json::{Value, json};

use crate::host::{Foreign, occupied, until_exists, world};
use crate::support::kernels::{cell, collect, printed, run};
use crate::support::world::World;

fn no_model() -> World {
    world("http://127.0.0.1:9")
}

#[tokio::test(flavor = "multi_thread")]
async fn code_runs_in_the_kernel_of_others_with_the_exit_codes_of_run_and_the_kernel_goes_on() {
    let world = no_model();
    let tcp = Foreign::start(&world, "tcp").await;
    let ipc = Foreign::start_ipc(&world, "ipc").await;
    for kernel in [&tcp, &ipc] {
        let client = kernel.client().await;
        run(&client, "x = 41").await;
        let attach = async |args: &[&str]| {
            world
                .run(&[&["attach", kernel.path()], args].concat())
                .await
        };
        let ended = attach(&["-c", "x += 1; print(x)"]).await;
        assert_eq!(
            (ended.code(), &*ended.stdout),
            (Some(0), "42\n"),
            "{ended:?}"
        );
        let ended = attach(&["-c", "1/0"]).await;
        assert_eq!(ended.code(), Some(1), "{ended:?}");
        assert!(ended.stderr.contains("ZeroDivisionError"), "{ended:?}");
        let ended = attach(&["--timeout", "0.5", "-c", "import time; time.sleep(60)"]).await;
        assert_eq!(ended.code(), Some(130), "{ended:?}");
        let ended = attach(&["--json", "-c", "x"]).await;
        assert_eq!(ended.one("result")["data"]["text/plain"], "42");
        assert_eq!(ended.one("kernel")["state"], "kept");
        assert_eq!(run(&client, "x").await.value.unwrap(), "42");
        assert!(kernel.lives());
    }
    // By the beginning of its id, from standard input.
    let mut child = Command::new(env!("CARGO_BIN_EXE_heddle"))
        .args(["attach", "tc"])
        .envs(world.variables().iter().cloned())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let code = "for i in range(2):\n    print(x + i)\n";
    child
        .stdin
        .take()
        .unwrap()
        .write_all(code.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"42\n43\n");
    assert!(output.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn last_is_the_newest_kernel_that_answers() {
    let world = no_model();
    let one = Foreign::start(&world, "one").await;
    let two = Foreign::start(&world, "two").await;
    let mut dead = Foreign::start(&world, "dead").await;
    for (kernel, seconds) in [(&one, 1000), (&two, 2000), (&dead, 3000)] {
        let id = kernel.path().to_owned();
        run(&kernel.client().await, &format!("me = {id:?}")).await;
        kernel.newest(seconds);
    }
    dead.kill();
    assert!(dead.file.exists(), "a killed kernel leaves its file");
    let ended = world.run(&["attach", "-c", "print(me)"]).await;
    assert_eq!(ended.stdout.trim(), two.path(), "{ended:?}");
    // As a front end writes it.
    let mut info = one.connection().unwrap();
    info.kernel_name = Some("theirs".into());
    std::fs::write(&one.file, info.to_json()).unwrap();
    let listed = world.run(&["kernel", "list"]).await.stdout;
    let named = |name: &str, kernel: &Foreign| {
        let mut lines = listed.lines();
        lines.any(|line| line.starts_with(name) && line.ends_with(kernel.path()))
    };
    assert!(named("theirs ", &one) && named("? ", &two), "{listed}");
    assert!(!listed.contains(dead.path()), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_cannot_be_joined_is_told_of_with_what_to_do() {
    let world = no_model();
    let mut kernel = Foreign::start(&world, "real").await;
    let real: Value = serde_json::from_slice(&std::fs::read(&kernel.file).unwrap()).unwrap();
    let written = |name: &str, change: Value| {
        let mut file = real.clone();
        file.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        world.file(name, &file.to_string())
    };
    let fails = async |file: &std::path::Path, parts: &[&str]| {
        let ended = world
            .run(&["attach", file.to_str().unwrap(), "-c", "1"])
            .await;
        assert_eq!(ended.code(), Some(3), "{ended:?}");
        for part in parts {
            assert!(ended.stderr.contains(part), "no {part:?} in {ended:?}");
        }
    };
    let curve = json!({"curve_publickey": "hidden", "curve_secretkey": "hidden"});
    fails(
        &written("curve.json", curve),
        &["CURVE", "start the kernel without it"],
    )
    .await;
    let wrong = written("wrong.json", json!({"key": "not the kernel's"}));
    fails(
        &wrong,
        &["the key in the file is not its own", "heddle attach"],
    )
    .await;
    fails(
        &world.file("garbage.json", "{\"ip\": 7"),
        &["cannot be read"],
    )
    .await;
    let missing = world.path("missing.json");
    fails(&missing, &["there is no such file", "real"]).await;
    let pipe = world.path("pipe.json");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    fails(&pipe, &["it is no connection file"]).await;
    let theirs = written("theirs.json", json!({}));
    // Only root can give files away.
    if chown(&theirs, Some(65534), None).is_ok() {
        fails(&theirs, &["belongs to another user", "sudo -u "]).await;
    }
    kernel.kill();
    fails(
        &kernel.file,
        &["nobody listens on tcp://", "heddle attach last"],
    )
    .await;
    let ended = world.run(&["attach", "nosuch", "-c", "1"]).await;
    assert_eq!(ended.code(), Some(3));
    assert!(
        ended.stderr.contains("no connection file has this id"),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_dies_under_the_code_is_a_failure_that_says_so() {
    let world = no_model();
    let kernel = Foreign::start(&world, "dies").await;
    let args = [
        "attach",
        kernel.path(),
        "-c",
        "import os; os.kill(os.getpid(), 9)",
    ];
    let ended = world.run(&args).await;
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let reason = "KernelDied: the kernel ended without a word: its connections are closed";
    assert!(ended.stderr.contains(reason), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_waits_for_another_clients_interrupts_nothing_and_its_time_begins_with_it() {
    let world = no_model();
    let kernel = Foreign::start(&world, "busy").await;
    let client = kernel.client().await;
    let (release, mut theirs) = occupied(&world, &client).await;
    let args = [
        "attach",
        kernel.path(),
        "--timeout",
        "0.5",
        "-c",
        "late = 7",
    ];
    let ended = world.run(&args).await;
    assert_eq!(ended.code(), Some(130), "{ended:?}");
    assert!(ended.stderr.contains("another client's"), "{ended:?}");
    assert!(ended.stderr.contains("still queued"), "{ended:?}");
    std::fs::write(release, "").unwrap();
    assert_eq!(collect(&mut theirs).await.error, None);
    assert_eq!(run(&client, "late").await.value.unwrap(), "7");

    // Two seconds of waiting and two of its own, with a limit of three.
    let code = "import time; print('begun', flush=True); time.sleep(2)";
    let mut theirs = client.request(Channel::Shell, cell(code));
    printed(&mut theirs, "begun").await;
    let code = "import time; time.sleep(2)";
    let args = ["attach", kernel.path(), "--timeout", "3", "-c", code];
    let ended = world.run(&args).await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(collect(&mut theirs).await.error, None);
}

/// Waits until another client's cell has printed this.
async fn seen(client: &Client, text: &str) {
    let seen = async {
        while let Some(popped) = client.others().await {
            if let Popped::Item(message) = popped
                && let Content::Stream(stream) = message.content
                && stream.text.contains(text)
            {
                return;
            }
        }
        panic!("the client ended");
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    seen.expect("it prints");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_fails_leaves_other_clients_queues_alone() {
    let world = no_model();
    let kernel = Foreign::start(&world, "queue").await;
    let client = kernel.client().await;
    let (release, code) = until_exists(&world);
    let code = format!("{code}\n1/0");
    let args = ["attach", kernel.path(), "-c", &code];
    let queued = async {
        seen(&client, "begun").await;
        let mut queued = client.request(Channel::Shell, cell("'mine'"));
        std::fs::write(release, "").unwrap();
        collect(&mut queued).await
    };
    let (ended, queued) = tokio::join!(world.run(&args), queued);
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    assert_eq!(queued.reply.unwrap().status, ReplyStatus::Ok);
}
