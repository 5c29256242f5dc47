//! From settings to what commands work with: the mode, the kernel, the model.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use super::approver;
use super::briefing;
use super::error::CliError;
use super::trust::{self, Uses};
use super::{Global, KernelArgs, places};
use crate::agent::approval::When;
use crate::config::{self, Approve, KernelMode, Loaded, ResponseFormat, Settings};
use crate::executor::Limits;
use crate::folders;
use crate::isolation::Kept;
use crate::isolation::resolve::{Resolver, escaped};
use crate::kernel::mode::{self, Mode, Wanted};
use crate::kernel::packages::{Packages, PackagesError, Proposal};
use crate::kernel::python::Precautions;
use crate::kernel::{
    Choice, Grants, KernelError, Launcher, Local, Mount, Options, Project, python,
};
use crate::llm::{
    JsonMode, OpenAi, OpenAiSettings, Provider, Recorder, Replayer, Retry, RetryPolicy,
};
use crate::policy::Policy;
use crate::printable::{escape, escape_line};
use crate::protocol::Transport;
use crate::session::Sessions;
use crate::session::conversation::{Place, Setup};
use crate::way::lexical;

/// Reads the settings for a command that uses these of them; warnings go to standard error. Values that wait for trust
/// are asked about.
pub fn load(
    global: &Global,
    uses: Uses,
    flags: &[(&str, Option<String>)],
) -> Result<Loaded, CliError> {
    let mut loaded = read(global, flags)?;
    for warning in &loaded.warnings {
        warn(warning);
    }
    trust::settle(global, uses, &mut loaded)?;
    Ok(loaded)
}

/// Reads the settings, and leaves their warnings and what waits for trust to whoever asked.
pub fn read(global: &Global, flags: &[(&str, Option<String>)]) -> Result<Loaded, CliError> {
    Ok(config::load(&request(global, flags)?)?)
}

/// Where this command looks for settings.
pub fn request(
    global: &Global,
    flags: &[(&str, Option<String>)],
) -> Result<config::Request<'static>, CliError> {
    let cwd =
        std::env::current_dir().map_err(CliError::io("the working directory cannot be used"))?;
    let flags = flags
        .iter()
        .filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?)))
        .collect();
    Ok(config::Request::of_process(
        global.project.clone(),
        cwd,
        flags,
    ))
}

/// What a start has to say to the person beside its progress.
pub enum Said {
    Note(String),
    Warning(String),
}

impl Said {
    /// To standard error, for who works at a terminal.
    pub fn print(self) {
        match self {
            Said::Note(text) => note(&text),
            Said::Warning(text) => warn(&text),
        }
    }

    pub fn text(self) -> String {
        match self {
            Said::Note(text) | Said::Warning(text) => text,
        }
    }
}

/// Where that goes: a front end's terminal is not ours to write to.
pub type Tell<'a> = &'a mut (dyn FnMut(Said) + Send);

/// A line on standard error.
pub fn warn(message: &str) {
    let style = anstyle::AnsiColor::Yellow.on_default();
    let message = escape(message);
    let _ = writeln!(anstream::stderr(), "{style}{message}{style:#}");
}

/// Several of them.
pub fn warn_all(messages: &[String]) {
    messages.iter().for_each(|message| warn(message));
}

/// A quieter line on standard error.
pub fn note(message: &str) {
    let style = anstyle::Style::new().dimmed();
    let message = escape(message);
    let _ = writeln!(anstream::stderr(), "{style}{message}{style:#}");
}

/// The folder with the files of sessions: as configured, else the project's `workspace`, else in the user's data folder.
pub fn workspace(loaded: &Loaded) -> Result<PathBuf, CliError> {
    let none = || {
        CliError::Usage(
            "there is no home folder for sessions. Set HOME, or workspace.workspace_path".into(),
        )
    };
    let path = match (
        &loaded.settings.workspace.workspace_path,
        &loaded.project_dir,
    ) {
        (Some(path), _) => path.clone(),
        (None, Some(project)) => project.join("workspace"),
        (None, None) => folders::data().ok_or_else(none)?.join("workspace"),
    };
    let cwd = std::env::current_dir().ok();
    places::unlinked(&path, loaded.project_dir.iter().chain(&cwd)).map_err(|link| {
        CliError::Usage(format!(
            "the workspace {link}. Write the folder itself into your settings: workspace.workspace_path"
        ))
    })
}

