//! What settings, options and the surroundings of a bridge come to in its cells.

use heddle::protocol::content::KernelInfoRequest;
use heddle::protocol::{Channel, Content, Transport};

use super::served::{SOON, Served};
use crate::support::kernels::{python, run};
use crate::support::process;

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
    std::fs::write(&settings, "[execution_service]\nkernel_mode = \"lokal\"\n").unwrap();
    served.start_again(&[]);
    let client = served.connect().await;
    assert_eq!(client.info().await.unwrap().language_info.name, "python");
    let told = refused(&client).await;
    assert!(
        told.contains("heddle.toml:2") && told.contains("run the cell again"),
        "{told}"
    );
    std::fs::write(&settings, "[execution_service]\nkernel_mode = \"local\"\n").unwrap();
    assert_eq!(run(&client, "6 * 7").await.value.as_deref(), Some("42"));
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
