//! Kernels: finding them, starting them under a supervisor, and everything that can happen to one until its end.

mod bare;
mod client;
pub mod connections;
pub mod container;
pub mod discovery;
mod disk;
mod environment;
mod folder;
mod joined;
mod launcher;
pub mod mode;
pub mod packages;
pub mod python;
#[cfg(target_os = "linux")]
mod sandboxed;
mod start;
mod tap;

pub use bare::Bare;
pub use client::{Client, Exchange, Incoming};
pub use folder::{RunFolder, is_listened_to, is_own_name, remove_deserted, roots as folder_roots};
pub use joined::Join;
pub use launcher::{Grants, Launch, Launcher, Local, Mount, Process, Project};
#[cfg(target_os = "linux")]
pub use sandboxed::Sandboxed;
pub use tap::Tap;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::isolation::{Baseline, Exit, Signal};
use crate::protocol::content::{InterruptRequest, ShutdownRequest};
use crate::protocol::{
    Channel, ConnectionInfo, Content, InterruptMode, KernelSpec, ProtocolError, Transport,
};
use crate::transport::TransportError;
use discovery::Installed;
use disk::Disks;
use joined::Joined;
use python::{Precautions, Python};

/// How long a kernel that was asked to end may take before it is told to (SIGTERM), and then before it is made to.
const POLITE: Duration = Duration::from_secs(2);
const FIRM: Duration = Duration::from_secs(1);
/// How long all that belongs to a kernel may take to be gone once it was made to end; whoever keeps it goes on after us.
const GONE: Duration = Duration::from_secs(30);
/// How long the last output of a dead kernel may take to reach us.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What goes wrong with kernels. Each message says what happened, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("there is no kernel named {name:?}. Installed: {}. See: heddle kernel list", list(.known))]
    NoSuchKernel { name: String, known: Vec<String> },
    #[error("the kernelspec {name:?} cannot be used: {reason}")]
    BadSpec { name: String, reason: String },
    #[error("cannot prepare the kernel's folder {}: {source}", path.display())]
    Folder {
        path: PathBuf,
        source: std::io::Error,
    },
    /// No Python, or none could be made.
    #[error("no Python for the kernel: {0}")]
    Python(String),
    /// This machine cannot do what was asked for.
    #[error(
        "this machine has no {mode} mode: {reason}.\n\
         To run the code with your own permissions instead, unprotected: --mode local"
    )]
    NoMode { mode: &'static str, reason: String },
    /// No container, although it was asked for by name.
    #[error(
        "no kernel can be started in a container: {reason}.\nThe ways out:\n  \
         1. {remedy}\n  \
         2. --mode sandbox: isolated too, without a container engine\n  \
         3. --mode local: unprotected, with your own permissions"
    )]
    NoContainer { reason: String, remedy: String },
    #[error("{problem}.\nNext: {}", .problem.remedy())]
    Engine {
        #[from]
        problem: container::EngineProblem,
    },
    #[error("the kernel cannot be started: {0}")]
    Launch(String),
    #[error("the kernel {exit} before it was ready{}", indented(.printed))]
    DiedAtStart { exit: String, printed: String },
    /// It is still being started, although it should run by now.
    #[error(
        "the kernel cannot be started: {by} has not done it within {} s (kernel.start_timeout). If it hangs, start it \
         again; to see whether it does: docker info", .within.as_secs_f64()
    )]
    NotLaunched { by: String, within: Duration },
    #[error("the kernel did not become ready in time. {}", advice(*unverified))]
    NotReady {
        /// Messages that came and whose signature was not made with our key.
        unverified: u64,
    },
    /// No connection file, or more than one, is meant by this.
    #[error(
        "no running kernel is meant by {text:?}: {reason}. Connection files of yours: {}. Name one by its id, or by its path",
        list(.known)
    )]
    NoSuchConnection {
        text: String,
        reason: &'static str,
        known: Vec<String>,
    },
    /// None of the user's connection files leads to a running kernel.
    #[error(
        "no kernel of yours answers; looked for connection files in {}. Start one, for instance with: jupyter lab, or \
         name its connection file: heddle attach FILE", list(.places)
    )]
    NoneRuns { places: Vec<String> },
    /// A running kernel that cannot be joined.
    #[error("cannot join the kernel of {}: {reason}", file.display())]
    NotJoined { file: PathBuf, reason: String },
    /// A joined kernel is not ours to start anew.
    #[error(
        "the kernel was started by somebody else, so it is not restarted here. Restart it where it was started"
    )]
    NotOurs,
    /// The kernel ended while somebody waited for it.
    #[error("the kernel died: it {0}")]
    Died(String),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names => names.join(", "),
    }
}

