//! The front ends, in a Python environment of their own, and Heddle installed as their kernel.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::support::model_server::{Answer, ModelServer};
use crate::support::world::{PATIENCE, World, eventually, python, within};

/// Beside Heddle's own packages, all pinned.
const REQUIREMENTS: [&str; 2] = [
    include_str!("../../kernelspec/requirements.txt"),
    include_str!("requirements.txt"),
];

/// Marks every process of one test, in its environment.
const MARK: &str = "HEDDLE_TEST_MARK";

/// The environment with the front ends: made once, beside the one that Heddle makes, for these very versions.
pub fn front_ends() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let digest = Sha256::digest(REQUIREMENTS.concat());
        let name: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let prefix = python().with_file_name(format!("front-ends-{name}"));
        let complete = prefix.join("complete");
        let lock = File::create(prefix.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        if !complete.exists() {
            eprintln!(
                "Preparing the front ends in {} (once, a minute or two)",
                prefix.display()
            );
            make(&prefix);
            File::create(complete).unwrap();
        }
        prefix
    })
}

fn make(prefix: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut venv = Command::new(python().join("bin/python"));
    venv.args(["-m", "venv", "--clear"]).arg(prefix);
    let mut pip = Command::new(prefix.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
    ])
    .args(["--only-binary=:all:", "--progress-bar=off", "--quiet"])
    .arg("-r")
    .arg(root.join("kernelspec/requirements.txt"))
    .arg("-r")
    .arg(root.join("tests/front_ends/requirements.txt"));
    for mut step in [venv, pip] {
        let done = step.current_dir("/").stdin(Stdio::null()).status().unwrap();
        assert!(done.success(), "{step:?}: {done}");
    }
}

/// A person with Jupyter, and a model that answers from a script. The kernels are theirs alone.
pub struct Jupyter {
    pub world: World,
    pub model: ModelServer,
}

impl Jupyter {
    /// Without a kernel of Heddle's yet.
    pub async fn new(answers: Vec<Answer>) -> Jupyter {
        let model = ModelServer::start(answers).await;
        let prefix = front_ends().to_string_lossy();
        let path = std::env::var("PATH").unwrap_or_default();
        let world = World::new(model.url());
        let mark = mark(&world);
        let folder = |name: &str| world.path(name).to_string_lossy().into_owned();
        let folders = [
            ("JUPYTER_DATA_DIR", folder("jupyter")),
            ("JUPYTER_RUNTIME_DIR", folder("jupyter/runtime")),
            ("JUPYTER_CONFIG_DIR", folder("jupyter-config")),
            ("JUPYTERLAB_SETTINGS_DIR", folder("lab/settings")),
            ("JUPYTERLAB_WORKSPACES_DIR", folder("lab/workspaces")),
            ("IPYTHONDIR", folder("ipython")),
        ];
        let world = world
            .with("VIRTUAL_ENV", &prefix)
            .with("PATH", format!("{prefix}/bin:{path}"))
            .with("PYTHONUNBUFFERED", "1")
            .with(MARK, mark);
        let world = folders
            .into_iter()
            .fold(world, |world, (name, value)| world.with(name, value));
        Jupyter { world, model }
    }

    /// With Heddle installed in local mode, as `heddle`.
    pub async fn with(answers: Vec<Answer>) -> Jupyter {
        let jupyter = Jupyter::new(answers).await;
        jupyter.install("heddle", "local").await;
        jupyter
    }

    /// Installs Heddle as a kernel.
    pub async fn install(&self, name: &str, mode: &str) {
        let mark = format!("--env={MARK}={}", mark(&self.world));
        let arguments = ["kernel", "install", "--name", name, "--mode", mode, &mark];
        let installed = self.world.run(&arguments).await;
        assert_eq!(installed.code(), Some(0), "{installed:?}");
        assert!(
            installed
                .stdout
                .contains(&format!("jupyter console --kernel {name}"))
        );
    }

    /// Runs a program of the front ends' environment to its end, which must be a good one; gives what it printed.
    pub async fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.try_run(program, args, &[]).await;
        let said = said(&output);
        assert!(output.status.success(), "{program} {args:?}\n{said}");
        said
    }

    pub async fn try_run(&self, program: &str, args: &[&str], more: &[(&str, &str)]) -> Output {
        let mut command = tokio::process::Command::new(front_ends().join("bin").join(program));
        command
            .args(args)
            .env_clear()
            .envs(
                self.world
                    .variables()
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .envs(more.iter().copied())
            .current_dir(self.world.desk())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let what = format!("the end of {program} {args:?}");
        within(PATIENCE, &what, command.output()).await.unwrap()
    }

    /// Runs a file of this folder as a program.
    pub async fn python(&self, script: &str, args: &[&str]) -> String {
        let script = file(script);
        self.run("python", &[&[&*script], args].concat()).await
    }

    /// Waits for the end of every process that this person's front ends and kernels have started.
    pub async fn is_quiet(&self) {
        let quiet = || self.processes().is_empty();
        eventually(Duration::from_secs(10), "the end of all processes", quiet).await;
    }

    /// Command lines of what still runs of them.
    pub fn processes(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", mark(&self.world));
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter(|entry| {
                let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
                environment
                    .split(|byte| *byte == 0)
                    .any(|one| one == mark.as_bytes())
            })
            .map(|entry| {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).replace('\0', " ")
            })
            .filter(|line| !line.is_empty())
            .collect()
    }
}

fn mark(world: &World) -> String {
    world.desk().to_string_lossy().into_owned()
}

pub fn file(name: &str) -> String {
    format!("{}/tests/front_ends/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Everything that a program has printed.
pub fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|text| String::from_utf8_lossy(text))
        .concat()
}
