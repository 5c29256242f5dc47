//! Project files that somebody else has written, or code: what they may set by themselves, and what a person is asked.

mod support;

use std::path::PathBuf;

use support::model_server::ModelServer;
use support::roles::{answer, task};
use support::terminal::Terminal;
use support::world::{Ended, KEY, World};

const NOWHERE: &str = "http://127.0.0.1:9/v1";
const QUESTION: &str = "Trust these values for this folder? y / N: ";

#[track_caller]
fn assert_code(ended: &Ended, code: i32) {
    assert_eq!(ended.code(), Some(code), "{ended:?}");
}

/// That a command stopped since nobody could be asked about this, and said what to type.
#[track_caller]
fn assert_refused(world: &World, ended: &Ended, value: &str) {
    assert_code(ended, 2);
    let desk = world.desk().canonicalize().unwrap();
    let command = format!("heddle trust {}", desk.display());
    for told in [value, &command, "--trust"] {
        assert!(ended.stderr.contains(told), "{told}: {ended:?}");
    }
}

/// The value of a key that counts.
async fn counting(world: &World, args: &[&str], key: &str) -> String {
    let ended = world.run(&[args, &["config", "show"]].concat()).await;
    let line = ended.stdout.lines().find(|line| line.starts_with(key));
    line.unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

/// A person whose own settings name their model.
fn at_home(server: &ModelServer) -> World {
    let world = World::new(NOWHERE).without("LLM_API_BASE");
    let own = format!("[llm]\napi_base = {:?}\n", server.url());
    std::fs::create_dir_all(world.path("config/heddle")).unwrap();
    std::fs::write(world.path("config/heddle/config.toml"), own).unwrap();
    world
}

#[tokio::test]
async fn neither_key_nor_record_goes_where_a_project_says_until_that_is_trusted() {
    let mine = ModelServer::start(vec![answer("mine"); 2]).await;
    let other = ModelServer::start(vec![answer("other"); 6]).await;
    let world = at_home(&mine);
    let profile = world.file("profile", "# mine\n");
    let planted = format!(
        "[llm]\nmodel = 'a'\napi_base = {:?}\nrecord = 'profile'\n",
        other.url()
    );
    world.file("heddle.toml", &planted);
    let ended = world.ask(&["Hello"]).await;
    assert_refused(&world, &ended, "llm.api_base = http");
    assert!(ended.stderr.contains("llm.record = "), "{ended:?}");
    assert_eq!((mine.requests().len(), other.requests().len()), (0, 0));
    assert_eq!(std::fs::read_to_string(&profile).unwrap(), "# mine\n");
    // What has no use for it does not stop.
    world.file("x.py", "1");
    for args in [
        &["run", "-c", "print(6 * 7)"][..],
        &["check", "x.py"],
        &["env", "list"],
        &["session", "list"],
        &["config", "show"],
    ] {
        let ended = world.run(args).await;
        assert_code(&ended, 0);
        assert!(!ended.stderr.contains("trust"), "{ended:?}");
    }
    let doctor = world.run(&["doctor"]).await;
    let told = "llm.record = ";
    assert!(
        doctor.stdout.contains(told) && doctor.stdout.contains("heddle trust "),
        "{doctor:?}"
    );

    // As a control: once it counts, it goes there.
    assert_code(&world.ask(&["--trust", "Hello"]).await, 0);
    assert_eq!(other.requests().len(), 1);
    let bearer = format!("Bearer {KEY}");
    assert_eq!(other.requests()[0].header("authorization"), Some(&*bearer));
    assert!(std::fs::read_to_string(&profile).unwrap().len() > 100);
    // That was for one command.
    assert_code(&world.ask(&["Hello"]).await, 2);
    assert_code(&world.run(&["trust", "--trust"]).await, 0);
    assert_code(&world.ask(&["Hello"]).await, 0);
    // Another model needs no trust, another address does, and so does the one before it then.
    world.file("heddle.toml", &planted.replace("'a'", "'b'"));
    assert_code(&world.ask(&["Hello"]).await, 0);
    world.file("heddle.toml", &planted.replace("/v1", "/v2"));
    assert_code(&world.run(&["run", "-c", "1"]).await, 0);
    world.file("heddle.toml", &planted);
    assert_refused(&world, &world.ask(&["Hello"]).await, "llm.api_base = http");

    assert_code(&world.run(&["trust", "--trust"]).await, 0);
    let listed = world.run(&["trust", "--list"]).await;
    assert!(
        listed.stdout.contains("desk: llm.api_base, llm.record\n"),
        "{listed:?}"
    );
    assert_code(&world.run(&["trust", "--revoke"]).await, 0);
    assert_refused(&world, &world.ask(&["Hello"]).await, "llm.api_base = http");
    assert_eq!((mine.requests().len(), other.requests().len()), (0, 3));
}

#[tokio::test]
async fn a_service_alone_moves_the_keys_address_and_so_needs_trust() {
    let world = World::new(NOWHERE).without("LLM_API_BASE");
    world.file("heddle.toml", "[llm]\napi_type = 'ollama'\n");
    assert_refused(
        &world,
        &world.ask(&["Hello"]).await,
        "llm.api_type = ollama",
    );
    let usual = "https://api.openai.com/v1";
    assert_eq!(counting(&world, &[], "llm.api_base").await, usual);
    let moved = "http://localhost:11434/v1";
    assert_eq!(counting(&world, &["--trust"], "llm.api_base").await, moved);
}

#[tokio::test]
async fn code_of_an_earlier_command_cannot_loosen_the_next_one() {
    let server = ModelServer::start(vec![answer("Hello."); 4]).await;
    let world = at_home(&server);
    let plant =
        "open('heddle.toml', 'w').write('[execution_service]\\nkernel_mode = \"local\"\\n')";
    let ended = world.run(&["run", "--mode", "sandbox", "-c", plant]).await;
    assert_code(&ended, 0);
    // Should the one before have taken it away.
    world.file(
        "heddle.toml",
        "[execution_service]\nkernel_mode = \"local\"\n",
    );
    let value = "execution_service.kernel_mode = local";
    for args in [&["ask", "Hello"][..], &["run", "-c", "1"], &["env", "list"]] {
        assert_refused(&world, &world.run(args).await, value);
    }
    assert_eq!(server.requests().len(), 0);
    let ended = world.run(&["ask", "Hello", "--trust"]).await;
    assert!(ended.stderr.starts_with("Local mode:"), "{ended:?}");

    // An explicit null loosens what the person wants always.
    let own = std::fs::OpenOptions::new()
        .append(true)
        .open(world.path("config/heddle/config.toml"));
    std::io::Write::write_all(
        &mut own.unwrap(),
        b"[code_interpreter]\napprove = 'always'\n",
    )
    .unwrap();
    std::fs::remove_file(world.desk().join("heddle.toml")).unwrap();
    world.file(
        "taskweaver_config.json",
        "{\"code_interpreter.approve\": null}",
    );
    let key = "code_interpreter.approve";
    assert_eq!(counting(&world, &[], key).await, "always");
    assert_eq!(counting(&world, &["--trust"], key).await, "never");
    assert_refused(
        &world,
        &world.ask(&["Hello"]).await,
        "code_interpreter.approve = null",
    );
}

#[tokio::test]
async fn what_is_stricter_is_never_asked_about() {
    let world = World::new(NOWHERE);
    world.file(
        "heddle.toml",
        "[llm]\nmodel = 'x'\napi_type = 'openai'\nmax_retries = 1\n\
         [execution_service]\nkernel_mode = 'sandbox'\nnetwork = false\nmemory = 512\nprocesses = 64\ncpus = 1\n\
         disk_free = 2000\n[kernel]\ntransport = 'ipc'\nkeep = 60\nstart_timeout = 90\n\
         [code_interpreter]\napprove = 'always'\nmax_retry_count = 1\ntimeout = 0\noutput_chars = 1000\n\
         code_verification_on = true\nallowed_modules = ['pandas']\n[session]\nmax_internal_chat_round_num = 3\n",
    );
    let none = world.run(&["trust"]).await;
    assert!(
        none.stdout.contains("has no value that needs your trust"),
        "{none:?}"
    );
    let ran = world.run(&["run", "--json", "-c", "1"]).await;
    assert_eq!(ran.one("session")["mode"], "sandbox");
}

#[tokio::test]
async fn at_a_terminal_a_person_is_asked_once_and_sees_what_they_say_yes_to() {
    let world = World::new(NOWHERE);
    world.file(
        "heddle.toml",
        "[execution_service]\nnetwork = true\ncustom_image = \"mine\u{202e}sruoy\u{2066}\"\n[llm]\napi_key = 'k'\n",
    );
    let args = ["run", "-c", "print(6 * 7)"];
    for (answer, asked) in [("n", true), ("", true), ("y", true), ("y", false)] {
        let mut terminal = Terminal::start(&world, &args);
        if asked {
            let shown = terminal.until(QUESTION).await;
            for told in [
                "heddle.toml sets, and it was not trusted so far:",
                "execution_service.network = true    (heddle.toml:2)",
                "code has the network",
                "custom_image = mine\\u202esruoy\\u2066",
            ] {
                assert!(shown.contains(told), "{told}\n{shown}");
            }
            assert!(
                !shown.contains("llm.api_key ="),
                "it has no use for that: {shown}"
            );
            terminal.line(answer);
        }
        if answer != "y" {
            terminal.until("goes on without them").await;
        }
        terminal.until("42").await;
        assert!(terminal.end().await.success());
        assert_eq!(terminal.all().contains(QUESTION), asked);
    }
}

#[tokio::test]
async fn where_nothing_can_be_remembered_a_yes_is_for_one_command() {
    let world = World::new(NOWHERE).with("XDG_STATE_HOME", "/dev/null/state");
    world.file("heddle.toml", "[execution_service]\nnetwork = true\n");
    for _ in 0..2 {
        let mut terminal = Terminal::start(&world, &["run", "-c", "print(6 * 7)"]);
        terminal.until(QUESTION).await;
        terminal.line("y");
        terminal.until("it counts for this command alone").await;
        terminal.until("42").await;
        assert!(terminal.end().await.success());
    }
}

#[tokio::test]
async fn a_no_is_also_for_a_kernel_that_goes_on() {
    let server = ModelServer::start(vec![task("Add."), answer("mine")]).await;
    let world = at_home(&server);
    world.file("heddle.toml", "[execution_service]\nnetwork = true\n");
    let args = ["chat", "--mode", "local", "--keep"];
    let mut terminal = Terminal::start(&world, &args);
    terminal.until(QUESTION).await;
    terminal.line("n");
    terminal.until("goes on without them").await;
    terminal.until("heddle> ").await;
    terminal.line("/vars");
    terminal.until("no variables").await;
    terminal.line("/exit");
    assert!(terminal.end().await.success());
    assert_code(&world.run(&["session", "stop"]).await, 0);
}

#[tokio::test]
async fn a_taskweaver_project_is_asked_about_once() {
    let server = ModelServer::start(vec![answer("done"); 2]).await;
    let world = World::new(NOWHERE)
        .without("LLM_API_BASE")
        .without("LLM_API_KEY")
        .without("LLM_MODEL");
    let file = |model: &str| {
        let text = format!(
            "{{\"llm.api_base\": {:?}, \"llm.api_key\": \"sk-tw\", \"llm.model\": {model:?}}}",
            server.url()
        );
        world.file("taskweaver_config.json", &text);
    };
    file("a");
    let args = ["ask", "Hello", "--mode", "local"];
    let mut terminal = Terminal::start(&world, &args);
    let shown = terminal.until(QUESTION).await;
    assert!(shown.contains("llm.api_key = set (hidden)"), "{shown}");
    terminal.line("y");
    terminal.until("done").await;
    terminal.end().await;
    assert!(!terminal.all().contains("sk-tw"));
    file("b");
    assert_code(&world.ask(&["Hello"]).await, 0);
    let request = &server.requests()[1];
    assert_eq!(request.header("authorization"), Some("Bearer sk-tw"));
    assert_eq!(request.body["model"], "b");
}

#[tokio::test]
async fn what_heddle_wrote_itself_is_trusted_there_and_nowhere_else() {
    let world = World::new(NOWHERE);
    let init = ["init", "--template", "production"];
    assert_code(&world.run(&init).await, 0);
    let none = world.run(&["trust"]).await;
    assert!(
        none.stdout.contains("has no value that needs your trust"),
        "{none:?}"
    );
    let copy = world.path("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(world.desk().join("heddle.toml"), copy.join("heddle.toml")).unwrap();
    let copy = copy.to_str().unwrap();
    let waits = world.run(&["trust", copy]).await;
    assert_code(&waits, 2);
    assert!(waits.stderr.contains("custom_image"), "{waits:?}");
    // The template for everyday use asks for nothing anywhere.
    std::fs::remove_file(world.desk().join("heddle.toml")).unwrap();
    assert_code(&world.run(&["init"]).await, 0);
    std::fs::copy(
        world.desk().join("heddle.toml"),
        world.path("copy/heddle.toml"),
    )
    .unwrap();
    assert_code(&world.run(&["trust", copy]).await, 0);
}

/// The user root of a container often works in a project of the person outside.
#[tokio::test]
async fn whose_file_it_is_does_not_matter_once_its_values_are_trusted() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "only root can give a file away"
    );
    let world = World::new(NOWHERE);
    let file = world.file(
        "heddle.toml",
        "[execution_service]\nkernel_mode = 'local'\n",
    );
    let owner = nix::unistd::Uid::from_raw(54_321);
    nix::unistd::chown(&file, Some(owner), None).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&file, everybody).unwrap();
    let run = async |args: &[&str]| {
        world
            .run(&[args, &["run", "-c", "print(6 * 7)"]].concat())
            .await
    };
    let passed = run(&[]).await;
    let told = "belongs to another user and is not used: name its folder with -p if you trust it";
    assert!(
        passed.stderr.contains(told) && passed.stdout == "42\n",
        "{passed:?}"
    );
    let desk = world.desk();
    let named = ["-p", desk.to_str().unwrap()];
    assert_refused(
        &world,
        &run(&named).await,
        "execution_service.kernel_mode = local",
    );
    assert_code(&world.run(&["trust", named[1], "--trust"]).await, 0);
    let trusted = run(&named).await;
    assert_eq!(
        (trusted.stdout.as_str(), trusted.stderr.as_str()),
        ("42\n", "")
    );
}

