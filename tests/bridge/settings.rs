//! What settings, options and the surroundings of a bridge come to in its cells.

use heddle::protocol::content::KernelInfoRequest;
use heddle::protocol::{Channel, Content, Transport};

use super::served::{SOON, Served};
use crate::support::kernels::{Ran, python, run};
use crate::support::model_server::ModelServer;
use crate::support::process;
use crate::support::roles::answer;

/// Runs a cell that cannot have a kernel; gives what it is told.
async fn refused(client: &heddle::kernel::Client) -> String {
    let ran = run(client, "1").await;
    assert!(ran.whole(), "{ran:?}");
    let (ename, evalue) = ran.error.unwrap();
    assert_eq!(ename, "KernelStartError");
    evalue
}

#[tokio::test]
async fn a_mistake_in_the_settings_is_an_error_in_the_cell_until_it_is_mended() {
    let mut served = Served::before_it_starts(Transport::Ipc);
    let settings = served.folder.path().join("heddle.toml");
    std::fs::write(&settings, LOCAL.replace("local", "lokal")).unwrap();
    served.start_again(&[]);
    let client = served.connect().await;
    assert_eq!(client.info().await.unwrap().language_info.name, "python");
    let told = refused(&client).await;
    assert!(
        told.contains("heddle.toml:2") && told.contains("run the cell again"),
        "{told}"
    );
    // What would loosen it is one until the person trusts it.
    std::fs::write(&settings, LOCAL).unwrap();
    let told = refused(&client).await;
    let folder = served.folder.path().canonicalize().unwrap();
    let command = format!("heddle trust {}", folder.display());
    assert!(
        told.contains("execution_service.kernel_mode = local") && told.contains(&command),
        "{told}"
    );
    assert_eq!(client.info().await.unwrap().language_info.name, "python");
    served.trust();
    assert_eq!(run(&client, "6 * 7").await.value.as_deref(), Some("42"));
}

const LOCAL: &str = "[execution_service]\nkernel_mode = \"local\"\n";

/// A cell that ends its kernel, and waits for the end.
const DIE: &str = "import os; os._exit(1)";

#[tokio::test]
async fn what_code_writes_has_no_part_in_the_next_kernel_and_is_told_once() {
    let mut served = Served::before_it_starts(Transport::Ipc);
    let settings = served.folder.path().join("heddle.toml");
    std::fs::write(&settings, "# mine").unwrap();
    let plain = ["--mode", "sandbox"];
    served.start_again(&plain);
    let client = served.client().await;
    // Outside of what it is given.
    let outside = tempfile::tempdir_in("/var/tmp").unwrap();
    let reach = format!("import os; os.path.exists({:?})", outside.path());
    let reaches = |ran: &Ran| match &ran.value {
        Some(value) => value.clone(),
        None => panic!("{ran:?}"),
    };
    assert_eq!(reaches(&run(&client, &reach).await), "False");

    let granted = format!(
        "[execution_service]\nnetwork = true\nmounts = [{:?}]\n",
        outside.path()
    );
    let waits = "counts only once you trust it: execution_service.network = true";
    let later =
        "changed settings count when the kernel is restarted: execution_service.network = true";
    // Another kernel writes it, and then a person, who trusts it.
    for (told, end) in [(waits, ""), (later, "\n")] {
        std::fs::write(&settings, format!("{granted}{end}")).unwrap();
        assert!(run(&client, DIE).await.stdout.contains(told), "{told}");
        let ran = run(&client, &reach).await;
        assert!(reaches(&ran) == "False" && ran.whole(), "{ran:?}");
        assert!(!ran.stdout.contains("execution_service"), "{ran:?}");
        served.trust();
    }
    // As a control: from the next start on it counts.
    served.kill();
    let again = Served::before_it_starts(Transport::Ipc);
    let mut command = again.command(&plain);
    command
        .current_dir(served.folder.path())
        .env("XDG_STATE_HOME", served.home.path());
    let _child = process::Ended(command.spawn().unwrap());
    let client = again.client().await;
    assert_eq!(reaches(&run(&client, &reach).await), "True");
}

