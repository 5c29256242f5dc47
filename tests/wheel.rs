//! The Python wheel: for people without Rust, `pip install` gives the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Runs a command that must succeed and gives what it printed.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// What `pyproject.toml` builds the wheel with.
fn build_requirements() -> Vec<String> {
    let project = std::fs::read_to_string(Path::new(ROOT).join("pyproject.toml")).unwrap();
    let project: toml::Table = project.parse().unwrap();
    project["build-system"]["requires"]
        .clone()
        .try_into()
        .unwrap()
}

/// An environment with maturin below `target/`, kept for the next run.
fn builder() -> PathBuf {
    let requirements = build_requirements();
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wheel-builder");
    let mark = venv.join("installed.txt");
    if std::fs::read_to_string(&mark).ok() != Some(requirements.join("\n")) {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&venv));
        let mut pip = Command::new(venv.join("bin/pip"));
        run(pip
            .args(["install", "--disable-pip-version-check", "--no-input"])
            .args(&requirements));
        std::fs::write(mark, requirements.join("\n")).unwrap();
    }
    venv
}

#[test]
fn pip_installs_the_command_from_the_wheel() {
    let folder = tempfile::tempdir().unwrap();
    let venv = folder.path().join("venv");
    let wheels = folder.path().join("wheels");

    // The profile, the target folder and the environment of the build of this very test, so that only the binary is
    // linked again.
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let target = Path::new(env!("CARGO_BIN_EXE_heddle")).ancestors().nth(2);
    let mut maturin = Command::new(builder().join("bin/maturin"));
    maturin
        .args(["build", "--locked", "--compatibility", "linux"])
        .args(["--profile", profile, "--out"])
        .arg(&wheels)
        .env("CARGO_TARGET_DIR", target.unwrap())
        .current_dir(ROOT);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            maturin.env_remove(&*name);
        }
    }
    run(&mut maturin);
    let wheel = std::fs::read_dir(&wheels)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();

    run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    run(Command::new(venv.join("bin/pip"))
        .args(["install", "--disable-pip-version-check", "--no-index"])
        .arg(&wheel));
    let said = run(Command::new(venv.join("bin/heddle")).arg("--version"));
    assert_eq!(said.trim(), concat!("heddle ", env!("CARGO_PKG_VERSION")));
}