fn advice(unverified: u64) -> String {
    match unverified {
        0 => "A slow machine can be given more: kernel.start_timeout (seconds)".into(),
        n => format!(
            "It sent {n} messages that were not signed with our key: the connection file is another kernel's, or an \
             old one"
        ),
    }
}

fn indented(text: &str) -> String {
    match text.is_empty() {
        true => String::new(),
        false => format!(". It printed:\n    {}", text.replace('\n', "\n    ")),
    }
}

/// Which kernel to start.
#[derive(Clone, Debug)]
pub enum Choice {
    /// `ipykernel` of this Python.
    Python(Python),
    /// An installed kernelspec.
    Installed(Box<Installed>),
    /// The Python with `ipykernel` that is in a container's image.
    InImage {
        image: String,
        /// Packages that the image is known to have.
        packages: Vec<String>,
    },
}

impl Choice {
    /// The kernelspec of this name, or without a name the user's Python, made if need be.
    pub fn of(
        name: Option<&str>,
        precautions: &Precautions,
        progress: python::Progress,
    ) -> Result<Choice, KernelError> {
        match name {
            None => python::find_or_make(precautions, progress).map(Choice::Python),
            Some(name) => discovery::find(name, &prefixes(precautions), precautions)
                .map(|installed| Choice::Installed(Box::new(installed))),
        }
    }

    /// A name for people: the kernelspec's, or `python3` for a Python of the user's or our own.
    pub fn name(&self) -> &str {
        match self {
            Choice::Python(_) | Choice::InImage { .. } => "python3",
            Choice::Installed(installed) => &installed.name,
        }
    }

    /// The Python of this machine that runs the kernel. `None` in containers, for other languages, and where another
    /// program starts it: that would not understand what a Python is asked.
    fn interpreter(&self) -> Option<PathBuf> {
        if let Choice::InImage { .. } = self {
            return None;
        }
        let (spec, _) = self.spec().ok()?;
        let program = PathBuf::from(&spec.argv[0]);
        let name = program.file_name()?.to_str()?;
        let python = ["python", "pypy"]
            .iter()
            .any(|known| name.starts_with(known));
        (python && spec.language.eq_ignore_ascii_case("python")).then_some(program)
    }

    /// What its program is judged by.
    fn precautions(&self) -> Precautions {
        match self {
            Choice::Python(python) => python.precautions.clone(),
            Choice::Installed(installed) => installed.precautions.clone(),
            Choice::InImage { .. } => Precautions::default(),
        }
    }

    /// Files and folders of the host that the kernel's program is made of.
    fn program(
        &self,
        resource_dir: &std::path::Path,
        precautions: &Precautions,
    ) -> Result<Vec<PathBuf>, KernelError> {
        let mut program = match self.interpreter() {
            Some(path) => python::parts(&path, precautions)?,
            None => Vec::new(),
        };
        if let Choice::Installed(installed) = self {
            program.push(resource_dir.to_path_buf());
            program.extend(installed.prefix.clone());
        }
        Ok(program)
    }

    /// The specification, with its interpreter made exact.
    fn spec(&self) -> Result<(KernelSpec, PathBuf), KernelError> {
        match self {
            Choice::Python(python) => {
                let executable = python.executable.to_string_lossy().into_owned();
                Ok((ipykernel(executable), PathBuf::new()))
            }
            Choice::InImage { .. } => {
                let spec = KernelSpec {
                    // A signal would reach the first process inside, and that passes it to one alone.
                    interrupt_mode: InterruptMode::Message,
                    ..ipykernel("python3".into())
                };
                Ok((spec, PathBuf::new()))
            }
            Choice::Installed(installed) => {
                let mut spec = installed
                    .spec
                    .clone()
                    .map_err(|reason| KernelError::BadSpec {
                        name: installed.name.clone(),
                        reason,
                    })?;
                let python = ["python", "python3"].contains(&spec.argv[0].as_str());
                if let Some(prefix) = &installed.prefix
                    && python
                {
                    let exact = prefix.join("bin").join(&spec.argv[0]);
                    if exact.exists() {
                        spec.argv[0] = exact.to_string_lossy().into_owned();
                    }
                }
                spec.argv = start::of(spec.argv);
                Ok((spec, installed.folder.clone()))
            }
        }
    }
}