#[tokio::test]
async fn a_kernel_of_heddles_own_is_one_here_too_in_the_stricter_mode() {
    let world = World::new(NOWHERE);
    world.file(
        "project/heddle.toml",
        "[execution_service]\nprocesses = 600\n",
    );
    let install = ["kernel", "install", "--mode", "sandbox", "-p", "project"];
    assert_code(&world.run(&install).await, 0);
    // Who names a project there has said so.
    let none = world.run(&["trust", "project"]).await;
    assert!(
        none.stdout.contains("has no value that needs your trust"),
        "{none:?}"
    );
    world.file(
        "nb.ipynb",
        r#"{"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "heddle", "display_name": "Heddle"}},
           "cells": [{"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": null,
                      "source": "1"}]}"#,
    );
    let shown: Vec<PathBuf> = std::fs::read_dir(world.path("data/jupyter/kernels"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    for args in [
        &["run", "--json", "nb.ipynb"][..],
        &["run", "--json", "--kernel", "heddle", "-c", "1"],
        &[
            "run", "--json", "--kernel", "heddle", "--mode", "local", "-c", "1",
        ],
    ] {
        let ran = world.run(args).await;
        assert_eq!(ran.one("session")["mode"], "sandbox", "{ran:?}");
        // No bridge: that would be a kernel of this name.
        assert_eq!(ran.one("session")["kernel"], "python3", "{ran:?}");
    }
    let plain = world.run(&["run", "--json", "-c", "1"]).await;
    assert_eq!(plain.one("session")["mode"], "local");
}
