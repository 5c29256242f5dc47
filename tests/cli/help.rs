//! What needs no Python: help, version, completions, and being told of wrong use.

use crate::heddle::{Heddle, Ran, finish};

/// With nothing of the machine: no PATH, no home.
fn bare(args: &[&str]) -> Ran {
    let heddle = Heddle::bare();
    let mut command = heddle.command(args);
    command.env("PATH", "").env_remove("HOME");
    finish(command.spawn().unwrap())
}

#[test]
fn help_version_and_completions_need_nothing() {
    let version = format!("heddle {}\n", env!("CARGO_PKG_VERSION"));
    bare(&["--version"]).assert_done(&version);
    let commands = [
        "run",
        "ask",
        "chat",
        "attach",
        "check",
        "demo",
        "kernel",
        "session",
        "config",
        "trust",
        "completions",
    ];
    let help = bare(&["--help"]).assert_code(0).assert_err("");
    for command in commands {
        assert!(
            help.out.contains(&format!("\n  {command} ")),
            "{command} is missing: {help:?}"
        );
        let help = bare(&[command, "--help"]).assert_code(0).assert_err("");
        assert!(
            help.out.contains(&format!("Usage: heddle {command}")),
            "{help:?}"
        );
    }
    assert!(help.out.contains("130 interrupted"), "{help:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bare(&["completions", shell]).assert_code(0).assert_err("");
        assert!(
            script.out.contains("heddle") && script.out.contains("session"),
            "{shell}: {script:?}"
        );
    }
}

#[test]
fn wrong_use_is_exit_code_2_and_says_what_is_right() {
    let cases: &[(&[&str], &str)] = &[
        (&["runn"], "a similar subcommand exists: 'run'"),
        (
            &["run", "-c", "1", "--timeot", "3"],
            "a similar argument exists: '--timeout'",
        ),
        (
            &["completions", "tcsh"],
            "possible values: bash, elvish, fish, powershell, zsh",
        ),
        (
            &["run", "--mode", "remote", "-c", "1"],
            "possible values: auto, local, container, sandbox",
        ),
        (&["ask", " "], "error: the request is empty"),
    ];
    for (args, hint) in cases {
        let ran = bare(args).assert_code(2).assert_out("");
        assert!(ran.err.contains(hint), "{ran:?}");
    }
    // Without a command: the help, as an error.
    let ran = bare(&[]).assert_code(2).assert_out("");
    assert!(ran.err.contains("Usage: heddle"), "{ran:?}");
}

#[test]
fn no_listing_breaks_when_its_reader_has_gone() {
    let heddle = Heddle::bare();
    for args in [
        &["completions", "bash"][..],
        &["config", "show"],
        &["kernel", "list"],
        &["session", "list"],
    ] {
        let mut child = heddle.command(args).spawn().unwrap();
        drop(child.stdout.take());
        finish(child).assert_code(0).assert_err("");
    }
}