/// The specification of `ipykernel` on an interpreter.
fn ipykernel(python: String) -> KernelSpec {
    let argv = ["-m", "ipykernel_launcher", "-f", "{connection_file}"];
    KernelSpec {
        argv: start::of(
            std::iter::once(python)
                .chain(argv.map(str::to_owned))
                .collect(),
        ),
        display_name: "Python 3 (ipykernel)".into(),
        language: "python".into(),
        // Else the debugger's start-up advice is printed into the first cell.
        env: [("PYDEVD_DISABLE_FILE_VALIDATION".into(), "1".into())].into(),
        ..KernelSpec::default()
    }
}

/// The environments whose kernelspecs are found: the active one and the one that Heddle made.
pub fn prefixes(precautions: &Precautions) -> Vec<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from);
    let found = python::find(precautions).ok().flatten();
    let found = found.map(|python| python.prefix);
    let mut prefixes: Vec<PathBuf> = active.chain(found).collect();
    prefixes.dedup();
    prefixes
}

/// How to start a kernel.
#[derive(Clone)]
pub struct Options {
    pub launcher: Arc<dyn Launcher>,
    pub choice: Choice,
    pub transport: Transport,
    pub cwd: PathBuf,
    /// Variables that the user gives to the kernel by name.
    pub env: Vec<(String, String)>,
    pub start_timeout: Duration,
    pub grants: Grants,
    /// Who else sees what the kernel sends.
    pub tap: Option<Arc<dyn Tap>>,
}

/// A running kernel: one that we own, which ends when it is dropped, or one that we have joined, which goes on.
pub struct Kernel {
    /// Where its code works.
    cwd: PathBuf,
    origin: Origin,
}

enum Origin {
    Started(Box<Started>),
    Joined(Joined),
}

/// What it takes to start it, and to start it again.
struct Started {
    options: Options,
    spec: KernelSpec,
    resource_dir: PathBuf,
    folder: RunFolder,
    /// What other programs execute where an isolated kernel works, before any code ran.
    baseline: Option<Baseline>,
    running: Running,
}

/// One life of the kernel's process.
struct Running {
    process: Arc<dyn Process>,
    client: Client,
    /// Tells every waiter of a death.
    watcher: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Kernel {
    /// Starts a kernel and waits until it is ready.
    pub async fn start(options: Options) -> Result<Kernel, KernelError> {
        let (spec, resource_dir) = options.choice.spec()?;
        let inside = |folder: &std::path::Path| options.launcher.inside(folder);
        let folder = RunFolder::create(options.transport, options.choice.name(), inside)?;
        let baseline = match options.launcher.isolates() {
            true => Some(baseline(&options).await),
            false => None,
        };
        let running = run(&options, &spec, &resource_dir, &folder).await?;
        Ok(Kernel {
            cwd: options.cwd.clone(),
            origin: Origin::Started(Box::new(Started {
                options,
                spec,
                resource_dir,
                folder,
                baseline,
                running,
            })),
        })
    }

    /// Joins a kernel that runs already and waits until it answers. It is interrupted by messages, is not ended by us,
    /// and counts as dead when its connections close or it misses three heartbeats.
    ///
    /// # Errors
    /// [`KernelError::NotJoined`] where nobody listens, nothing answers, or the key is wrong.
    pub async fn join(join: Join) -> Result<Kernel, KernelError> {
        Kernel::join_tapped(join, None).await
    }

    /// Joins it for others, who see what it sends.
    pub async fn join_tapped(join: Join, tap: Option<Arc<dyn Tap>>) -> Result<Kernel, KernelError> {
        Ok(Kernel {
            cwd: join.cwd.clone(),
            origin: Origin::Joined(Joined::connect(join, tap).await?),
        })
    }

    pub fn client(&self) -> &Client {
        match &self.origin {
            Origin::Started(started) => &started.running.client,
            Origin::Joined(joined) => &joined.client,
        }
    }

    /// The folder that the kernel's code works in.
    pub fn cwd(&self) -> &std::path::Path {
        &self.cwd
    }

    /// Whether we started it, and may therefore end it.
    pub fn is_ours(&self) -> bool {
        matches!(self.origin, Origin::Started(_))
    }

    /// The mode that it runs in, as in `--mode`; `joined` for one that somebody else started.
    pub fn mode(&self) -> &'static str {
        match &self.origin {
            Origin::Started(started) => started.options.launcher.mode(),
            Origin::Joined(_) => "joined",
        }
    }

    /// The kernel's language, such as `python`.
    pub fn language(&self) -> &str {
        match &self.origin {
            Origin::Started(started) => &started.spec.language,
            Origin::Joined(joined) => &joined.language,
        }
    }

