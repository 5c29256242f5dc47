//! The heddle binary as a process, in a world of its own: home, workspace, settings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

/// Must never be seen outside the requests to the model.
pub const KEY: &str = "sk-test-SECRET-0123456789abcdef";

/// Whatever takes longer has hung. Most waits here last a second.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of printed text that are kept of a run.
const KEPT_OUTPUT: usize = 1 << 20;

/// Waits for `what`, but not for ever.
pub async fn within<T>(time: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(time, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {time:?}"),
    }
}

/// Waits until `condition` holds, looking again and again.
pub async fn eventually(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    within(time, what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The Python with the pinned packages. Made by the first test that needs it; other test binaries wait for it.
pub fn python() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let made = heddle::kernel::python::managed_or_make(
            &heddle::kernel::python::Precautions {
                isolated: false,
                ..heddle::kernel::python::Precautions::default()
            },
            &mut |step| eprintln!("{step}"),
        );
        made.expect("a Python for the tests").prefix
    })
}

/// A person's folders, and what their environment says.
pub struct World {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl World {
    /// A world whose model is at `api_base`.
    pub fn new(api_base: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("desk")).unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        // Fonts are found once, not in each test.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        let variables = [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("VIRTUAL_ENV", python().to_string_lossy().into_owned()),
            ("HOME", path("home")),
            ("XDG_CONFIG_HOME", path("config")),
            ("XDG_DATA_HOME", path("data")),
            ("XDG_STATE_HOME", path("state")),
            ("XDG_CACHE_HOME", cache.to_string_lossy().into_owned()),
            ("HEDDLE_WORKSPACE_WORKSPACE_PATH", path("workspace")),
            ("LLM_API_BASE", api_base.to_owned()),
            ("LLM_API_KEY", KEY.to_owned()),
            ("LLM_MODEL", "mock".to_owned()),
            ("LLM_MAX_RETRIES", "1".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "xterm-256color".to_owned()),
            ("RUST_BACKTRACE", "1".to_owned()),
        ];
        World {
            variables: variables
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            folder,
        }
    }

    /// Sets a variable of the environment; the last one of a name counts.
    pub fn with(mut self, name: &str, value: impl ToString) -> World {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn without(mut self, name: &str) -> World {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Where `name` is in this world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder that commands are started in.
    pub fn desk(&self) -> PathBuf {
        self.path("desk")
    }

    /// Writes a file on the desk.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.desk().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The folders of the sessions, the oldest first.
    pub fn sessions(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.path("workspace/sessions"));
        let entries = folder.into_iter().flatten().flatten();
        let mut sessions: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        sessions.sort();
        sessions
    }

    /// The folder of the only session.
    pub fn session(&self) -> PathBuf {
        let sessions = self.sessions();
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        sessions[0].clone()
    }

    /// What is believed of the only session: the folder with its log.
    pub fn state(&self) -> PathBuf {
        let session = self.session();
        let id = session.file_name().unwrap();
        self.path("state/heddle/sessions").join(id)
    }

    /// The log of the only session.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state().join("events.jsonl")).unwrap()
    }

    /// Starts `heddle` with these arguments.
    pub fn start(&self, args: &[&str]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_heddle"))
            .args(args)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.desk())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        Running {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            child,
            stdout,
            errors: tokio::spawn(async move {
                let mut bytes = Vec::new();
                stderr.read_to_end(&mut bytes).await.unwrap();
                String::from_utf8_lossy(&bytes).into_owned()
            }),
            events: Vec::new(),
            other: String::new(),
            printed: 0,
        }
    }

    /// Runs `heddle` with these arguments to its end.
    pub async fn run(&self, args: &[&str]) -> Ended {
        self.start(args).end().await
    }

    /// Starts `heddle ask` in local mode, with events as JSON.
    pub fn start_ask(&self, args: &[&str]) -> Running {
        self.start(&[&["ask", "--json", "--mode", "local"], args].concat())
    }

    /// Runs `heddle ask` in local mode, with events as JSON, to its end.
    pub async fn ask(&self, args: &[&str]) -> Ended {
        self.start_ask(args).end().await
    }

    /// Kernels of this world and everything that they started: whatever works in the folder of a session.
    pub fn processes(&self) -> Vec<i32> {
        let workspace = self.path("workspace").canonicalize().unwrap_or_default();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
                // The link of a folder that is gone has an addition, and still begins so.
                cwd.is_ok_and(|cwd| cwd.starts_with(&workspace))
            })
            .collect()
    }

    /// Waits for the end of all of them. It comes within moments of the end of heddle, however that ends.
    pub async fn is_quiet(&self) {
        let quiet = || self.processes().is_empty();
        eventually(Duration::from_secs(2), "the end of all kernels", quiet).await;
    }

    /// Every file under the world whose content has `text` in it.
    pub fn files_with(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    let bytes = std::fs::read(entry.path()).unwrap_or_default();
                    if bytes
                        .windows(text.len())
                        .any(|part| part == text.as_bytes())
                    {
                        found.push(entry.path());
                    }
                }
            }
        }
        found
    }
}

