//! Every way in which a bridge, its kernel or its front end ends.

use heddle::protocol::content::{ExecuteRequest, ReplyStatus, ShutdownRequest};
use heddle::protocol::{Channel, Content, Transport};
use heddle::transport::Popped;

use super::served::{SOON, Served};
use crate::support::kernels::{cell, collect, printed, run};
use crate::support::process;

/// The kernel's process, and what it is known by.
async fn kernel_pid(client: &heddle::kernel::Client) -> i32 {
    let ran = run(client, "import os; print(os.getpid())").await;
    ran.stdout.trim().parse().unwrap()
}

#[tokio::test]
async fn a_kernel_that_dies_in_a_cell_is_named_and_replaced() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    run(&client, "x = 1").await;
    let mut dying = client.request(
        Channel::Shell,
        cell("import os, time; time.sleep(0.5); os.kill(os.getpid(), 9)"),
    );
    let mut queued = client.request(Channel::Shell, cell("print('not this')"));
    let ran = collect(&mut dying).await;
    assert!(ran.whole());
    let (ename, evalue) = ran.error.unwrap();
    assert_eq!(ename, "KernelDied");
    assert!(
        evalue.contains("signal 9") || evalue.contains("SIGKILL"),
        "{evalue}"
    );
    let reply = ran.reply.unwrap();
    assert_eq!(reply.status, ReplyStatus::Error);
    // jupyter console reckons with it.
    assert!(reply.execution_count.is_some());
    let ran = collect(&mut queued).await;
    assert!(ran.stdout.is_empty() && ran.reply.unwrap().status == ReplyStatus::Aborted);
    // The same bridge, another kernel.
    let ran = run(&client, "print('x' in globals())").await;
    assert_eq!(ran.stdout, "False\n");
}

#[tokio::test]
async fn the_comms_of_a_kernel_that_dies_are_closed() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    let made = "import comm\nfor name in ['kept', 'closed']: comm.create_comm(target_name=name, comm_id=name)";
    run(&client, made).await;
    run(
        &client,
        "comm.get_comm_manager().get_comm('closed').close()",
    )
    .await;
    run(&client, "import os; os.kill(os.getpid(), 9)").await;
    let mut closed = Vec::new();
    let other = async || tokio::time::timeout(SOON, client.others()).await;
    while closed.is_empty() {
        let Popped::Item(other) = other().await.unwrap().unwrap() else {
            panic!("some are lost");
        };
        if let Content::CommClose(close) = other.content {
            closed.push(close.comm_id);
        }
    }
    assert_eq!(closed, ["kept"]);
}

#[tokio::test]
async fn a_kernel_that_dies_between_cells_is_replaced_and_the_next_cell_is_told() {
    let served = Served::start(Transport::Ipc);
    let client = served.client().await;
    let old = served.run_folders();
    let code = "import os, threading; threading.Timer(0.3, os._exit, [9]).start(); os.getpid()";
    let pid: i32 = run(&client, code).await.value.unwrap().parse().unwrap();
    process::within(SOON, "it is gone", || !process::runs(pid)).await;
    process::within(SOON, "another starts", || {
        served.run_folders().iter().any(|new| !old.contains(new))
    })
    .await;
    // A cell that a front end runs for itself takes nothing away.
    let mut own = client.request(
        Channel::Shell,
        Content::ExecuteRequest(ExecuteRequest {
            code: "print('mine')".into(),
            store_history: false,
            ..ExecuteRequest::default()
        }),
    );
    let mut next = client.request(Channel::Shell, cell("print('again')"));
    let own = collect(&mut own).await;
    assert!(own.whole() && own.stdout == "mine\n", "{own:?}");
    let ran = collect(&mut next).await;
    assert!(ran.whole(), "{ran:?}");
    let told = "[the kernel exited with code 9 while nothing ran in it; variables are lost, files are kept]\n";
    assert_eq!(ran.stdout, format!("{told}again\n"));
    // Once.
    assert_eq!(run(&client, "print('more')").await.stdout, "more\n");
}

#[tokio::test]
async fn a_kernel_that_cannot_start_fails_the_cell_with_the_next_command() {
    let served = Served::with(Transport::Ipc, &["--mode", "local", "--kernel", "no-such"]);
    let client = served.connect().await;
    let ran = run(&client, "1").await;
    let (ename, evalue) = ran.error.unwrap();
    assert_eq!(ename, "KernelStartError");
    assert!(evalue.contains("heddle kernel list"), "{evalue}");
}