    /// How a kernel of ours is connected to.
    pub fn connection(&self) -> Option<&ConnectionInfo> {
        match &self.origin {
            Origin::Started(started) => Some(&started.folder.connection),
            Origin::Joined(_) => None,
        }
    }

    /// The connection file that other clients of this machine and user can connect with.
    pub fn connection_file(&self) -> PathBuf {
        match &self.origin {
            Origin::Started(started) => started.folder.connection_file(),
            Origin::Joined(joined) => joined.connection_file.clone(),
        }
    }

    /// Interrupts the running code, its child processes included.
    pub fn interrupt(&self) {
        match &self.origin {
            Origin::Started(started) if started.spec.interrupt_mode == InterruptMode::Signal => {
                started.running.process.signal(Signal::Interrupt);
            }
            _ => drop(self.client().request(
                Channel::Control,
                Content::InterruptRequest(InterruptRequest::default()),
            )),
        }
    }

    /// Kills the kernel at once, if it is ours.
    pub fn kill(&self) {
        if let Origin::Started(started) = &self.origin {
            started.running.process.signal(Signal::Kill);
        }
    }

    /// Whether, and how, the kernel has died.
    pub fn died(&self) -> Option<String> {
        self.client().died()
    }

    /// What of the files that other programs execute was there at the start and has changed since, and was not told of
    /// yet: a text for each. Blocking.
    pub fn changed_files(&mut self) -> Vec<String> {
        match &mut self.origin {
            Origin::Started(started) => {
                let baseline = started.baseline.as_mut();
                baseline.map_or_else(Vec::new, Baseline::changes)
            }
            Origin::Joined(_) => Vec::new(),
        }
    }

    /// One line that names what code has made or changed and other programs execute. Blocking.
    pub fn left_behind(&self) -> Option<String> {
        match &self.origin {
            Origin::Started(started) => started.baseline.as_ref()?.left_behind(),
            Origin::Joined(_) => None,
        }
    }

    /// Ends the process, if it still runs, and starts another on the same connection file. Variables are lost.
    ///
    /// # Errors
    /// For a joined kernel [`KernelError::Died`], or [`KernelError::NotOurs`] while it lives.
    pub async fn restart(&mut self) -> Result<(), KernelError> {
        let died = self.died();
        match &mut self.origin {
            Origin::Started(started) => started.restart().await,
            Origin::Joined(_) => Err(died.map_or(KernelError::NotOurs, KernelError::Died)),
        }
    }

    /// Asks the kernel to end, tells it, makes it, and waits until all of it is gone. A joined kernel is only left. Gives
    /// what a person should know of what code has left in their folders.
    pub async fn shutdown(mut self) -> Vec<String> {
        if let Origin::Started(started) = &self.origin {
            started.running.end(false).await;
        }
        let mut texts = self.changed_files();
        texts.extend(self.left_behind());
        texts
    }
}

impl Started {
    async fn restart(&mut self) -> Result<(), KernelError> {
        self.running.end(true).await;
        self.folder.write().map_err(|source| KernelError::Folder {
            path: self.folder.path().to_path_buf(),
            source,
        })?;
        self.running = run(&self.options, &self.spec, &self.resource_dir, &self.folder).await?;
        Ok(())
    }
}

impl Running {
    async fn end(&self, restart: bool) {
        let process = &self.process;
        let exited = async |patience| tokio::time::timeout(patience, process.exit()).await.is_ok();
        if self.client.died().is_none() {
            let request = Content::ShutdownRequest(ShutdownRequest { restart });
            let asked = self.client.request(Channel::Control, request);
            if !exited(POLITE).await {
                process.signal(Signal::Terminate);
                if !exited(FIRM).await {
                    process.signal(Signal::Kill);
                }
            }
            drop(asked);
        }
        self.client.die("was shut down");
        put_away(&**process).await;
    }
}

/// What other programs execute in the folders that a kernel will be able to write to.
async fn baseline(options: &Options) -> Baseline {
    let written = options.grants.written(&options.cwd).map(PathBuf::from);
    let (written, git_config) = (written.collect(), options.grants.git_config);
    let copies = crate::folders::state().map(|folder| folder.join("copies"));
    tokio::task::spawn_blocking(move || Baseline::take(written, git_config, copies))
        .await
        .unwrap_or_default()
}

/// Kills a process and waits until everything that belongs to it is gone.
async fn put_away(process: &dyn Process) {
    process.signal(Signal::Kill);
    let _ = tokio::time::timeout(GONE, process.ended()).await;
}

