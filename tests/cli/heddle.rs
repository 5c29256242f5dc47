//! The binary in a place of its own: folders, environment, and a deadline for whatever it does.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// More than anything takes, less than anybody waits.
const DEADLINE: Duration = Duration::from_secs(240);

/// What code in a kernel may call. There is no Python on this PATH, so that Heddle's own environment is used.
const TOOLS: &[&str] = &["sh", "sleep", "echo"];

/// A variable that marks every process of one test.
const MARK: &str = "HEDDLE_TEST_MARK";

/// The environment that Heddle makes for itself, made once for all tests.
pub fn managed_python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        heddle::kernel::python::managed_or_make(
            &heddle::kernel::python::Precautions {
                isolated: false,
                ..heddle::kernel::python::Precautions::default()
            },
            &mut |step| eprintln!("{step}"),
        )
        .expect("the Python environment can be made")
        .executable
    })
}

/// A working directory, a workspace and a configuration that nobody else uses.
pub struct Heddle {
    folder: TempDir,
}

impl Heddle {
    /// With the managed environment at hand.
    pub fn new() -> Heddle {
        managed_python();
        Heddle::bare()
    }

    /// For what needs no Python.
    pub fn bare() -> Heddle {
        let heddle = Heddle {
            folder: tempfile::tempdir().unwrap(),
        };
        for name in ["cwd", "bin"] {
            std::fs::create_dir(heddle.path(name)).unwrap();
        }
        let path = std::env::var_os("PATH").unwrap();
        for tool in TOOLS {
            let found = std::env::split_paths(&path).map(|folder| folder.join(tool));
            let found = found.into_iter().find(|file| file.is_file()).unwrap();
            std::os::unix::fs::symlink(found, heddle.path("bin").join(tool)).unwrap();
        }
        heddle
    }

    /// A path in the folder that holds the working directory, the workspace and the configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn cwd(&self) -> PathBuf {
        self.path("cwd")
    }

    /// Writes a file into the working directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.cwd().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heddle"));
        let own = |name: &str| {
            ["HEDDLE_", "LLM_", "JUPYTER_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(own) {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .current_dir(self.cwd())
            .env_remove("VIRTUAL_ENV")
            .env_remove("CONDA_PREFIX")
            // Whatever engine this machine has is not what is tested here.
            .env("DOCKER_HOST", "unix:///nowhere/docker.sock")
            .env("PATH", self.path("bin"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("JUPYTER_DATA_DIR", self.path("jupyter"))
            .env("HEDDLE_WORKSPACE_WORKSPACE_PATH", self.path("workspace"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        finish(self.command(args).spawn().unwrap())
    }

    /// `heddle run -c CODE`.
    pub fn code(&self, code: &str) -> Ran {
        self.run(["run", "-c", code])
    }

    pub fn with_input<S: AsRef<OsStr>>(
        &self,
        input: impl AsRef<[u8]>,
        args: impl IntoIterator<Item = S>,
    ) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_ref()).unwrap();
        drop(stdin);
        finish(child)
    }

    /// Arguments that mark the kernel and all of its descendants for [`Heddle::survivors`].
    pub fn mark(&self) -> [String; 2] {
        [
            "-e".into(),
            format!("{MARK}={}", self.folder.path().display()),
        ]
    }

    /// The command lines of the marked processes that still run.
    pub fn survivors(&self) -> Vec<String> {
        let mark = format!("{MARK}={}", self.folder.path().display());
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let marked = processes.filter(|process| {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == mark.as_bytes())
        });
        let command = |process: std::fs::DirEntry| {
            std::fs::read_to_string(process.path().join("cmdline")).ok()
        };
        marked.filter_map(command).collect()
    }
}

/// How the command ended and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn assert_code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn assert_out(self, out: &str) -> Ran {
        assert_eq!(self.out, out, "{self:#?}");
        self
    }

    #[track_caller]
    pub fn assert_err(self, err: &str) -> Ran {
        assert_eq!(self.err, err, "{self:#?}");
        self
    }

    /// Done, with this on standard output and nothing on standard error.
    #[track_caller]
    pub fn assert_done(self, out: &str) -> Ran {
        self.assert_code(0).assert_out(out).assert_err("")
    }

    /// Every line of standard output, each one event.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let parse = |line: &str| -> Value { serde_json::from_str(line).unwrap() };
        let events: Vec<Value> = self.out.lines().map(parse).collect();
        for event in &events {
            assert!(event["event"].is_string(), "{event}");
        }
        events
    }

    /// The events of one kind.
    #[track_caller]
    pub fn events_of(&self, kind: &str) -> Vec<Value> {
        let mut events = self.events();
        events.retain(|event| event["event"] == kind);
        events
    }
}

/// Waits for the end of a process and reads all it says; one that does not end is killed.
pub fn finish(mut child: Child) -> Ran {
    let pid = pid(&child);
    let reader = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                stream.read_to_end(&mut bytes).unwrap();
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = reader(child.stdout.take().map(|stream| Box::new(stream) as _));
    let err = reader(child.stderr.take().map(|stream| Box::new(stream) as _));
    let (ended, end) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let status = child.wait().unwrap();
        ended.send(()).unwrap();
        status
    });
    let in_time = end.recv_timeout(DEADLINE).is_ok();
    if !in_time {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    let ran = Ran {
        code: waiter.join().unwrap().code(),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    };
    assert!(in_time, "it did not end in time: {ran:#?}");
    ran
}

pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}