#[tokio::test]
async fn a_shutdown_ends_everything_also_in_a_cell_and_says_so() {
    let mut served = Served::start(Transport::Tcp);
    let client = served.client().await;
    let pid = kernel_pid(&client).await;
    let mut busy = client.request(
        Channel::Shell,
        cell("print('busy', flush=True)\nwhile True: pass"),
    );
    printed(&mut busy, "busy").await;
    let request = Content::ShutdownRequest(ShutdownRequest { restart: false });
    let reply = client.ask(Channel::Control, request).await.unwrap();
    assert!(matches!(reply.content, Content::ShutdownReply(reply) if !reply.restart));
    assert!(served.ended().await.success());
    process::within(SOON, "the kernel ends", || !process::runs(pid)).await;
    assert_eq!(served.run_folders(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_restart_is_a_new_process_on_the_same_addresses() {
    let mut served = Served::start(Transport::Tcp);
    for _ in 0..3 {
        let client = served.client().await;
        let ran = run(&client, "print('x' in globals()); x = 1").await;
        assert_eq!(ran.stdout, "False\n");
        let request = Content::ShutdownRequest(ShutdownRequest { restart: true });
        let reply = client.ask(Channel::Control, request).await.unwrap();
        assert!(matches!(reply.content, Content::ShutdownReply(reply) if reply.restart));
        served.ended().await;
        served.start_again(&["--mode", "local"]);
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_bridge_that_is_killed() {
    let mut served = Served::start(Transport::Ipc);
    let client = served.client().await;
    let pid = kernel_pid(&client).await;
    assert!(process::runs(pid));
    served.kill();
    process::within(SOON, "the kernel ends", || !process::runs(pid)).await;
    process::within(SOON, "its folder goes", || served.run_folders().is_empty()).await;
}

#[tokio::test]
async fn a_bridge_ends_with_the_server_that_started_it() {
    let served = Served::before_it_starts(Transport::Ipc);
    let heddle = served.command(&["--mode", "local"]);
    let mut server = std::process::Command::new("sh");
    server.arg("-c").arg("\"$0\" \"$@\" & echo $!; wait");
    server.arg(heddle.get_program()).args(heddle.get_args());
    server.current_dir(served.folder.path());
    for (name, value) in heddle.get_envs() {
        server.env(name, value.unwrap());
    }
    let mut server = process::Ended(server.stdout(std::process::Stdio::null()).spawn().unwrap());
    let client = served.client().await;
    let pid = kernel_pid(&client).await;
    server.0.kill().unwrap();
    process::within(SOON, "the kernel ends", || !process::runs(pid)).await;
    process::within(SOON, "its folder goes", || served.run_folders().is_empty()).await;
}

#[tokio::test]
async fn a_shutdown_ends_what_makes_a_python_environment() {
    let mut served = Served::before_it_starts(Transport::Ipc);
    let installation = served.folder.path().join("installation");
    let bin = installation.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    // A Python without ipykernel, whose pip takes its time.
    let python = r#"#!/bin/sh
case "$*" in
    *venv*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *pip*) echo Collecting everything; exec sleep 60.57 ;;
    *) echo '{"executable": "'"$0"'", "prefix": "/nowhere", "version": [3, 12], "tag": "x", "ipykernel": false, "path": []}' ;;
esac
"#;
    // It has the layout of an installation.
    let library = installation.join("lib/python3.12");
    std::fs::create_dir_all(&library).unwrap();
    std::fs::write(library.join("os.py"), "").unwrap();
    std::fs::write(bin.join("python3.12"), python).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("python3.12"), executable).unwrap();
    std::os::unix::fs::symlink("python3.12", bin.join("python3")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = served.command(&["--mode", "local"]);
    command
        .env("PATH", path)
        .env("XDG_DATA_HOME", served.folder.path())
        .env("XDG_CACHE_HOME", served.folder.path())
        .env_remove("VIRTUAL_ENV")
        .env_remove("CONDA_PREFIX");
    served.watch(command.spawn().unwrap());
    let client = served.connect().await;
    let steps = || process::running("60.57");
    process::within(SOON, "pip runs", || !steps().is_empty()).await;
    let request = Content::ShutdownRequest(ShutdownRequest { restart: false });
    client.ask(Channel::Control, request).await.unwrap();
    assert!(served.ended().await.success());
    process::within(SOON, "pip ends", || steps().is_empty()).await;
}
