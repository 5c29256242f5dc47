//! Kernels that outlive their command: `--keep`, and coming back to them.

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use heddle::kernel::Client;
use heddle::protocol::content::ShutdownRequest;
use heddle::protocol::{Channel, ConnectionInfo};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::kernels::{collect, run};
use support::model_server::{Answer, ModelServer};
use support::process;
use support::terminal::Terminal;
use support::world::{Ended, World, eventually};

const SOON: Duration = Duration::from_secs(20);

fn planner(code: &str, send_to: &str, message: &str) -> Answer {
    let reply = json!({
        "plan_reasoning": "", "init_plan": "", "plan": "", "current_plan_step": "", "code": code,
        "stop": if send_to == "User" { "Completed" } else { "InProcess" }, "send_to": send_to, "message": message,
    });
    Answer::text(&reply.to_string())
}

/// A model that runs each of these pieces of code for one request.
async fn world(codes: &[&str]) -> (ModelServer, World) {
    let answers = codes.iter().flat_map(|code| {
        [
            planner(code, "CodeInterpreter", "Run this."),
            planner("", "User", "Done."),
        ]
    });
    let server = ModelServer::start(answers.collect()).await;
    let world = World::new(server.url());
    (server, world)
}

fn printed(ended: &Ended) -> String {
    let streams = ended.of("stream").into_iter();
    streams.filter_map(|event| event["text"].as_str()).collect()
}

/// The process that keeps the kernel of this world's session.
fn keeper(world: &World) -> i32 {
    let id = world
        .session()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let running: Vec<i32> = process::running(&id);
    assert_eq!(running.len(), 1, "{running:?}");
    running[0]
}

/// The folder of the sockets that lead to the kept kernel.
fn kept_folder(world: &World) -> PathBuf {
    let note = std::fs::read(world.state().join("kept-kernel.json")).unwrap();
    let note: serde_json::Value = serde_json::from_slice(&note).unwrap();
    let file = Path::new(note["connection_file"].as_str().unwrap());
    file.parent().unwrap().to_path_buf()
}

#[tokio::test]
async fn a_kept_kernel_is_what_it_was_started_as() {
    let (server, world) = world(&["x = 1", "print('x' in globals())"]).await;
    let first = world.ask(&["--keep", "first"]).await;
    assert_eq!(first.one("session")["mode"], "local", "{first:?}");
    for other in [&["--mode", "sandbox"][..], &["--env", "X=1"]] {
        let refused = world
            .run(&[&["ask", "--session", "last"], other, &["x"]].concat())
            .await;
        assert_eq!(refused.code(), Some(2), "{refused:?}");
        assert!(
            refused.text().contains("heddle session stop"),
            "{refused:?}"
        );
    }
    // Whatever would be chosen now.
    let second = world
        .run(&["ask", "--json", "--session", "last", "second"])
        .await;
    assert_eq!(printed(&second), "True\n", "{second:?}");
    assert_eq!(second.one("session")["mode"], "local");
    let told = format!("{:?}", server.requests().last().unwrap().messages());
    assert!(told.contains("with the User's permissions"), "{told}");
    world.run(&["session", "stop"]).await;
    world.is_quiet().await;
}