/// Starts the process and connects to it.
async fn run(
    options: &Options,
    spec: &KernelSpec,
    resource_dir: &std::path::Path,
    folder: &RunFolder,
) -> Result<Running, KernelError> {
    let disks = match options.launcher.isolates() {
        true => Disks::new(&options.cwd, &options.grants),
        false => Disks::default(),
    };
    let deadline = Instant::now() + options.start_timeout;
    let launched = launch(options, spec, resource_dir, folder);
    let process = tokio::time::timeout_at(deadline, launched)
        .await
        .unwrap_or_else(|_| {
            Err(KernelError::NotLaunched {
                by: options.launcher.waits_for(),
                within: options.start_timeout,
            })
        })?;
    let connect = Client::connect_tapped(&folder.connection, deadline, options.tap.clone());
    let client = first(&*process, connect).await?;
    let watcher = tokio::spawn({
        let (process, client) = (process.clone(), client.clone());
        async move {
            let exit = tokio::select! {
                exit = process.exit() => exit,
                reason = disks.full() => {
                    process.signal(Signal::Kill);
                    Exit::Because(reason)
                }
            };
            // The connection closes once the last output has been received; a descendant may hold it open.
            let _ = tokio::time::timeout(LAST_WORDS, client.closed()).await;
            client.die(&exit.to_string());
        }
    });
    Ok(Running {
        process,
        client,
        watcher,
    })
}

/// Starts the process.
async fn launch(
    options: &Options,
    spec: &KernelSpec,
    resource_dir: &std::path::Path,
    folder: &RunFolder,
) -> Result<Arc<dyn Process>, KernelError> {
    let argv = spec.command(
        &folder.kernel_file().to_string_lossy(),
        &resource_dir.to_string_lossy(),
    );
    let spec_env = spec.expand_env(|name| std::env::var(name).ok());
    let in_image = matches!(options.choice, Choice::InImage { .. });
    let parent =
        std::env::vars_os().filter(|(name, _)| !in_image || environment::means_the_same(name));
    let mut env = environment::kernel_environment(parent, spec_env, options.env.clone());
    let mounts = options.grants.mounts.iter();
    let writable = mounts.filter(|mount| mount.writable);
    let writable = writable.map(|mount| &*mount.path);
    let folders = std::iter::once(&*options.cwd).chain(writable);
    let precautions = options.choice.precautions().and(folders);
    start::hold_back(&argv, &mut env, &precautions);
    let program = match options.launcher.isolates() {
        true => options.choice.program(resource_dir, &precautions)?,
        false => Vec::new(),
    };
    let launch = Launch {
        argv,
        env,
        cwd: options.cwd.clone(),
        program,
        grants: options.grants.clone(),
        folder: folder.path().to_path_buf(),
    };
    options.launcher.launch(launch).await.map(Arc::from)
}

/// The first connection to a process; whichever ends first, that or the process, decides. Without one it is ended.
async fn first<T>(
    process: &dyn Process,
    connect: impl Future<Output = Result<T, KernelError>>,
) -> Result<T, KernelError> {
    let connected = tokio::select! {
        connected = connect => connected,
        exit = process.exit() => Err(died_at_start(process, exit).await),
    };
    match connected {
        Ok(connected) => {
            process.connected();
            Ok(connected)
        }
        Err(error) => {
            let error = explained(error, process).await;
            put_away(process).await;
            Err(error)
        }
    }
}

/// Why there is no connection, in terms of the kernel that was started.
async fn explained(error: KernelError, process: &dyn Process) -> KernelError {
    match error {
        KernelError::Transport(TransportError::NobodyListens { .. }) => {
            KernelError::NotReady { unverified: 0 }
        }
        // The end of a connection may be noticed before the end of the process, which explains more.
        KernelError::Transport(_) | KernelError::Died(_) => {
            match tokio::time::timeout(LAST_WORDS, process.exit()).await {
                Ok(exit) => died_at_start(process, exit).await,
                Err(_) => error,
            }
        }
        error => error,
    }
}

/// What a kernel's end before it was ready means.
async fn died_at_start(process: &dyn Process, exit: Exit) -> KernelError {
    // What it printed comes through another pipe than its end; both end with the supervisor.
    let _ = tokio::time::timeout(LAST_WORDS, process.ended()).await;
    match exit {
        Exit::NotStarted(reason) => KernelError::Launch(reason),
        exit => KernelError::DiedAtStart {
            exit: exit.to_string(),
            printed: process.tail(),
        },
    }
}
