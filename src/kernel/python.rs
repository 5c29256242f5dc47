//! Which Python a kernel runs on: the user's own where it has ipykernel, else an environment that Heddle makes.

mod standing;

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::KernelError;
use crate::folders;
use standing::{Environment, Standing};

pub use standing::Precautions;

/// What the managed environment holds, pinned.
const REQUIREMENTS: &str = include_str!("../../kernelspec/requirements.txt");

/// Asked of a Python, in the folder `/`, where nobody puts modules: who it is, and whether it has ipykernel. What
/// PYTHONPATH leads to is looked at and not imported.
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
/// The newest minor version that is looked for by name.
const NEWEST: u32 = 14;

/// What a version manager's programs go by.
const MANAGERS: &[&str] = &["PATH", "HOME", "PYENV_ROOT", "PYENV_VERSION"];

/// A Python with ipykernel.
#[derive(Clone, Debug)]
pub struct Python {
    /// The interpreter itself, not a version manager's program, which chooses anew in each folder.
    pub executable: PathBuf,
    /// `sys.prefix`: where its kernelspecs are.
    pub prefix: PathBuf,
    /// Whether Heddle made its environment.
    pub managed: bool,
    /// What it was judged by, and is again at each start.
    pub precautions: Precautions,
}

/// Something to tell the person while an environment is made; it takes a minute, once.
pub type Progress<'a> = &'a mut (dyn FnMut(&str) + Send);

/// The active virtual environment or `python3`, if it has ipykernel, else the managed environment, made if need be.
///
/// # Errors
/// Where there is none and none can be made, or the active one is none that isolated code may be given.
pub fn find_or_make(precautions: &Precautions, progress: Progress) -> Result<Python, KernelError> {
    match find(precautions)? {
        Some(python) => Ok(python),
        None => make(precautions, progress),
    }
}

/// The managed environment, made if need be: for what must have its packages.
pub fn managed_or_make(
    precautions: &Precautions,
    progress: Progress,
) -> Result<Python, KernelError> {
    let home = managed_home()?;
    match is_complete(&home) {
        true => Ok(managed(home, precautions)),
        false => make(precautions, progress),
    }
}

/// The Python that [`find_or_make`] would take, if there is one already.
///
/// # Errors
/// As [`find_or_make`].
pub fn find(precautions: &Precautions) -> Result<Option<Python>, KernelError> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter();
    let active = active.filter_map(std::env::var_os);
    let active = active.map(|prefix| Path::new(&prefix).join("bin/python"));
    let mut found = active
        .filter(|path| path.is_file())
        .map(|path| examine(&path, precautions))
        // One on PATH that code may not be given is nobody's choice.
        .chain(
            on_path("python3")
                .next()
                .map(|path| Ok(examine(&path, precautions).unwrap_or(None))),
        );
    let fits = |known: &Result<Option<Known>, KernelError>| match known {
        Ok(known) => known.as_ref().is_some_and(|known| known.answer.ipykernel),
        Err(_) => true,
    };
    if let Some(Some(known)) = found.find(fits).transpose()? {
        return Ok(Some(known.python(precautions)));
    }
    let home = managed_home()?;
    Ok(is_complete(&home).then(|| managed(home, precautions)))
}

/// `sys.prefix` of the active environment, else of `python3`; `None` where there is none that can be asked.
pub fn active_prefix(precautions: &Precautions) -> Option<PathBuf> {
    let active = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter();
    let mut active = active.filter_map(std::env::var_os).map(PathBuf::from);
    let python3 = || {
        let known = examine(&on_path("python3").next()?, precautions).ok()??;
        Some(known.answer.prefix)
    };
    active
        .find(|prefix| prefix.join("bin/python").is_file())
        .or_else(python3)
}

/// The folders of PATH in which code has nothing to put programs: an environment that is active comes first there.
pub fn path_outside(precautions: &Precautions) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let keeps = |folder: &PathBuf| {
        let program = folder.join("sh");
        folder.is_absolute() && !precautions.covers(&program) && !standing::is_environment(folder)
    };
    let kept = std::env::split_paths(&path).filter(keeps);
    std::env::join_paths(kept).unwrap_or_default()
}

