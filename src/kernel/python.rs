//! Which Python a kernel runs on: the user's own where it has ipykernel, else an environment that Heddle makes.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::KernelError;

/// What the managed environment holds, pinned.
const REQUIREMENTS: &str = include_str!("../../kernelspec/requirements.txt");

/// Asked of a Python: who it is, and whether it has ipykernel. Code that ran before may have left modules in the working
/// directory, which `-c` puts on the path: nothing is imported from there, nor from where PYTHONPATH leads.
const PROBE: &str = "\
import sys
sys.path[:] = [p for p in sys.path if p]
import importlib.util, json, os, platform, sysconfig
sys.path += [p for p in os.environ.get('PYTHONPATH', '').split(os.pathsep) if p]
s = importlib.util.find_spec('ipykernel')
abi, machine = sysconfig.get_config_var('SOABI') or sys.implementation.cache_tag, platform.machine()
print(json.dumps({'executable': sys.executable, 'prefix': sys.prefix, 'base_prefix': sys.base_prefix, 'version': list(sys.version_info[:2]),
 'tag': abi if machine in abi else f'{abi}-{machine}', 'ipykernel': s is not None, 'path': [p for p in sys.path if os.path.isdir(p)]}))";

/// The oldest Python that the pinned requirements have wheels for.
const OLDEST: (u32, u32) = (3, 10);

/// A Python with ipykernel.
#[derive(Clone, Debug)]
pub struct Python {
    pub executable: PathBuf,
    /// `sys.prefix`: where its kernelspecs are.
    pub prefix: PathBuf,
    /// Whether Heddle made its environment.
    pub managed: bool,
}

impl Python {
    /// The interpreter itself, where `executable` is a version manager's, which chooses anew in each folder.
    pub fn interpreter(&self) -> PathBuf {
        let answer = probe(&self.executable).map(|answer| answer.executable);
        answer
            .filter(|path| path.is_absolute())
            .or_else(|| std::path::absolute(&self.executable).ok())
            .unwrap_or_else(|| self.executable.clone())
    }
}

/// Something to tell the person while an environment is made; it takes a minute, once.
pub type Progress<'a> = &'a mut (dyn FnMut(&str) + Send);

/// The active virtual environment or `python3`, if it has ipykernel, else the managed environment, made if need be.
pub fn find_or_make(progress: Progress) -> Result<Python, KernelError> {
    match find()? {
        Some(python) => Ok(python),
        None => make(progress),
    }
}

/// The managed environment, made if need be: for what must have its packages.
pub fn managed_or_make(progress: Progress) -> Result<Python, KernelError> {
    let home = managed_home()?;
    match is_complete(&home) {
        true => Ok(managed(home)),
        false => make(progress),
    }
}

/// The Python that [`find_or_make`] would take, if there is one already.
pub fn find() -> Result<Option<Python>, KernelError> {
    for candidate in candidates() {
        if let Some(answer) = probe(&candidate)
            && answer.ipykernel
        {
            return Ok(Some(Python {
                executable: candidate,
                prefix: answer.prefix,
                managed: false,
            }));
        }
    }
    let home = managed_home()?;
    Ok(is_complete(&home).then(|| managed(home)))
}

/// The Python at this very path.
///
/// # Errors
/// Where it has gone, or its ipykernel.
pub fn at(executable: &Path) -> Result<Python, KernelError> {
    let lacks = |what| KernelError::Python(format!("{} {what}.", executable.display()));
    match probe(executable) {
        Some(answer) if answer.ipykernel => Ok(Python {
            executable: executable.to_owned(),
            prefix: answer.prefix,
            managed: managed_home().is_ok_and(|home| executable.starts_with(home)),
        }),
        Some(_) => Err(lacks("has no ipykernel any more")),
        None => Err(lacks("is no Python that runs any more")),
    }
}

/// Where the parts of an interpreter and of what it imports are.
pub(super) fn parts(executable: &Path) -> Vec<PathBuf> {
    let Some(answer) = probe(executable) else {
        return Vec::new();
    };
    let mut parts = answer.path;
    parts.extend([answer.prefix, answer.base_prefix]);
    // Each link on the way to the real interpreter is part of it.
    parts.extend(executable.parent().map(Path::to_path_buf));
    parts.extend(std::fs::canonicalize(executable));
    // The working directory is the kernel's already, and no part of the interpreter.
    let folder = std::env::current_dir().unwrap_or_default();
    parts.retain(|part| part.is_absolute() && *part != folder && part != Path::new("/"));
    parts
}

/// What an interpreter's compiled modules are for, such as `cpython-312-x86_64-linux-gnu`; one component of a path.
pub(super) fn tag(executable: &Path) -> Option<String> {
    Some(probe(executable)?.tag).filter(|tag| is_tag(tag))
}

/// Whether it can be one component of a path.
pub(super) fn is_tag(tag: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    tag.chars().all(plain) && !tag.starts_with('.') && (1..100).contains(&tag.len())
}

