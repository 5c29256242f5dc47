//! What is given to a kernel with `--mount` and `execution_service.mounts`, and what never is.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::heddle::{Heddle, Ran, finish, managed_python};

/// With another home, and the environment that was made in the real one.
fn at_home(mut command: Command, home: &Path) -> Ran {
    let data = managed_python().ancestors().nth(5).unwrap();
    command.env("HOME", home).env("XDG_DATA_HOME", data);
    finish(command.spawn().unwrap())
}

/// Mounting is refused, or not, before anything is started in any mode.
fn mounting(heddle: &Heddle, path: &str) -> Ran {
    let command = heddle.command(["run", "--mode", "local", "--mount", path, "-c", "print(1)"]);
    at_home(command, &heddle.path("link"))
}

#[test]
fn homes_keys_settings_and_the_system_are_never_given() {
    let heddle = Heddle::new();
    std::fs::create_dir_all(heddle.path("home/.ssh")).unwrap();
    std::fs::create_dir_all(heddle.path("home/data")).unwrap();
    // A home is often a link.
    symlink(heddle.path("home"), heddle.path("link")).unwrap();
    for (path, reason) in [
        ("~/.ssh", "keys and settings are kept there"),
        ("~/", "holds a home"),
        ("/proc/self", "is the system's"),
        ("/dev", "is the system's"),
        ("/usr:rw", "is the system's"),
        ("~/nothing", "cannot be used"),
    ] {
        let ran = mounting(&heddle, path).assert_code(2);
        assert!(ran.err.contains(reason), "{path}: {ran:?}");
        assert!(ran.err.contains("--mount"), "{ran:?}");
    }
    for real in [heddle.path("home/.ssh"), heddle.path("home")] {
        mounting(&heddle, &real.display().to_string()).assert_code(2);
    }
    mounting(&heddle, "~/data:rw").assert_done("1\n");
}

#[test]
fn settings_name_mounts_as_the_command_line_does() {
    let heddle = Heddle::new();
    std::fs::create_dir_all(heddle.path("home/data")).unwrap();
    let run = |mounts: &str| {
        heddle.write(
            "heddle.toml",
            format!("[execution_service]\nmounts = [{mounts:?}]\n"),
        );
        let command = heddle.command(["run", "--trust", "--mode", "local", "-c", "print(1)"]);
        at_home(command, &heddle.path("home"))
    };
    run("~/data:rw").assert_done("1\n");
    let ran = run("~/datum").assert_code(2);
    let home = heddle.path("home").canonicalize().unwrap();
    let named = format!("execution_service.mounts: {}/datum", home.display());
    assert!(ran.err.contains(&named), "{ran:?}");
}