/// The Python at this very path.
///
/// # Errors
/// Where it has gone, or its ipykernel, or isolated code may not be given it.
pub fn at(executable: &Path, precautions: &Precautions) -> Result<Python, KernelError> {
    let lacks = |what| KernelError::Python(format!("{} {what}.", executable.display()));
    match examine(executable, precautions)? {
        Some(known) if known.answer.ipykernel => Ok(known.python(precautions)),
        Some(_) => Err(lacks("has no ipykernel any more")),
        None => Err(lacks("is no Python that runs any more")),
    }
}

/// Where the parts of an interpreter and of what it imports are.
///
/// # Errors
/// Why isolated code may not be given it.
pub(super) fn parts(
    executable: &Path,
    precautions: &Precautions,
) -> Result<Vec<PathBuf>, KernelError> {
    let Some(path) = found(executable) else {
        return Ok(Vec::new());
    };
    // What an environment is made of is known without a word of its interpreter's.
    if let Standing::Environment(environment) = judge(&path, precautions) {
        return Ok(shown(&environment, precautions));
    }
    let known = examine(&path, precautions)?;
    Ok(known.map_or_else(Vec::new, |known| known.parts))
}

/// What code is shown of the machine where its interpreter is of this environment.
fn shown(environment: &Environment, precautions: &Precautions) -> Vec<PathBuf> {
    let named = named_folders(precautions);
    environment.parts().into_iter().chain(named).collect()
}

/// The absolute path of a program: a bare name is looked up on PATH.
fn found(program: &Path) -> Option<PathBuf> {
    let bare = program.components().count() == 1 && !program.is_absolute();
    let path = match bare {
        true => on_path(&program.to_string_lossy()).next()?,
        false => program.to_path_buf(),
    };
    std::path::absolute(path).ok()
}

/// What an interpreter's compiled modules are for, such as `cpython-312-x86_64-linux-gnu`; one component of a path.
pub(super) fn tag(executable: &Path, precautions: &Precautions) -> Option<String> {
    let known = examine(executable, precautions).ok()??;
    Some(known.answer.tag).filter(|tag| is_tag(tag))
}

/// Whether it can be one component of a path.
pub(super) fn is_tag(tag: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    tag.chars().all(plain) && !tag.starts_with('.') && (1..100).contains(&tag.len())
}

/// An interpreter that may be executed outside and whose compiled modules are for `tag`: this one, else another of this
/// machine; and where the packages of this one are, if it is another.
pub(super) fn outside(
    executable: &Path,
    tag: &str,
    precautions: &Precautions,
) -> Option<(PathBuf, Option<PathBuf>)> {
    let environment = match judge(executable, precautions) {
        standing if may_run_outside(&standing) => return Some((executable.to_path_buf(), None)),
        Standing::Environment(environment) => environment,
        _ => return None,
    };
    let home = managed_home().ok().filter(|home| is_complete(home));
    let own = home.map(|home| home.join("bin/python"));
    // Code may have chosen it, and cannot have made it.
    let origin = environment.origin().filter(|origin| {
        let standing = judge(origin, precautions);
        matches!(standing, Standing::Trusted)
            || may_run_outside(&standing) && (precautions.out_of_reach)(origin)
    });
    let fits = |candidate: &PathBuf| {
        let answer = ask(candidate, None, precautions);
        answer.is_some_and(|answer| answer.tag == tag)
    };
    let found = own
        .into_iter()
        .chain(origin)
        .chain(every_interpreter(precautions))
        .find(fits)?;
    Some((found, Some(environment.site())))
}

/// The files of this name in the folders of PATH.
fn on_path(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let files = folders.into_iter().map(move |folder| folder.join(name));
    files.filter(|candidate| candidate.is_file())
}