/// Interpreters of the user's, the active environment first.
fn candidates() -> impl Iterator<Item = PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(|prefix| Path::new(&prefix).join("bin/python"));
    active
        .chain(on_path("python3"))
        .filter(|path| path.is_file())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Answer {
    executable: PathBuf,
    prefix: PathBuf,
    /// Of the interpreter that a virtual environment was made from.
    #[serde(default)]
    base_prefix: PathBuf,
    version: (u32, u32),
    /// What its compiled modules are for: implementation, version, platform, machine.
    tag: String,
    ipykernel: bool,
    /// `sys.path`: what is installed shows in these folders.
    path: Vec<PathBuf>,
}

/// An answer with what it depends on.
#[derive(Deserialize, Serialize)]
struct Remembered {
    key: String,
    answer: Answer,
    /// Modification times of the interpreter and of its `sys.path`, in nanoseconds.
    seen: Vec<(PathBuf, u128)>,
}

/// Asks an interpreter, or remembers what it said while nothing was installed since: starting a Python costs more
/// than the rest of Heddle's own start.
fn probe(candidate: &Path) -> Option<Answer> {
    let key = probe_key(candidate);
    let cache =
        cache_folder().map(|folder| folder.join(format!("python-{}.json", short_hash(&key))));
    if let Some(cache) = &cache
        && let Ok(text) = std::fs::read_to_string(cache)
        && let Ok(remembered) = serde_json::from_str::<Remembered>(&text)
        && remembered.key == key
        && remembered
            .seen
            .iter()
            .all(|(path, time)| modified(path) == Some(*time))
    {
        return Some(remembered.answer);
    }
    let output = Command::new(candidate)
        .args(["-E", "-c", PROBE])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let answer: Answer = serde_json::from_slice(&output.stdout).ok()?;
    if let Some(cache) = cache {
        let seen = std::iter::once(candidate.to_path_buf())
            .chain([answer.executable.clone()])
            .chain(answer.path.iter().cloned())
            .filter_map(|path| modified(&path).map(|time| (path, time)))
            .collect();
        let remembered = Remembered {
            key,
            answer: answer.clone(),
            seen,
        };
        remember(&cache, &remembered);
    }
    Some(answer)
}

/// Best effort: without a cache the next start asks again.
pub(super) fn remember(cache: &Path, remembered: &impl Serialize) {
    let Some(folder) = cache.parent() else { return };
    if std::fs::create_dir_all(folder).is_ok()
        && let Ok(mut file) = tempfile::NamedTempFile::new_in(folder)
        && serde_json::to_writer(&mut file, remembered).is_ok()
    {
        let _ = file.persist(cache);
    }
}

/// A version manager's shim answers by folder and environment, so both belong to the question.
fn probe_key(candidate: &Path) -> String {
    let folder = std::env::current_dir().unwrap_or_default();
    let text = |name| std::env::var_os(name).unwrap_or_default();
    let (pyenv, path): (OsString, OsString) = (text("PYENV_VERSION"), text("PYTHONPATH"));
    format!("{candidate:?} {folder:?} {pyenv:?} {path:?}")
}

fn modified(path: &Path) -> Option<u128> {
    let time = std::fs::metadata(path).ok()?.modified().ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos())
}

pub(super) fn cache_folder() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    Some(
        etcetera::choose_base_strategy()
            .ok()?
            .cache_dir()
            .join("heddle"),
    )
}

pub(super) fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Where the managed environment of these very requirements is, or will be.
fn managed_home() -> Result<PathBuf, KernelError> {
    use etcetera::BaseStrategy;
    let base = etcetera::choose_base_strategy().map_err(|_| {
        KernelError::Python(
            "there is no home folder to keep a Python environment in. Set HOME.".into(),
        )
    })?;
    let folder = base.data_dir().join("heddle/python");
    Ok(folder.join(short_hash(REQUIREMENTS)))
}

fn managed(home: PathBuf) -> Python {
    Python {
        executable: home.join("bin/python"),
        prefix: home,
        managed: true,
    }
}

/// Its last step is the mark; an environment without it was left half-made.
fn is_complete(home: &Path) -> bool {
    home.join("heddle-complete").is_file() && home.join("bin/python").exists()
}

/// Packages that are worth telling a model of.
const KNOWN_PACKAGES: &[&str] = &[
    "numpy",
    "pandas",
    "matplotlib",
    "scipy",
    "sklearn",
    "seaborn",
    "statsmodels",
    "sympy",
    "polars",
    "pyarrow",
    "openpyxl",
    "requests",
    "bs4",
    "plotly",
    "altair",
    "PIL",
    "torch",
    "duckdb",
];

/// Those of the known packages that the environment at `prefix` has.
pub fn packages(prefix: &Path) -> Vec<&'static str> {
    let libraries = std::fs::read_dir(prefix.join("lib")).into_iter().flatten();
    let sites: Vec<PathBuf> = libraries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
        .map(|entry| entry.path().join("site-packages"))
        .collect();
    KNOWN_PACKAGES
        .iter()
        .copied()
        .filter(|package| sites.iter().any(|site| site.join(package).is_dir()))
        .collect()
}