#[tokio::test]
async fn the_doctor_removes_nothing_that_a_kept_kernel_needs() {
    let (_server, world) = world(&["x = 1", "print('x' in globals())"]).await;
    world.ask(&["--keep", "first"]).await;
    let folder = kept_folder(&world);
    let hour = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::open(&folder)
        .unwrap()
        .set_modified(hour)
        .unwrap();
    world.run(&["doctor", "--fix"]).await;
    assert!(folder.is_dir());
    let second = world.ask(&["--session", "last", "second"]).await;
    assert_eq!(printed(&second), "True\n", "{second:?}");
    // Once its keeper is gone it is one of those.
    kill(Pid::from_raw(keeper(&world)), Signal::SIGKILL).unwrap();
    eventually(SOON, "the end of the kept kernel", || {
        world.processes().is_empty()
    })
    .await;
    std::fs::File::open(&folder)
        .unwrap()
        .set_modified(hour)
        .unwrap();
    world.run(&["doctor", "--fix"]).await;
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_kept_kernel_has_its_variables_when_the_session_goes_on_and_is_everybodys() {
    let (_server, world) = world(&["answer = 6 * 7", "print('still', answer)"]).await;
    let first = world.ask(&["--keep", "first"]).await;
    assert_eq!(first.code(), Some(0), "{first:?}");
    let listed = world.run(&["session", "list"]).await;
    assert!(listed.text().contains("kept"), "{listed:?}");

    let second = world.ask(&["--session", "last", "second"]).await;
    assert_eq!(printed(&second), "still 42\n", "{second:?}");
    assert_eq!(second.one("kernel")["state"], "kept");

    // What jupyter's --existing takes.
    let connect = world.run(&["session", "connect"]).await;
    let text = connect.text();
    let file = text.trim();
    let info = ConnectionInfo::from_json(&std::fs::read(file).unwrap()).unwrap();
    let client = Client::connect(&info, tokio::time::Instant::now() + SOON)
        .await
        .unwrap();
    assert_eq!(run(&client, "answer").await.value.as_deref(), Some("42"));
    drop(client);

    let stopped = world.run(&["session", "stop"]).await;
    assert_eq!(stopped.code(), Some(0), "{stopped:?}");
    world.is_quiet().await;
    let again = world.run(&["session", "connect"]).await;
    assert_eq!(again.code(), Some(3));
    assert!(!std::path::Path::new(file).exists());
}

#[tokio::test]
async fn the_kernel_of_a_chat_is_shared_and_stays_the_chats() {
    let (_server, world) = world(&[
        "answer = 6 * 7",
        "import time; print('be' + 'gun'); time.sleep(2); print('then', answer)",
    ])
    .await;
    let mut chat = Terminal::start(&world, &["chat", "--mode", "sandbox"]);
    chat.until("heddle> ").await;
    chat.line("first");
    chat.until("Done.").await;
    chat.until("heddle> ").await;
    let listed = world.run(&["session", "list"]).await;
    assert!(listed.text().contains("running"), "{listed:?}");
    let connected = world.run(&["session", "connect"]).await.text();
    let file = Path::new(connected.trim());
    assert!(connected.ends_with("clients.json\n"), "{connected}");
    let info = ConnectionInfo::from_json(&std::fs::read(file).unwrap()).unwrap();
    let session = world.session();
    let inside = std::fs::read(world.state().join("running-kernel.json")).unwrap();
    let inside = ConnectionInfo::from_json(&inside).unwrap();
    assert_ne!(
        inside.address(Channel::Shell),
        info.address(Channel::Shell),
        "the kernel's own sockets are not given away"
    );
    let client = Client::connect(&info, tokio::time::Instant::now() + SOON)
        .await
        .unwrap();
    assert_eq!(run(&client, "answer").await.value.as_deref(), Some("42"));
    run(&client, "answer = 'theirs'").await;
    // The same bridge for all.
    let again = world.run(&["session", "connect"]).await.text();
    assert_eq!(again, connected);

    // Who shuts down what was shared ends the bridge, and no more, whatever runs at the terminal.
    chat.line("second");
    chat.until("begun").await;
    let request = ShutdownRequest { restart: false };
    let mut exchange = client.request(Channel::Control, request.into());
    assert!(collect(&mut exchange).await.died.is_none());
    chat.until("then theirs").await;
    chat.until("heddle> ").await;
    eventually(SOON, "the end of the bridge", || !file.exists()).await;

    // The terminal's own way there is found too, by the session's id or as the latest.
    let attached = world.run(&["attach", "last", "-c", "print(answer)"]).await;
    assert_eq!(attached.text().trim(), "theirs");
    let id = session.file_name().unwrap().to_str().unwrap();
    let attached = world.run(&["attach", id, "-c", "print(answer)"]).await;
    assert_eq!(attached.text().trim(), "theirs");

    // And another ends with the chat, however that ends.
    let connected = world.run(&["session", "connect"]).await.text();
    assert!(Path::new(connected.trim()).exists());
    kill(Pid::from_raw(chat.pid()), Signal::SIGKILL).unwrap();
    chat.end().await;
    eventually(SOON, "the end of the bridge", || {
        !Path::new(connected.trim()).exists()
    })
    .await;
    world.is_quiet().await;
    assert_eq!(world.run(&["session", "connect"]).await.code(), Some(3));
}

#[tokio::test]
async fn a_kept_kernel_ends_when_nobody_asks_anything_for_long_enough() {
    let (_server, world) = world(&["x = 1"]).await;
    let world = world.with("HEDDLE_KERNEL_KEEP", "3");
    let ended = world.ask(&["--keep", "first"]).await;
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    // Who is connected may be thinking.
    let note = kept_folder(&world).join("clients.json");
    let info = ConnectionInfo::from_json(&std::fs::read(note).unwrap()).unwrap();
    let deadline = tokio::time::Instant::now() + SOON;
    let client = Client::connect(&info, deadline).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(6), client.death()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(run(&client, "x").await.value.as_deref(), Some("1"));
    drop(client);
    eventually(SOON, "the end of the kept kernel", || {
        world.processes().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_kept_kernel_ends_with_its_session() {
    let (_server, world) = world(&["x = 1"]).await;
    world.ask(&["--keep", "first"]).await;
    let folder = kept_folder(&world);
    std::fs::remove_dir_all(world.session()).unwrap();
    eventually(SOON, "the end of the kept kernel", || !folder.exists()).await;
}

/// What code leaves in its folders leads nobody to a kernel of its choice.
#[tokio::test]
async fn a_note_that_code_has_written_leads_to_no_kernel() {
    let (_server, world) = world(&["x = 1"]).await;
    world.ask(&["--keep", "first"]).await;
    let note = std::fs::read(world.state().join("kept-kernel.json")).unwrap();
    let stopped = world.run(&["session", "stop"]).await;
    assert_eq!(stopped.code(), Some(0), "{stopped:?}");
    // The control: where notes are believed, it is followed, and then found to lead nowhere.
    let (session, state) = (world.session(), world.state());
    for folder in [
        session.clone(),
        session.join("cwd"),
        session.join("outputs"),
    ] {
        std::fs::write(folder.join("kept-kernel.json"), &note).unwrap();
        std::fs::write(folder.join("running-kernel.json"), &note).unwrap();
    }
    let pid = format!("{}", std::process::id());
    let own = String::from_utf8(note).unwrap();
    let start = own.find("\"heddle_pid\":").unwrap() + 13;
    let end = start + own[start..].find([',', '}']).unwrap();
    let own = format!("{}{pid}{}", &own[..start], &own[end..]);
    let listed = world.run(&["session", "list"]).await;
    assert!(!listed.text().contains("running"), "{listed:?}");
    std::fs::write(state.join("running-kernel.json"), own).unwrap();
    let listed = world.run(&["session", "list"]).await;
    assert!(listed.text().contains("running"), "{listed:?}");
}

#[tokio::test]
async fn a_keeper_that_is_killed_takes_its_kernel_along_and_the_session_says_what_is_lost() {
    let (_server, world) = world(&["x = 1", "print('x' in globals())"]).await;
    world.ask(&["--keep", "first"]).await;
    assert!(!world.processes().is_empty());
    let folder = kept_folder(&world);
    assert!(folder.is_dir());
    kill(Pid::from_raw(keeper(&world)), Signal::SIGKILL).unwrap();
    eventually(SOON, "the end of the kept kernel", || {
        world.processes().is_empty()
    })
    .await;
    let second = world.ask(&["--session", "last", "second"]).await;
    assert_eq!(printed(&second), "False\n", "{second:?}");
    assert_eq!(second.one("kernel")["state"], "lost");
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_kernel_that_cannot_be_kept_says_why() {
    let (_server, world) = world(&[]).await;
    let ended = world.ask(&["--keep", "--kernel", "no-such", "first"]).await;
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    assert!(
        format!("{ended:?}").contains("heddle kernel list"),
        "{ended:?}"
    );
}