/// Whether what stands so may be executed outside where the person has named it.
fn may_run_outside(standing: &Standing) -> bool {
    match standing {
        Standing::Trusted => true,
        Standing::Environment(environment) => environment.is_base(),
        Standing::Shim(_) | Standing::Refused(_) => false,
    }
}

/// Every interpreter on PATH that may be executed outside, `python3` first.
fn every_interpreter(precautions: &Precautions) -> impl Iterator<Item = PathBuf> {
    let newer = (OLDEST.1..=NEWEST)
        .rev()
        .map(|minor| format!("python3.{minor}"));
    let names = std::iter::once("python3".to_owned()).chain(newer);
    let found = names.flat_map(|name| on_path(&name).collect::<Vec<_>>());
    found.filter_map(|candidate| {
        let path = std::path::absolute(candidate).ok()?;
        let interpreter = match judge(&path, precautions) {
            Standing::Shim(root) => {
                let within = precautions.isolated.then(|| Within::shim(root, &path));
                ask(&path, within.as_ref(), precautions)?.executable
            }
            _ => path,
        };
        let standing = judge(&interpreter, precautions);
        (is_interpreter(&interpreter) && may_run_outside(&standing)).then_some(interpreter)
    })
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

/// An interpreter that has answered.
struct Known {
    executable: PathBuf,
    answer: Answer,
    /// Files and folders that it is made of.
    parts: Vec<PathBuf>,
}

impl Known {
    fn python(self, precautions: &Precautions) -> Python {
        let own = own_folder().unwrap_or_default();
        Python {
            managed: self.executable.starts_with(own),
            executable: self.executable,
            prefix: self.answer.prefix,
            precautions: precautions.clone(),
        }
    }
}

/// What an interpreter is asked in a sandbox with.
struct Within {
    read: Vec<PathBuf>,
    /// What changes with its answer.
    tracks: Vec<PathBuf>,
}

impl Within {
    /// A version manager's program, which finds the interpreters below the same folder.
    fn shim(root: PathBuf, program: &Path) -> Within {
        Within {
            tracks: vec![root.join("version"), root.join("versions")],
            read: vec![root, program.to_path_buf()],
        }
    }
}

fn judge(executable: &Path, precautions: &Precautions) -> Standing {
    let own = own_folder();
    let real = own.as_deref().and_then(|own| own.canonicalize().ok());
    standing::judge(executable, real.as_deref(), precautions)
}

/// Finds out about an interpreter; `None` where it is none that runs.
///
/// # Errors
/// Why isolated code may not be given it.
fn examine(candidate: &Path, precautions: &Precautions) -> Result<Option<Known>, KernelError> {
    let Some(mut executable) = found(candidate) else {
        return Ok(None);
    };
    if !precautions.isolated {
        let answer = ask(&executable, None, precautions);
        return Ok(answer.map(|answer| Known {
            executable: match is_interpreter(&answer.executable) {
                true => answer.executable.clone(),
                false => executable,
            },
            answer,
            parts: Vec::new(),
        }));
    }
    // A program that means another interpreter is a part of it, and that one is judged by itself.
    let mut ways = Vec::new();
    for _ in 0..3 {
        let answer = match judge(&executable, precautions) {
            Standing::Trusted => {
                let answer = ask(&executable, None, precautions);
                ways.extend(executable.parent().map(Path::to_path_buf));
                if let Some(answer) = &answer
                    && answer.executable == executable
                {
                    ways.extend(trusted_parts(&executable, answer));
                    return Ok(Some(Known {
                        executable,
                        answer: answer.clone(),
                        parts: ways,
                    }));
                }
                answer
            }
            Standing::Shim(root) => {
                let within = Within::shim(root, &executable);
                ask_within(&executable, &within, precautions)?
            }
            Standing::Environment(environment) => {
                let within = Within {
                    read: environment.parts(),
                    tracks: environment.tracks(),
                };
                let answer = ask_within(&executable, &within, precautions)?;
                ways.extend(shown(&environment, precautions));
                // What it says of places is not taken from it.
                return Ok(answer.map(|answer| Known {
                    executable,
                    parts: ways,
                    answer: Answer {
                        prefix: environment.root,
                        ..answer
                    },
                }));
            }
            Standing::Refused(reason) => return Err(refused(&executable, &reason)),
        };
        match answer {
            Some(answer) if is_interpreter(&answer.executable) => executable = answer.executable,
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// Whether it can be the path of one.
fn is_interpreter(path: &Path) -> bool {
    path.is_absolute() && path.is_file()
}

fn refused(executable: &Path, reason: &str) -> KernelError {
    KernelError::Python(format!(
        "{} is not used where code is isolated: {reason}. To go on without it, leave the environment: deactivate. To \
         run the code with your own permissions, unprotected: --mode local",
        executable.display()
    ))
}

fn ask_within(
    executable: &Path,
    within: &Within,
    precautions: &Precautions,
) -> Result<Option<Answer>, KernelError> {
    match ask(executable, Some(within), precautions) {
        Some(answer) => Ok(Some(answer)),
        None => match sandbox_is_there() {
            Ok(()) => Ok(None),
            Err(reason) => Err(refused(
                executable,
                &format!(
                    "code may have changed it, so it is asked about itself in a sandbox alone, and this machine has none \
                     ({reason})"
                ),
            )),
        },
    }
}

/// The parts of an interpreter that may be executed outside, by what it says itself.
fn trusted_parts(executable: &Path, answer: &Answer) -> Vec<PathBuf> {
    let mut parts = answer.path.clone();
    parts.extend([answer.prefix.clone(), answer.base_prefix.clone()]);
    parts.extend(std::fs::canonicalize(executable));
    // The working directory is the kernel's already, and no part of the interpreter.
    let folder = std::env::current_dir().unwrap_or_default();
    parts.retain(|part| part.is_absolute() && *part != folder && part != Path::new("/"));
    parts
}

/// The folders that the person has named in PYTHONPATH, but for those that code is not shown.
fn named_folders(precautions: &Precautions) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PYTHONPATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let folders = folders
        .into_iter()
        .filter_map(|folder| folder.canonicalize().ok());
    folders.filter(|folder| !precautions.covers(folder) && (precautions.refusal)(folder).is_none())
}

/// An answer with what it depends on.
#[derive(Deserialize, Serialize)]
struct Remembered {
    key: String,
    answer: Answer,
    /// What was seen of the interpreter and of the folders that it imports from.
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

/// Device, inode, and the time of the last change in nanoseconds, which only the system sets.
type Stamp = (u64, u64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    let time = meta.ctime().saturating_mul(1_000_000_000);
    Some((
        meta.dev(),
        meta.ino(),
        time.saturating_add(meta.ctime_nsec()),
    ))
}

/// Asks an interpreter, in a sandbox where `within` is given, or remembers what it said while nothing changed since:
/// starting a Python costs more than the rest of Heddle's own start.
///
/// An answer from a sandbox is a stranger's, remembered or not; how far the interpreter is trusted is never remembered.
fn ask(executable: &Path, within: Option<&Within>, precautions: &Precautions) -> Option<Answer> {
    let text = |name| std::env::var_os(name).unwrap_or_default();
    let (version, path) = (text("PYENV_VERSION"), text("PYTHONPATH"));
    let place = match (within, precautions.isolated) {
        (Some(_), _) => "sandbox",
        (None, true) => "outside",
        (None, false) => "local",
    };
    let key = format!("{place} {executable:?} {version:?} {path:?}");
    let cache = cache_folder().filter(|folder| !precautions.covers(folder));
    let cache = cache.map(|folder| folder.join(format!("python-{}.json", short_hash(&key))));
    if let Some(cache) = &cache
        && let Some(text) = recalled(cache)
        && let Ok(remembered) = serde_json::from_str::<Remembered>(&text)
        && remembered.key == key
        && remembered
            .seen
            .iter()
            .all(|(path, seen)| stamp(path) == *seen)
    {
        return Some(remembered.answer);
    }
    let output = match within {
        None => {
            Command::new(executable)
                .args(["-E", "-c", PROBE])
                .current_dir("/")
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output()
                .ok()?
                .stdout
        }
        Some(within) => in_sandbox(executable, &within.read).ok()?,
    };
    // Other lines are warnings.
    let text = String::from_utf8_lossy(&output);
    let answer: Answer = text
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
        .or_else(|| serde_json::from_str(&text).ok())?;
    if let Some(cache) = cache {
        let own = [executable.to_path_buf(), answer.executable.clone()];
        let tracks = match within {
            Some(within) => within.tracks.clone(),
            None => answer.path.clone(),
        };
        let all = own.into_iter().chain(tracks);
        let remembered = Remembered {
            key,
            answer: answer.clone(),
            seen: all.map(|path| (path.clone(), stamp(&path))).collect(),
        };
        remember(&cache, &remembered);
    }
    Some(answer)
}

/// What is remembered, where nobody else can have written it.
pub(super) fn recalled(cache: &Path) -> Option<String> {
    let meta = std::fs::symlink_metadata(cache).ok()?;
    let own = meta.is_file() && meta.uid() == Uid::effective().as_raw() && meta.mode() & 0o022 == 0;
    own.then(|| std::fs::read_to_string(cache).ok())?
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

/// What an interpreter prints that is asked in a sandbox which sees these files alone.
///
/// # Errors
/// Why this machine makes no sandbox.
#[cfg(target_os = "linux")]
fn in_sandbox(executable: &Path, read: &[PathBuf]) -> Result<Vec<u8>, String> {
    let supervisor = std::env::current_exe().map_err(|error| error.to_string())?;
    let passed = MANAGERS.iter().copied().chain(["PYTHONPATH"]);
    crate::isolation::Throwaway {
        supervisor: &supervisor,
        read: read.to_vec(),
        program: executable,
        args: &["-E", "-c", PROBE],
        env: passed
            .filter_map(|name| Some((name, std::env::var_os(name)?)))
            .collect(),
    }
    .run()
}

#[cfg(not(target_os = "linux"))]
fn in_sandbox(_: &Path, _: &[PathBuf]) -> Result<Vec<u8>, String> {
    Err("there is a sandbox on Linux only".into())
}

fn sandbox_is_there() -> Result<(), String> {
    in_sandbox(Path::new("/bin/true"), &[]).map(drop)
}

/// Where answers are remembered that cost much to get.
pub(super) fn cache_folder() -> Option<PathBuf> {
    folders::cache()
}

pub(super) fn short_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Where the environments are that Heddle makes.
fn own_folder() -> Option<PathBuf> {
    folders::data().map(|folder| folder.join("python"))
}

/// Where the managed environment of these very requirements is, or will be.
fn managed_home() -> Result<PathBuf, KernelError> {
    let folder = own_folder().ok_or_else(|| {
        KernelError::Python(
            "there is no home folder to keep a Python environment in. Set HOME.".into(),
        )
    })?;
    Ok(folder.join(short_hash(REQUIREMENTS)))
}

fn managed(home: PathBuf, precautions: &Precautions) -> Python {
    Python {
        executable: home.join("bin/python"),
        prefix: home,
        managed: true,
        precautions: precautions.clone(),
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

fn make(precautions: &Precautions, progress: Progress) -> Result<Python, KernelError> {
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
        build(&home, precautions, progress)?;
        std::fs::write(home.join("heddle-complete"), "")
            .map_err(|error| failed("cannot write in", &error))?;
    }
    Ok(managed(home, precautions))
}

fn build(home: &Path, precautions: &Precautions, progress: Progress) -> Result<(), KernelError> {
    let base = base_interpreter(precautions)?;
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

/// A Python that is new enough to make the managed environment with, and may be executed outside.
fn base_interpreter(precautions: &Precautions) -> Result<PathBuf, KernelError> {
    let mut oldest = None;
    for candidate in every_interpreter(precautions) {
        match ask(&candidate, None, precautions) {
            Some(answer) if answer.version >= OLDEST => return Ok(candidate),
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