/// The sessions of that workspace.
pub fn sessions(loaded: &Loaded) -> Result<Sessions, CliError> {
    Ok(Sessions::of(&workspace(loaded)?)?)
}

/// Whose code is about to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The person's own, or what Heddle ships.
    Person,
    Model,
}

/// The launcher for the configured mode. Code of a model runs without isolation only where somebody said so by name.
pub async fn launcher(
    settings: &Settings,
    author: Author,
    tell: Tell<'_>,
) -> Result<Arc<dyn Launcher>, CliError> {
    let service = &settings.execution_service;
    let mode = match (service.kernel_mode, author) {
        (KernelMode::Container, _) => Mode::Container,
        (KernelMode::Sandbox, _) => Mode::Sandbox,
        (KernelMode::Local, Author::Model) => {
            tell(Said::Warning(
                "Local mode: code that the model writes runs with your permissions. Your files and network are not \
                 protected."
                    .into(),
            ));
            Mode::Local
        }
        // A person's own code runs as it would in a Python of theirs.
        (KernelMode::Local | KernelMode::Auto, Author::Person) => Mode::Local,
        (KernelMode::Auto, Author::Model) => Mode::Auto,
    };
    match mode::choose(mode, &Wanted::of(settings)).await {
        Ok(chosen) => {
            if service.kernel_mode == KernelMode::Auto && author == Author::Model {
                tell(Said::Note(format!(
                    "Code runs in {} mode, because {}.",
                    chosen.launcher.mode(),
                    chosen.because
                )));
            }
            if let Some(shortcoming) = chosen.shortcoming {
                tell(Said::Warning(shortcoming));
            }
            Ok(chosen.launcher)
        }
        Err(refused) if mode == Mode::Auto => {
            allow_local(&refused)?;
            Ok(Arc::new(Local::new()?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The launcher whose kernels a model's code would have, as far as its Python goes: the container's, or any of this
/// machine's.
pub async fn image_launcher(settings: &Settings) -> Result<Arc<dyn Launcher>, CliError> {
    let wanted = Wanted::of(settings);
    match settings.execution_service.kernel_mode {
        KernelMode::Container => Ok(mode::choose(Mode::Container, &wanted).await?.launcher),
        KernelMode::Auto => match mode::choose(Mode::Auto, &wanted).await {
            Ok(chosen) => Ok(chosen.launcher),
            // Without any isolation here, the Python is this machine's.
            Err(_) => Ok(Arc::new(Local::new()?)),
        },
        KernelMode::Local | KernelMode::Sandbox => Ok(Arc::new(Local::new()?)),
    }
}

/// Asks at the terminal whether a model's code may run unprotected, where nothing else can be had.
fn allow_local(refused: &KernelError) -> Result<(), CliError> {
    let missing = || CliError::Missing(refused.to_string());
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(missing());
    }
    warn(&refused.to_string());
    warn(
        "Unprotected means: code that the model writes can read, change and delete your files, and use your network.",
    );
    let mut err = std::io::stderr();
    let mut answer = String::new();
    let _ = write!(err, "Type local to allow that for this session: ").and_then(|()| err.flush());
    let read = std::io::stdin().lock().read_line(&mut answer);
    match read.is_ok() && answer.trim() == "local" {
        true => Ok(()),
        false => Err(missing()),
    }
}

/// Connection files of the kernels that work for this user's sessions now.
pub fn running_sessions(loaded: &Loaded) -> Vec<PathBuf> {
    sessions(loaded).map_or_else(
        |_| Vec::new(),
        |sessions| crate::session::whereabouts::running(&sessions),
    )
}

/// What an isolated kernel gets, of the settings and of the command's options.
pub fn grants(loaded: &Loaded, args: &KernelArgs) -> Result<Grants, CliError> {
    let service = &loaded.settings.execution_service;
    let cwd =
        std::env::current_dir().map_err(CliError::io("the working directory cannot be used"))?;
    // Where kernels of other commands may have worked.
    let project = loaded.project_dir.iter().cloned();
    let exposed = std::iter::once(cwd.clone()).chain(project);
    let exposed: Vec<PathBuf> = exposed
        .filter(|folder| places::refusal(folder).is_none())
        .collect();
    let asked = asked(loaded, args, &cwd);
    let written = asked.iter().filter(|asked| asked.writable);
    let written = written.map(|asked| &asked.path);
    let resolver = Resolver::new(exposed.iter().chain(written));
    let mounts = asked.iter().map(|asked| asked.mount(&resolver));
    Ok(Grants {
        project: None,
        mounts: mounts.collect::<Result<_, _>>()?,
        exposed,
        git_config: args.allow_git_config,
        network: service.network,
        memory: match service.memory {
            0 => machine_memory() / 4 * 3,
            megabytes => megabytes << 20,
        },
        processes: service.processes,
        cpus: service.cpus,
        disk_free: service.disk_free << 20,
    })
}

/// The project that was named with `-p`, as kernels of its sessions see it: without the other sessions.
pub fn project(global: &Global, loaded: &Loaded, tell: Tell) -> Result<Option<Project>, CliError> {
    let (Some(named), Some(project)) = (&global.project, &loaded.project_dir) else {
        return Ok(None);
    };
    let path = std::fs::canonicalize(project)
        .map_err(CliError::io(format!("cannot use {}", project.display())))?;
    // A link in the working directory may be what code has put there.
    let cwd =
        std::env::current_dir().map_err(CliError::io("the working directory cannot be used"))?;
    let led = places::unlinked(&cwd.join(named), std::iter::once(&cwd)).err();
    if let Some(reason) = led.or_else(|| places::refusal(&path)) {
        tell(Said::Note(format!(
            "The code does not see the project's folder: {reason}."
        )));
        return Ok(None);
    }
    // Sessions of earlier settings are the usual place's.
    let workspace = match workspace(loaded)? {
        workspace if workspace.starts_with(&path) => workspace,
        _ => path.join("workspace"),
    };
    let hidden = match workspace == path {
        true => workspace.join("sessions"),
        false => workspace,
    };
    Ok(Some(Project {
        hidden: hidden.exists().then_some(hidden),
        path,
    }))
}

/// Refuses a file to write whose name leads elsewhere through a link that code could have made.
pub fn check_written(loaded: &Loaded, path: &Path) -> Result<(), CliError> {
    let cwd =
        std::env::current_dir().map_err(CliError::io("the working directory cannot be used"))?;
    let exposed = loaded.project_dir.iter().chain([&cwd]);
    match places::unlinked(&cwd.join(path), exposed) {
        Ok(_) => Ok(()),
        Err(link) => Err(CliError::Usage(format!(
            "{}. Name the file without the link",
            escape_line(&link)
        ))),
    }
}

/// All mounts that are asked for.
fn asked<'a>(loaded: &'a Loaded, args: &'a KernelArgs, cwd: &Path) -> Vec<Asked<'a>> {
    let of_settings = loaded.settings.execution_service.mounts.iter();
    let of_settings = of_settings.map(|text| Asked::new("execution_service.mounts:", text, cwd));
    let of_flags = args.mounts.iter();
    let of_flags = of_flags.map(|text| Asked::new("--mount", text, cwd));
    of_settings.chain(of_flags).collect()
}

/// Tells at a start what of its grants a person may not expect: paths that lead elsewhere than is written, and what of
/// their other tools code cannot change. `cwd` is where code works, if there is anything there already.
pub fn tell_grants(
    loaded: &Loaded,
    args: &KernelArgs,
    launcher: &dyn Launcher,
    cwd: Option<&Path>,
    grants: &Grants,
    tell: Tell,
) {
    if !launcher.isolates() {
        return;
    }
    let here = std::env::current_dir().unwrap_or_default();
    let asked = asked(loaded, args, &here);
    let elsewhere = asked.iter().zip(&grants.mounts);
    elsewhere
        .filter_map(|(asked, mount)| asked.elsewhere(mount))
        .for_each(|line| tell(Said::Note(line)));
    let shown = grants.mounts.iter().map(|mount| mount.path.as_path());
    for path in cwd.into_iter().chain(shown) {
        if !launcher.shows_surely(path) {
            tell(Said::Warning(format!(
                "It is not compared whether the container shows the same at {}: its engine has a kernel of its own, \
                 and Heddle cannot write there.",
                escaped(path)
            )));
        }
    }
    let written = grants.mounts.iter().filter(|mount| mount.writable);
    let written = written.map(|mount| mount.path.as_path());
    let written: Vec<PathBuf> = cwd.into_iter().chain(written).map(Into::into).collect();
    // What cannot be kept fails the start, which says why.
    let kept = Kept::find(&written, grants.git_config).unwrap_or_default();
    if let Some(notice) = kept.notice(launcher.keeps_files()) {
        tell(Said::Note(notice));
    }
}

/// A mount as it was asked for: `PATH`, `PATH:ro` or `PATH:rw`.
struct Asked<'a> {
    /// By which option or setting.
    by: &'static str,
    text: &'a str,
    path: PathBuf,
    writable: bool,
}

impl<'a> Asked<'a> {
    fn new(by: &'static str, text: &'a str, cwd: &Path) -> Asked<'a> {
        let (path, writable) = match text.rsplit_once(':') {
            Some((path, "rw")) => (path, true),
            Some((path, "ro")) => (path, false),
            _ => (text, false),
        };
        // As a shell would have, where it had seen it.
        let at_home = path.strip_prefix("~/").zip(places::home());
        let path = at_home.map_or_else(|| cwd.join(path), |(rest, home)| home.join(rest));
        Asked {
            by,
            text,
            path,
            writable,
        }
    }

    fn mount(&self, resolver: &Resolver) -> Result<Mount, CliError> {
        let refused =
            |reason: String| CliError::Usage(format!("{} {}: {reason}", self.by, self.text));
        let opened = resolver
            .open_held(&self.path)
            .map_err(|error| refused(error.to_string()))?;
        match places::refusal(&opened.path) {
            Some(reason) => Err(refused(reason)),
            None => Ok(Mount {
                path: opened.path,
                writable: self.writable,
            }),
        }
    }

    /// Where this is not the path that was written, which it is.
    fn elsewhere(&self, mount: &Mount) -> Option<String> {
        (lexical(&self.path) != mount.path).then(|| {
            format!(
                "{} {}: this is {}.",
                self.by,
                self.text,
                escaped(&mount.path)
            )
        })
    }
}

/// Where an isolated kernel works: the working directory, unless that is a home or the root, of which it sees only a
/// folder of its own.
pub fn working_directory(launcher: &dyn Launcher, tell: Tell) -> Result<PathBuf, CliError> {
    let cwd =
        std::env::current_dir().map_err(CliError::io("the working directory cannot be used"))?;
    if launcher.mode() == "local" {
        return Ok(cwd);
    }
    if places::secret(&cwd).is_none() {
        return match places::refusal(&cwd) {
            None => Ok(cwd),
            Some(reason) => Err(CliError::Usage(format!(
                "code cannot work here: {reason}, and start there"
            ))),
        };
    }
    let own = own_folder(&cwd);
    if let Some(reason) = places::own(&own) {
        return Err(CliError::Usage(format!(
            "code cannot work here: {reason}, and start there"
        )));
    }
    std::fs::create_dir_all(&own)
        .map_err(CliError::io(format!("cannot make {}", own.display())))?;
    tell(Said::Note(format!(
        "The code works in {}, and sees nothing else of the folder above it.",
        own.display()
    )));
    Ok(own)
}

fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .map_or(4 << 30, |kilobytes| kilobytes << 10)
}

/// The kernel to start: the launcher's own, or found, or made with progress shown. Blocking.
pub fn choose_kernel(
    settings: &Settings,
    launcher: &dyn Launcher,
    precautions: &Precautions,
) -> Result<Choice, CliError> {
    let bar = Steps::new();
    let progress = &mut |step: &str| bar.show(step);
    choose_kernel_telling(settings, launcher, None, precautions, progress)
}

/// The same, on this `python` where no kernel is named, with progress told to somebody. Blocking.
pub fn choose_kernel_telling(
    settings: &Settings,
    launcher: &dyn Launcher,
    python: Option<&Path>,
    precautions: &Precautions,
    progress: python::Progress,
) -> Result<Choice, CliError> {
    if let Some(choice) = launcher.choice() {
        return Ok(choice);
    }
    match (settings.kernel.name.as_deref(), python) {
        (None, Some(python)) => Ok(Choice::Python(python::at(python, precautions)?)),
        (name, _) => Ok(Choice::of(name, precautions, progress)?),
    }
}

/// What this machine's interpreters are judged by, for code that can write to the project, to the working directory and
/// to what else is granted.
pub fn precautions(loaded: &Loaded, isolated: bool, args: &KernelArgs) -> Precautions {
    // By the paths that are asked for, and where they lead: one that cannot be granted is an error later, and must not
    // make the others count for less here.
    let here = std::env::current_dir().unwrap_or_default();
    let asked = asked(loaded, args, &here).into_iter();
    let writable = asked.filter(|asked| asked.writable).map(|asked| asked.path);
    let granted = writable.flat_map(|path| [path.canonicalize().ok(), Some(path)]);
    let folders = loaded.project_dir.clone().into_iter();
    Precautions {
        isolated,
        ..precautions_with(folders.chain(granted.flatten()))
    }
}

/// The same, for code that works here and can write to these folders too.
pub fn precautions_with(folders: impl Iterator<Item = PathBuf>) -> Precautions {
    let cwd = std::env::current_dir().ok();
    let own = cwd.as_deref().map(own_folder);
    let here = own.into_iter().chain(cwd);
    Precautions {
        // A home, for one, is never given to code as a whole.
        folders: here
            .chain(folders)
            .filter(|folder| places::refusal(folder).is_none())
            .collect(),
        isolated: true,
        refusal: places::refusal_of_python,
        out_of_reach: |path| places::secret(path).is_some(),
    }
}

/// Where code works, for who starts it in a folder that it is not given.
fn own_folder(folder: &Path) -> PathBuf {
    folder.join("heddle")
}

/// The kernel with the packages that Heddle pins. Blocking.
pub fn managed_kernel(
    launcher: &dyn Launcher,
    precautions: &Precautions,
) -> Result<Choice, CliError> {
    if let Some(choice) = launcher.choice() {
        return Ok(choice);
    }
    let bar = Steps::new();
    let python = python::managed_or_make(precautions, &mut |step| bar.show(step));
    Ok(Choice::Python(python?))
}

/// Progress on a terminal as a line that changes, else as lines.
pub struct Steps(ProgressBar);

impl Steps {
    pub fn new() -> Steps {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        Steps(bar)
    }

    pub fn show(&self, step: &str) {
        let step = escape_line(step);
        if std::io::stderr().is_terminal() {
            // It spins from the first step on: most starts have none, and show nothing.
            self.0
                .enable_steady_tick(std::time::Duration::from_millis(120));
            self.0.set_message(step.into_owned());
        } else {
            eprintln!("{step}");
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How long a kernel may take to start before it is said what is waited for.
const SLOW: std::time::Duration = std::time::Duration::from_secs(3);

/// Waits for a kernel to start, and shows what is waited for where that takes long.
pub async fn start<T>(waits_for: String, start: impl Future<Output = T>) -> T {
    let mut start = std::pin::pin!(start);
    if let Ok(started) = tokio::time::timeout(SLOW, &mut start).await {
        return started;
    }
    let steps = Steps::new();
    steps.show(&format!(
        "The kernel is not there yet: waiting for {waits_for}"
    ));
    start.await
}

/// The packages that kernels of this choice can have: the project's, without one the user's. A place that they cannot be
/// kept in is no reason not to start a kernel. Blocking.
pub fn packages(
    loaded: &Loaded,
    choice: &Choice,
    launcher: &dyn Launcher,
    tell: Tell,
) -> Option<Packages> {
    match try_packages(loaded, choice, launcher) {
        Ok(packages) => {
            if packages.pins().is_ok_and(|pins| pins.is_empty())
                && let Ok(Some(proposal)) = packages.proposal()
                && !proposal.pins.is_empty()
            {
                tell(Said::Note(not_installed(&proposal)));
            }
            Some(packages)
        }
        Err(error @ PackagesError::Link { .. }) => {
            tell(Said::Warning(error.to_string()));
            None
        }
        Err(_) => None,
    }
}

/// That a project proposes packages, and has none.
pub fn not_installed(proposal: &Proposal) -> String {
    let why = match proposal.is_earlier {
        true => {
            "The packages in the project's .heddle are not used any more, because code could change them."
        }
        false => "The project proposes packages, and none is installed.",
    };
    format!("{why} To see which, and install them from the package index: heddle env sync")
}

/// The same, with the reason where there can be none. Blocking.
pub fn try_packages(
    loaded: &Loaded,
    choice: &Choice,
    launcher: &dyn Launcher,
) -> Result<Packages, PackagesError> {
    let project = loaded.project_dir.as_deref();
    match launcher.packages(project) {
        Some(packages) => tokio::runtime::Handle::current().block_on(packages),
        None => Packages::of(project, choice),
    }
}

/// How to start a kernel that works in `cwd`.
pub fn kernel_options(
    loaded: &Loaded,
    launcher: Arc<dyn Launcher>,
    choice: Choice,
    cwd: &Path,
    args: &KernelArgs,
) -> Result<Options, CliError> {
    let settings = &loaded.settings;
    Ok(Options {
        tap: None,
        transport: transport(settings, &*launcher)?,
        launcher,
        choice,
        cwd: cwd.to_path_buf(),
        env: variables(&args.env)?,
        grants: grants(loaded, args)?,
        start_timeout: settings.kernel.start_timeout,
    })
}

/// Only Unix sockets cross the border of an isolated kernel.
fn transport(settings: &Settings, launcher: &dyn Launcher) -> Result<Transport, CliError> {
    match settings.kernel.transport {
        config::Transport::Ipc => Ok(Transport::Ipc),
        config::Transport::Tcp if launcher.mode() == "local" => Ok(Transport::Tcp),
        config::Transport::Tcp => Err(CliError::Usage(format!(
            "kernel.transport = \"tcp\" needs --mode local: a kernel in {} mode has a network of its own. Use ipc",
            launcher.mode()
        ))),
    }
}

/// `NAME=VALUE`, or `NAME` for the value that this process has.
fn variables(env: &[String]) -> Result<Vec<(String, String)>, CliError> {
    let variable = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) => Err(CliError::Usage(format!(
            "--env {text}: a name is missing before the ="
        ))),
        None => std::env::var(text)
            .map(|value| (text.clone(), value))
            .map_err(|_| {
                CliError::Usage(format!(
                    "--env {text}: that variable is not set here. Use --env {text}=VALUE"
                ))
            }),
    };
    env.iter().map(variable).collect()
}

/// What a cell may take, for code of a model.
pub fn limits(settings: &Settings) -> Limits {
    Limits {
        timeout: settings.code_interpreter.timeout,
        characters: settings.code_interpreter.output_chars,
    }
}

/// The configured model, with retries and, where asked for, a record; or the replay of one.
pub fn provider(settings: &Settings) -> Result<Arc<dyn Provider>, CliError> {
    let llm = &settings.llm;
    if let Some(path) = &llm.replay {
        return Ok(Arc::new(Replayer::from_path(path)?));
    }
    let mut openai = OpenAiSettings::new(&llm.api_base, llm.model.clone().unwrap_or_default());
    openai.api_key = llm.api_key.clone();
    openai.temperature = llm.temperature;
    openai.top_p = llm.top_p;
    openai.max_tokens = llm.max_tokens.map(u64::from);
    openai.seed = llm.seed;
    openai.frequency_penalty = llm.frequency_penalty;
    openai.presence_penalty = llm.presence_penalty;
    openai.connect_timeout = llm.connect_timeout;
    openai.idle_timeout = llm.idle_timeout;
    openai.json_mode = match llm.response_format {
        ResponseFormat::JsonObject => JsonMode::JsonObject,
        ResponseFormat::JsonSchema => JsonMode::JsonSchema,
        ResponseFormat::Text => JsonMode::None,
    };
    let policy = RetryPolicy {
        max_retries: llm.max_retries,
        ..RetryPolicy::default()
    };
    let provider = Retry::new(OpenAi::new(openai)?, policy);
    Ok(match &llm.record {
        Some(path) => Arc::new(Recorder::create(provider, path)?),
        None => Arc::new(provider),
    })
}

/// Everything for a conversation.
pub fn conversation(
    global: &Global,
    loaded: &Loaded,
    llm: Arc<dyn Provider>,
    launcher: Arc<dyn Launcher>,
    choice: Choice,
    args: &KernelArgs,
) -> Result<Setup, CliError> {
    let settings = &loaded.settings;
    let packages = packages(loaded, &choice, &*launcher, &mut Said::print);
    let mut grants = grants(loaded, args)?;
    grants.project = project(global, loaded, &mut Said::print)?;
    tell_grants(loaded, args, &*launcher, None, &grants, &mut Said::print);
    Ok(Setup {
        sessions: sessions(loaded)?,
        llm,
        agent: agent_limits(settings)?,
        cell: limits(settings),
        environment: briefing::environment(
            launcher.mode(),
            &choice,
            settings,
            &grants,
            packages.as_ref(),
            approver::is_present(),
        ),
        packages,
        transport: transport(settings, &*launcher)?,
        launcher,
        choice,
        env: variables(&args.env)?,
        grants,
        start_timeout: settings.kernel.start_timeout,
    })
}

/// What a round of the agent may take.
pub fn agent_limits(settings: &Settings) -> Result<crate::agent::Limits, CliError> {
    Ok(crate::agent::Limits {
        retries: settings.code_interpreter.max_retry_count,
        rounds: settings.session.max_internal_chat_round_num,
        characters: settings.code_interpreter.output_chars,
        context: settings.llm.context_chars,
        policy: match settings.code_interpreter.code_verification_on {
            true => Some(policy(settings)?),
            false => None,
        },
        approve: match settings.code_interpreter.approve {
            Approve::Never => When::Never,
            Approve::Risky => When::Risky,
            Approve::Always => When::Always,
        },
        extent: crate::agent::Extent::Run,
    })
}

/// What a conversation in a joined kernel is set up with, beside the kernel.
pub fn company(settings: &Settings, kernel: String) -> Result<Place, CliError> {
    let environment = format!(
        "The code runs in a kernel that the User started and works in, with whatever permissions and network that \
         has. Touch nothing outside its working directory unless the User asked for it, leave the User's variables as \
         they are unless that is the task, install no packages, and never call exit. Today is {}.",
        jiff::ZonedDateTime::now().date()
    );
    Ok(Place {
        llm: provider(settings)?,
        agent: agent_limits(settings)?,
        environment,
        characters: settings.code_interpreter.output_chars,
        mode: "joined".to_owned(),
        kernel,
    })
}

/// What checked code may do.
pub fn policy(settings: &Settings) -> Result<Policy, CliError> {
    let of = &settings.code_interpreter;
    Policy::new(
        of.allowed_modules.clone(),
        of.blocked_modules.clone(),
        of.blocked_functions.clone(),
    )
    .map_err(|error| CliError::Usage(error.to_string()))
}
