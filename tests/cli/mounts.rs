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

/// Wherever the variables put them, and also where only a link to them is in the folder.
#[test]
fn folders_of_heddles_own_are_never_given() {
    let heddle = Heddle::new();
    let odd = heddle.path("odd");
    std::fs::create_dir_all(odd.join("free")).unwrap();
    std::fs::create_dir_all(heddle.path("elsewhere/real")).unwrap();
    symlink(heddle.path("elsewhere/real"), odd.join("link")).unwrap();
    let run = |variable: &str, place: &str, args: &[&str], cwd: &Path| {
        let args = [&["run"], args, &["-c", "print(1)"]].concat();
        let mut command = heddle.command(args);
        command.env(variable, odd.join(place)).current_dir(cwd);
        // Heddle's own environment is where its data is.
        command.env("VIRTUAL_ENV", managed_python().ancestors().nth(2).unwrap());
        finish(command.spawn().unwrap())
    };
    let told = "Heddle keeps files of its own there";
    let shown = |path: &Path| path.display().to_string();
    for variable in [
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_CACHE_HOME",
    ] {
        for (place, mount) in [
            // None of them need be there yet.
            ("kept", "odd"),
            ("kept", "odd/kept/heddle"),
            ("kept", "odd/kept/heddle/sessions"),
            ("link", "odd"),
            ("link", "elsewhere"),
        ] {
            std::fs::create_dir_all(heddle.path(mount)).unwrap();
            let mount = shown(&heddle.path(mount));
            for access in ["", ":rw"] {
                let given = format!("{mount}{access}");
                let args = ["--mode", "local", "--mount", &given];
                let ran = run(variable, place, &args, &heddle.cwd()).assert_code(2);
                assert!(ran.err.contains(told), "{variable} {place}: {ran:?}");
            }
        }
        let ran = run(variable, "kept", &["--mode", "sandbox"], &odd).assert_code(2);
        assert!(ran.err.contains("code cannot work here"), "{ran:?}");
        assert!(ran.err.contains(told), "{ran:?}");
    }
    // The control: beside them, it is given.
    let free = shown(&odd.join("free"));
    let args = ["--mode", "local", "--mount", &free];
    run("XDG_STATE_HOME", "kept", &args, &heddle.cwd()).assert_done("1\n");
    // Where kernels run.
    let ran = run(
        "XDG_RUNTIME_DIR",
        "",
        &["--mode", "local", "--mount", &shown(&odd)],
        &heddle.cwd(),
    );
    assert!(ran.assert_code(2).err.contains(told));
}

#[test]
fn links_above_where_code_can_write_are_followed_and_said_and_those_below_are_not() {
    let heddle = Heddle::new();
    for folder in ["project/a", "data", "real/data"] {
        std::fs::create_dir_all(heddle.path(folder)).unwrap();
    }
    symlink(heddle.path("real"), heddle.path("way")).unwrap();
    symlink(heddle.path("real"), heddle.path("project/link")).unwrap();
    let run = |mount: &str| {
        let mut command = heddle.command([
            "run", "--mode", "sandbox", "--mount", mount, "-c", "print(1)",
        ]);
        command.current_dir(heddle.path("project"));
        at_home(command, &heddle.path("home"))
    };
    std::fs::create_dir_all(heddle.path("home")).unwrap();
    run("../data").assert_done("1\n");
    let real = heddle.path("real/data").canonicalize().unwrap();
    run("../way/data:rw").assert_code(0).assert_err(&format!(
        "--mount ../way/data:rw: this is {}.\n",
        real.display()
    ));
    let ran = run("link/data:rw").assert_code(2);
    let told = format!(
        "link is a link to {}, in a folder that code can write to",
        heddle.path("real").display()
    );
    let instead = format!("name the path without the link: {}", real.display());
    assert!(
        ran.err.contains(&told) && ran.err.contains(&instead),
        "{ran:?}"
    );
}

#[test]
fn a_start_in_a_repository_says_what_of_git_does_not_work() {
    let heddle = Heddle::new();
    std::fs::create_dir_all(heddle.path("home")).unwrap();
    let made = Command::new("git")
        .args(["init", "-q"])
        .current_dir(heddle.cwd())
        .status();
    assert!(made.unwrap().success());
    let run = |options: &[&str]| {
        let code = "n = open('.git/config', 'a').write('# x')";
        let args = [&["run", "--mode", "sandbox", "-c", code], options].concat();
        at_home(heddle.command(args), &heddle.path("home"))
    };
    let ran = run(&[]).assert_code(1);
    for part in [
        ".git/config",
        "`git config`",
        "--allow-git-config lets them",
    ] {
        assert!(ran.err.contains(part), "{ran:?}");
    }
    assert!(ran.err.contains("Read-only file system"), "{ran:?}");
    run(&["--allow-git-config"]).assert_done("");
}