#[tokio::test]
async fn a_key_goes_nowhere_that_code_has_written_down() {
    let (mine, other) = (
        ModelServer::start(vec![answer("mine")]).await,
        ModelServer::start(vec![answer("other"), answer("other")]).await,
    );
    let served = Served::before_it_starts(Transport::Ipc);
    let mut command = served.command(&["--mode", "local"]);
    let user = served.home.path().join("heddle");
    std::fs::create_dir(&user).unwrap();
    let own = format!(
        "[llm]\nmodel = \"m\"\napi_key = \"k\"\napi_base = {:?}\n",
        mine.url()
    );
    std::fs::write(user.join("config.toml"), own).unwrap();
    for name in ["LLM_MODEL", "LLM_API_BASE", "LLM_API_KEY"] {
        command
            .env_remove(name)
            .env_remove(format!("HEDDLE_{name}"));
    }
    let work = served.home.path().join("w");
    command.env("HEDDLE_WORKSPACE_WORKSPACE_PATH", work);
    let _child = process::Ended(command.spawn().unwrap());
    let client = served.client().await;
    let planted = format!("[llm]\napi_base = {:?}\n", other.url());
    let code = format!("open('heddle.toml', 'w').write({planted:?})");
    assert_eq!(run(&client, &code).await.error, None);
    let (ename, told) = run(&client, "%ask who?").await.error.unwrap();
    assert_eq!(ename, "AskError");
    assert!(
        told.contains("llm.api_base = http") && told.contains("heddle trust "),
        "{told}"
    );
    assert_eq!(run(&client, "6 * 7").await.value.as_deref(), Some("42"));
    assert_eq!((mine.requests().len(), other.requests().len()), (0, 0));
    // As a control: it would have gone there.
    served.trust();
    assert_eq!(run(&client, "%ask who?").await.error, None);
    let requests = other.requests();
    assert_eq!(requests[0].header("authorization"), Some("Bearer k"));
}

#[tokio::test]
async fn a_project_that_was_removed_is_an_error_in_the_cell_until_it_is_back() {
    let served = Served::with(Transport::Ipc, &["-p", "gone", "--mode", "local"]);
    let client = served.connect().await;
    let told = refused(&client).await;
    assert!(told.contains("gone does not exist"), "{told}");
    std::fs::create_dir(served.folder.path().join("gone")).unwrap();
    assert_eq!(run(&client, "6 * 7").await.value.as_deref(), Some("42"));
}

#[tokio::test]
async fn what_a_start_says_is_never_in_the_front_ends_terminal_and_the_banner_names_the_place() {
    let mut served = Served::before_it_starts(Transport::Ipc);
    // A start in auto mode says which mode it took, and why.
    served.start_again(&[]);
    let client = served.client().await;
    let asked = client
        .ask(Channel::Shell, KernelInfoRequest {}.into())
        .await;
    let Content::KernelInfoReply(info) = asked.unwrap().content else {
        panic!("another reply");
    };
    let banner = info.banner;
    let named = ["in the sandbox", "in a container"];
    assert!(named.iter().any(|place| banner.contains(place)), "{banner}");
    // So does the one after a death.
    let code = "import os, threading; threading.Timer(0.2, os._exit, [9]).start(); os.getpid()";
    let old = served.run_folders();
    run(&client, code).await;
    process::within(SOON, "another starts", || {
        served.run_folders().iter().any(|new| !old.contains(new))
    })
    .await;
    assert_eq!(run(&client, "1").await.value.as_deref(), Some("1"));
    assert_eq!(served.said(), "");
}

#[tokio::test]
async fn the_python_that_it_was_installed_with_counts_before_the_front_ends() {
    let served = Served::before_it_starts(Transport::Ipc);
    let python = &python().executable;
    // The environment of a front end, which has ipykernel too.
    let bin = served.folder.path().join("venv/bin");
    std::fs::create_dir_all(&bin).unwrap();
    let script = format!("#!/bin/sh\nWRONG=1 exec {} \"$@\"\n", python.display());
    std::fs::write(bin.join("python"), script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("python"), executable).unwrap();
    let option = format!("--python={}", python.display());
    let mut command = served.command(&["--mode", "local", &option]);
    command.env("VIRTUAL_ENV", served.folder.path().join("venv"));
    let _child = process::Ended(command.spawn().unwrap());
    let client = served.client().await;
    let ran = run(&client, "import os; os.environ.get('WRONG', 'right')").await;
    assert_eq!(ran.value.as_deref(), Some("'right'"));
}

#[tokio::test]
async fn a_python_that_has_gone_is_an_error_in_the_cell_with_the_next_command() {
    let served = Served::with(
        Transport::Ipc,
        &["--mode", "local", "--python", "/nowhere/python"],
    );
    let client = served.connect().await;
    let told = refused(&client).await;
    assert!(
        told.contains("/nowhere/python") && told.contains("heddle kernel install"),
        "{told}"
    );
}