/// A `heddle` that runs. Dropped, it is killed.
pub struct Running {
    args: Vec<String>,
    child: Child,
    stdout: BufReader<ChildStdout>,
    errors: JoinHandle<String>,
    events: Vec<Value>,
    other: String,
    /// Bytes of printed text so far.
    printed: usize,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id().unwrap() as i32
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for an event of this kind whose JSON has `text` in it.
    pub async fn until(&mut self, kind: &str, text: &str) -> Value {
        let what = format!("{kind} with {text:?} of {:?}", self.args);
        let found = within(PATIENCE, &what, async {
            loop {
                if !self.read().await {
                    return None;
                }
                let last = self.events.last();
                let last = last.filter(|event| event["event"] == kind);
                if let Some(event) = last.filter(|event| event.to_string().contains(text)) {
                    return Some(event.clone());
                }
            }
        });
        match found.await {
            Some(event) => event,
            None => panic!("it ended without {what}: {:#?}", self.events),
        }
    }

    /// Reads one line; false at the end.
    async fn read(&mut self) -> bool {
        let mut line = Vec::new();
        if self.stdout.read_until(b'\n', &mut line).await.unwrap() == 0 {
            return false;
        }
        if line.starts_with(b"{\"event\":\"stream\"") {
            self.printed += line.len();
            if self.printed > KEPT_OUTPUT {
                return true;
            }
        }
        let line = String::from_utf8(line).expect("UTF-8");
        match serde_json::from_str(&line) {
            Ok(event @ Value::Object(_)) => self.events.push(event),
            _ => self.other.push_str(&line),
        }
        true
    }

    /// Reads on to the end of the process.
    pub async fn end(mut self) -> Ended {
        let what = format!("the end of {:?}", self.args);
        let (status, stderr) = within(PATIENCE, &what, async {
            while self.read().await {}
            let status = self.child.wait().await.unwrap();
            (status, (&mut self.errors).await.unwrap())
        })
        .await;
        let ended = Ended {
            status,
            events: self.events,
            stdout: self.other,
            stderr,
            printed: self.printed,
        };
        for text in [&ended.stdout, &ended.stderr] {
            assert!(!text.contains("panicked"), "{text}");
        }
        ended
    }
}

/// What came of a `heddle`.
pub struct Ended {
    pub status: ExitStatus,
    pub events: Vec<Value>,
    /// What was no event.
    pub stdout: String,
    pub stderr: String,
    /// Bytes of the events of printed text, those included that were not kept.
    pub printed: usize,
}

/// Without what only comes for the eye: it is what a failing test shows.
impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.status)?;
        for event in self.events.iter().filter(|event| event["event"] != "delta") {
            writeln!(f, "  {event}")?;
        }
        writeln!(f, "stdout: {}\nstderr: {}", self.stdout, self.stderr)
    }
}

impl Ended {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The events of one kind.
    pub fn of(&self, kind: &str) -> Vec<&Value> {
        let of_kind = |event: &&Value| event["event"] == kind;
        self.events.iter().filter(of_kind).collect()
    }

    /// The only event of a kind.
    pub fn one(&self, kind: &str) -> &Value {
        match self.of(kind)[..] {
            [event] => event,
            _ => panic!("not one {kind}: {self:?}"),
        }
    }

    /// The kinds of events in order, those left out that only come for the eye.
    pub fn kinds(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| event["event"].as_str())
            .filter(|kind| !matches!(*kind, "delta" | "usage"))
            .collect()
    }

    pub fn answer(&self) -> &str {
        self.one("answer")["message"].as_str().unwrap()
    }

    /// Everything that a person or a program gets to read.
    pub fn text(&self) -> String {
        let events: String = self.events.iter().map(Value::to_string).collect();
        events + &self.stdout + &self.stderr
    }
}