fn make(progress: Progress) -> Result<Python, KernelError> {
    let home = managed_home()?;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        KernelError::Python(format!("{what} {}: {error}", home.display()))
    };
    let parent = home.parent().unwrap_or(&home);
    std::fs::create_dir_all(parent).map_err(|error| failed("cannot create", &error))?;
    let lock = File::create(home.with_extension("lock"))
        .map_err(|error| failed("cannot write beside", &error))?;
    if lock.try_lock().is_err() {
        progress("Another heddle is preparing the Python environment; waiting for it");
        lock.lock().map_err(|error| failed("cannot lock", &error))?;
    }
    if !is_complete(&home) {
        build(&home, progress)?;
        std::fs::write(home.join("heddle-complete"), "")
            .map_err(|error| failed("cannot write in", &error))?;
    }
    Ok(managed(home))
}

fn build(home: &Path, progress: Progress) -> Result<(), KernelError> {
    let base = base_interpreter()?;
    progress(&format!(
        "Preparing a Python environment in {} (once, about a minute)",
        home.display()
    ));
    if home.exists() {
        std::fs::remove_dir_all(home).map_err(|error| {
            KernelError::Python(format!("cannot clear {}: {error}", home.display()))
        })?;
    }
    let venv = [OsString::from("-m"), "venv".into(), home.into()];
    run(&base, &venv, &mut |_| {}).map_err(|reason| {
        KernelError::Python(format!(
            "{} cannot make a virtual environment: {reason}\nOn Debian and Ubuntu: sudo apt install python3-venv",
            base.display()
        ))
    })?;
    let requirements = home.join("requirements.txt");
    std::fs::write(&requirements, REQUIREMENTS).map_err(|error| {
        KernelError::Python(format!("cannot write {}: {error}", requirements.display()))
    })?;
    let mut install: Vec<OsString> = [
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--only-binary=:all:",
        "--progress-bar=off",
        "-r",
    ]
    .map(OsString::from)
    .to_vec();
    install.push(requirements.into());
    run(&home.join("bin/python"), &install, &mut |line| {
        if let Some(package) = line.strip_prefix("Collecting ") {
            progress(&format!("Fetching {}", package.split(' ').next().unwrap_or(package)));
        } else if line.starts_with("Installing") {
            progress("Installing the packages");
        }
    })
    .map_err(|reason| {
        KernelError::Python(format!(
            "the packages could not be installed: {reason}\n\
             Heddle needs the Python package index once. Behind a proxy, set HTTPS_PROXY; with an index of your own, \
             PIP_INDEX_URL. Or use a Python that has ipykernel: pip install ipykernel, and activate its environment."
        ))
    })
}

/// A Python that is new enough to make the managed environment with.
fn base_interpreter() -> Result<PathBuf, KernelError> {
    let newer = (OLDEST.1..=14)
        .rev()
        .map(|minor| format!("python3.{minor}"));
    let names = std::iter::once("python3".to_owned()).chain(newer);
    let mut oldest = None;
    for candidate in names.filter_map(|name| on_path(&name)) {
        match probe(&candidate) {
            Some(answer) if answer.version >= OLDEST => return Ok(answer.executable),
            Some(answer) => oldest = Some(answer.version),
            None => {}
        }
    }
    Err(KernelError::Python(match oldest {
        Some((major, minor)) => format!(
            "the newest Python found is {major}.{minor}, and at least {}.{} is needed. Install a newer python3, or \
             activate an environment that has ipykernel.",
            OLDEST.0, OLDEST.1
        ),
        None => "no python3 was found on PATH. Install Python, for example: sudo apt install python3 python3-venv".into(),
    }))
}

/// Runs a step, its lines to `line`; the error is the last of what it said.
fn run(program: &Path, args: &[OsString], line: &mut dyn FnMut(&str)) -> Result<(), String> {
    let mut step = Command::new(program);
    end_with_us(&mut step);
    let mut child = step
        .args(args)
        // `-m` looks for modules in the working directory first.
        .current_dir("/")
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
    let errors = child.stderr.take();
    let errors = std::thread::spawn(move || {
        let lines = errors.map(|errors| BufReader::new(errors).lines());
        lines
            .into_iter()
            .flatten()
            .map_while(Result::ok)
            .collect::<Vec<_>>()
    });
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        for text in BufReader::new(output).lines().map_while(Result::ok) {
            line(&text);
            said.push(text);
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    said.extend(errors.join().unwrap_or_default());
    match status.success() {
        true => Ok(()),
        false => Err(said[said.len().saturating_sub(5)..].join("\n")),
    }
}

/// Has the system end a step with the thread that waits for it: the lock on the environment ends then too, and another
/// heddle may begin to make it.
#[cfg(target_os = "linux")]
fn end_with_us(step: &mut Command) {
    use std::os::unix::process::CommandExt;

    let us = nix::unistd::getpid();
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe {
        step.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            match nix::unistd::getppid() == us {
                true => Ok(()),
                false => Err(std::io::Error::from(nix::errno::Errno::ESRCH)),
            }
        });
    }
}

/// Elsewhere a step ends when it next prints something that nobody reads.
#[cfg(not(target_os = "linux"))]
fn end_with_us(_: &mut Command) {}
