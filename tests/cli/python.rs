//! The Python environment that Heddle makes for itself, and what it says where it cannot.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::heddle::{Heddle, Ran, finish, managed_python};

/// A `python3` of our own making on PATH, a link into what looks like an installation: `venv` and `pip` are shell code
/// for `python3 -m venv DIR` and `DIR/bin/python -m pip …`.
pub fn with_fake_python(heddle: &Heddle, version: &str, venv: &str, pip: &str) {
    let script = format!(
        r#"#!/bin/sh
case "$1 $2" in
"-m venv") {venv} ;;
"-m pip") {pip} ;;
"-c "*) echo "this is no kernel" >&2; exit 9 ;;
# Whatever it is asked about itself.
*) echo '{{"executable": "{path}", "prefix": "/nosuch", "base_prefix": "/nosuch", "version": {version},
    "tag": "fake", "ipykernel": false, "path": []}}' ;;
esac
"#,
        path = heddle.path("bin/python3").display()
    );
    let version = version.trim_matches(['[', ']']).replace(", ", ".");
    installation(&heddle.path("installation"), &version, &script);
    let interpreter = heddle.path(&format!("installation/bin/python{version}"));
    std::os::unix::fs::symlink(interpreter, heddle.path("bin/python3")).unwrap();
}

/// A folder with the layout of an installation of Python, whose interpreter is this script.
pub fn installation(prefix: &Path, version: &str, script: &str) {
    let library = prefix.join(format!("lib/python{version}"));
    std::fs::create_dir_all(&library).unwrap();
    std::fs::write(library.join("os.py"), "").unwrap();
    std::fs::create_dir_all(prefix.join("bin")).unwrap();
    let interpreter = prefix.join(format!("bin/python{version}"));
    std::fs::write(&interpreter, script).unwrap();
    std::fs::set_permissions(&interpreter, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Makes `DIR/bin/python` a copy of this `python3`, as the module `venv` does.
const VENV: &str = r#"/bin/mkdir -p "$3/bin" && /bin/cp "$0" "$3/bin/python""#;

/// `heddle run -c 1` in a home where no environment was made yet.
fn in_new_home(heddle: &Heddle) -> Command {
    let mut command = heddle.command(["run", "-c", "1 + 1"]);
    command
        .env("XDG_DATA_HOME", heddle.path("data"))
        .env("XDG_CACHE_HOME", heddle.path("cache"));
    command
}

fn run(heddle: &Heddle) -> Ran {
    finish(in_new_home(heddle).spawn().unwrap()).assert_out("")
}

/// The folder of the environment, without what depends on its content.
fn home(heddle: &Heddle) -> PathBuf {
    let mut found = std::fs::read_dir(heddle.path("data/heddle/python"))
        .unwrap()
        .flatten();
    found.find(|entry| entry.path().is_dir()).unwrap().path()
}

#[test]
fn nothing_of_a_start_is_imported_from_where_code_can_write() {
    let heddle = Heddle::new();
    let mark = heddle.path("mark");
    let plant = format!("open({mark:?}, 'a').write(__name__ + ' ')\n");
    let names = [
        "zmq",
        "IPython",
        "debugpy",
        "comm",
        "usercustomize",
        "sitecustomize",
    ];
    for name in ["ipykernel_launcher", "ipykernel"].iter().chain(&names) {
        heddle.write(&format!("{name}.py"), &plant);
        heddle.write(&format!("source/{name}.py"), &plant);
    }
    heddle.write("beside.py", "x = 6");
    heddle.write("source/inner.py", "x = 7");
    let spec = r#"{"argv": ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}"#;
    heddle.write("jupyter/kernels/mine/kernel.json", spec);
    let code = "import beside, inner, os, multiprocessing\n\
                print(beside.x * inner.x, os.environ['PYTHONPATH'])\n\
                print(multiprocessing.get_context('spawn').Pool(1).map(abs, [-1]))";
    let source = heddle.cwd().join("source");
    let printed = format!("42 {}\n[1]\n", source.display());
    for kernel in [&[][..], &["--kernel", "mine"]] {
        let arguments = [&["run", "--mode", "local"], kernel, &["-c", "1"]].concat();
        let command = |arguments: &[&str]| {
            let mut command = heddle.command(arguments);
            command
                .env("PYTHONPATH", &source)
                .env("JUPYTER_PATH", heddle.cwd().join("jupyter"));
            finish(command.spawn().unwrap())
        };
        command(&arguments).assert_done("1\n");
        assert!(!mark.exists(), "{:?}", std::fs::read_to_string(&mark));
        // The user's own code finds what is there, the interpreters that it starts all of it.
        let arguments = [&["run", "--mode", "local"], kernel, &["-c", code]].concat();
        command(&arguments).assert_code(0).assert_out(&printed);
        let _ = std::fs::remove_file(&mark);
    }
    // As front ends start it, what was planted runs.
    let by_hand = Command::new(managed_python())
        .args(["-m", "ipykernel_launcher", "--version"])
        .current_dir(heddle.cwd())
        .status();
    assert!(by_hand.unwrap().success() && mark.exists());
}

#[test]
fn two_at_once_make_it_once_and_both_succeed() {
    let heddle = Heddle::bare();
    let start = || {
        let mut command = in_new_home(&heddle);
        // The real one, from the package index.
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.spawn().unwrap()
    };
    let (one, two) = (start(), start());
    let other = std::thread::spawn(move || finish(two));
    let (one, two) = (
        finish(one).assert_code(0),
        other.join().unwrap().assert_code(0),
    );
    assert_eq!((one.out.as_str(), two.out.as_str()), ("2\n", "2\n"));
    let said = one.err + &two.err;
    assert_eq!(
        said.matches("Preparing a Python environment in ").count(),
        1,
        "{said}"
    );
    assert_eq!(
        said.matches("Another heddle is preparing the Python environment")
            .count(),
        1,
        "{said}"
    );
    assert_eq!(said.matches("Installing the packages").count(), 1, "{said}");
    assert!(home(&heddle).join("heddle-complete").is_file());
    // From now on it is there, for those without any Python on PATH too.
    let again = in_new_home(&heddle).spawn().unwrap();
    finish(again).assert_done("2\n");
}

#[test]
fn an_environment_that_was_left_half_made_is_made_anew() {
    let heddle = Heddle::bare();
    with_fake_python(&heddle, "[3, 12]", VENV, "exit 0");
    run(&heddle).assert_code(3);
    let home = home(&heddle);
    std::fs::remove_file(home.join("heddle-complete")).unwrap();
    std::fs::write(home.join("half"), "").unwrap();
    let ran = run(&heddle).assert_code(3);
    assert!(
        ran.err.starts_with(&format!(
            "Preparing a Python environment in {}",
            home.display()
        )),
        "{ran:?}"
    );
    assert!(!home.join("half").exists());
    assert!(home.join("heddle-complete").is_file());
    // It is complete and no kernel all the same, which is told with the kernel's own words.
    let message = "error: the kernel exited with code 9 before it was ready. It printed:\n    this is no kernel\n";
    run(&heddle).assert_code(3).assert_err(message);
}

#[test]
fn without_a_python3_it_is_told_how_to_get_one() {
    let message = "error: no Python for the kernel: no python3 was found on PATH. Install Python, for example: sudo apt \
                   install python3 python3-venv\n";
    run(&Heddle::bare()).assert_code(3).assert_err(message);
}

#[test]
fn a_python3_that_is_too_old_is_told() {
    let heddle = Heddle::bare();
    with_fake_python(&heddle, "[3, 8]", VENV, "exit 0");
    let message = "error: no Python for the kernel: the newest Python found is 3.8, and at least 3.10 is needed. Install a \
                   newer python3, or activate an environment that has ipykernel.\n";
    run(&heddle).assert_code(3).assert_err(message);
}

#[test]
fn a_python3_without_venv_is_told_and_no_mark_is_left() {
    let heddle = Heddle::bare();
    with_fake_python(
        &heddle,
        "[3, 12]",
        "echo 'No module named venv' >&2; exit 1",
        "exit 0",
    );
    let ran = run(&heddle).assert_code(3);
    let python = heddle.path("bin/python3");
    let message = format!(
        "error: no Python for the kernel: {} cannot make a virtual environment: No module named venv\n\
         On Debian and Ubuntu: sudo apt install python3-venv\n",
        python.display()
    );
    assert!(ran.err.ends_with(&message), "{ran:?}");
    assert!(heddle.run(["kernel", "list"]).code == Some(0));
}

#[test]
fn packages_that_cannot_be_installed_are_told_with_what_pip_said() {
    let heddle = Heddle::bare();
    let pip = "echo Collecting numpy==2; echo 'ERROR: no route to the index' >&2; exit 1";
    with_fake_python(&heddle, "[3, 12]", VENV, pip);
    let ran = run(&heddle).assert_code(3);
    assert!(ran.err.contains("Fetching numpy==2\n"), "{ran:?}");
    assert!(
        ran.err.contains("the packages could not be installed: "),
        "{ran:?}"
    );
    assert!(
        ran.err.contains("ERROR: no route to the index\n"),
        "{ran:?}"
    );
    assert!(ran.err.contains("set HTTPS_PROXY"), "{ran:?}");
    assert!(!home(&heddle).join("heddle-complete").exists());
}

#[test]
fn a_python_behind_a_link_runs_in_the_sandbox_too() {
    use heddle::isolation::level::Level;
    let heddle = Heddle::new();
    let link = heddle.path("linked");
    let environment = managed_python().parent().unwrap().parent().unwrap();
    std::os::unix::fs::symlink(environment, &link).unwrap();
    let supervisor = env!("CARGO_BIN_EXE_heddle").into();
    if let Err(reason) = heddle::kernel::Sandboxed::with(supervisor, Level::Namespaces) {
        return eprintln!("skipped: this machine has no sandbox: {reason}");
    }
    let code = "import sys; sys.prefix";
    let mut command = heddle.command(["run", "--mode", "sandbox", "-c", code]);
    command.env("VIRTUAL_ENV", &link);
    finish(command.spawn().unwrap()).assert_done(&format!("'{}'\n", link.display()));
}
