//! How far an interpreter can be trusted, judged from the file system alone: nothing is executed for it.
//!
//! Code that ran before may have replaced every file that it could write to: an interpreter, a `pyvenv.cfg`, a `.pth`
//! file that each start executes. What lies there is executed nowhere but in a sandbox.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, access};

use crate::way::lexical;

/// As many links as the machine itself follows on one path.
const LINKS: usize = 40;
/// A `pyvenv.cfg` has a handful of lines.
const LONGEST_CONFIGURATION: u64 = 64 << 10;
/// What marks the root of an environment: Python's own, and conda's.
const MARKS: [&str; 2] = ["pyvenv.cfg", "conda-meta"];
/// Folders of the system's, which are nobody's environment though root can write to them.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix/store"];
/// What the environment has that conda itself is in.
const CONDA: &str = "condabin";
/// The folder of a version manager's programs, each of which chooses an interpreter when it is started.
const SHIMS: &str = "shims";

/// What an interpreter is judged by.
#[derive(Clone, Debug)]
pub struct Precautions {
    /// Folders that code can write to: the project, the working directory, each writable grant.
    pub folders: Vec<PathBuf>,
    /// Whether code is kept from the user's files. Else an interpreter may run as the code itself does.
    pub isolated: bool,
    /// Why a folder with a Python in it is not shown to code, if it is not.
    pub refusal: fn(&Path) -> Option<String>,
    /// Whether a path is in a place of which code is never given anything to write to.
    pub out_of_reach: fn(&Path) -> bool,
}

impl Default for Precautions {
    /// For isolated code that can write to no folder beside those that a kernel is started with.
    fn default() -> Precautions {
        Precautions {
            folders: Vec::new(),
            isolated: true,
            refusal: |_| None,
            out_of_reach: |_| false,
        }
    }
}

impl Precautions {
    /// The same with more folders.
    pub fn and<'a>(&self, folders: impl Iterator<Item = &'a Path>) -> Precautions {
        let mut more = self.clone();
        more.folders.extend(folders.map(Path::to_path_buf));
        more
    }

    /// Whether code can write to this path, by its name or where that really lies. The last component is not followed.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        let real = path
            .parent()
            .zip(path.file_name())
            .and_then(|(parent, name)| Some(fs::canonicalize(parent).ok()?.join(name)));
        let named = lexical(path);
        self.folders.iter().any(|folder| {
            let really = fs::canonicalize(folder).ok();
            let below = |path: &Path| {
                path.starts_with(folder)
                    || really.as_ref().is_some_and(|real| path.starts_with(real))
            };
            below(&named) || real.as_deref().is_some_and(below)
        })
    }
}

/// How far an interpreter can be trusted.
#[derive(Debug)]
pub(super) enum Standing {
    /// Neither code nor the user can change it, or Heddle made it: it may be executed outside.
    Trusted,
    /// Executed in a sandbox alone, which sees no more than the environment is made of.
    Environment(Environment),
    /// A version manager's program, below this folder: executed in a sandbox alone, to learn which interpreter it means.
    Shim(PathBuf),
    /// Not used where code is isolated, for this reason.
    Refused(String),
}

/// What code of an earlier command may have written to, and the installation that its interpreter comes from.
#[derive(Debug)]
pub(super) struct Environment {
    /// `sys.prefix`.
    pub root: PathBuf,
    /// The interpreter as it was named.
    executable: PathBuf,
    /// Where the installation is; none where the environment itself has the layout of one.
    installation: Option<PathBuf>,
    /// Names by which it is reached: they may lead through links.
    ways: Vec<PathBuf>,
    /// The name of the interpreter's version, such as `python3.12`: it names the folder of its modules too.
    pub version: String,
    /// Whether code of this command can write to it.
    covered: bool,
}

impl Environment {
    /// Files and folders that it is made of.
    pub fn parts(&self) -> Vec<PathBuf> {
        let own = [&self.root, &self.executable].into_iter();
        own.chain(&self.installation)
            .chain(&self.ways)
            .cloned()
            .collect()
    }

    /// Where its packages are.
    pub fn site(&self) -> PathBuf {
        self.root
            .join("lib")
            .join(&self.version)
            .join("site-packages")
    }

    /// Whether it is an installation of the user's own, from which environments are made: a version manager's, or conda's.
    /// Those are executed outside where the person has them on PATH and code of this command cannot write to them.
    pub fn is_base(&self) -> bool {
        let has = |name: &str| self.root.join(name).exists();
        !self.covered
            && self.installation.is_none()
            && !has(MARKS[0])
            && (!has(MARKS[1]) || has(CONDA))
    }

    /// The interpreter of the installation that it was made from.
    pub fn origin(&self) -> Option<PathBuf> {
        let installation = self.installation.as_ref()?;
        Some(installation.join("bin").join(&self.version))
    }

    /// What changes with it.
    pub fn tracks(&self) -> Vec<PathBuf> {
        let mut tracks = vec![self.executable.clone(), self.site()];
        tracks.extend(MARKS.map(|mark| self.root.join(mark)));
        tracks.extend(self.ways.iter().cloned());
        let base = self.installation.as_ref().unwrap_or(&self.root);
        tracks.push(base.join("bin").join(&self.version));
        tracks
    }
}

/// Judges the interpreter at this absolute path; `own` is the folder of the environments that Heddle makes.
pub(super) fn judge(executable: &Path, own: Option<&Path>, precautions: &Precautions) -> Standing {
    let hops = hops(executable);
    if precautions.covers(executable) {
        return match environment(executable, precautions) {
            Ok(environment) => Standing::Environment(environment),
            Err(reason) => Standing::Refused(reason),
        };
    }
    if let Some(hop) = hops.iter().find(|hop| precautions.covers(hop)) {
        return Standing::Refused(format!(
            "{} leads to {}, which code can change. Activate the environment itself",
            executable.display(),
            hop.display()
        ));
    }
    for hop in &hops {
        let folder = hop.parent().unwrap_or(hop);
        if folder.ends_with(SHIMS) {
            return Standing::Shim(folder.parent().unwrap_or(folder).to_path_buf());
        }
        let root = real(folder.parent().unwrap_or(folder));
        if own.is_some_and(|own| root.starts_with(own)) {
            return Standing::Trusted;
        }
        let is_marked = MARKS.iter().any(|mark| root.join(mark).exists());
        let is_system = SYSTEM.iter().any(|system| root.starts_with(system));
        // A link in a folder that is no environment is the person's; what it leads to is judged next.
        let is_link = fs::symlink_metadata(hop).is_ok_and(|meta| meta.is_symlink());
        let counts = is_marked || !is_link && !is_system;
        if counts && is_writable(hop, &root) {
            return match environment(hop, precautions) {
                Ok(environment) => Standing::Environment(Environment {
                    executable: executable.to_path_buf(),
                    ..environment
                }),
                Err(reason) => Standing::Refused(reason),
            };
        }
    }
    Standing::Trusted
}

/// A path, and each one that a link of its last component leads to.
fn hops(path: &Path) -> Vec<PathBuf> {
    let mut hops = vec![path.to_path_buf()];
    while let Some(last) = hops.last()
        && let Ok(target) = fs::read_link(last)
        && hops.len() < LINKS
    {
        let folder = last.parent().unwrap_or(Path::new("/"));
        hops.push(folder.join(target));
    }
    hops
}

/// Whether a folder of programs is that of an environment.
pub(super) fn is_environment(bin: &Path) -> bool {
    let root = real(bin);
    let root = root.parent().unwrap_or(&root);
    MARKS.iter().any(|mark| root.join(mark).exists()) && !root.join(CONDA).exists()
}

/// Whether the user, and so code of an earlier command, can change an interpreter or what is around it.
fn is_writable(interpreter: &Path, root: &Path) -> bool {
    let user = Uid::effective();
    let own = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.uid() == user.as_raw());
    let open = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    let parts = ["", "bin", "lib"].into_iter().chain(MARKS);
    let around = parts.map(|part| root.join(part));
    let mut all = interpreter
        .ancestors()
        .take(2)
        .map(Path::to_path_buf)
        .chain(around);
    user.is_root() || all.any(|part| own(&part) || open(&part))
}

/// What the environment of an interpreter is made of: links of its own within `bin`, then one leap to an installation
/// that code cannot write to.
fn environment(executable: &Path, precautions: &Precautions) -> Result<Environment, String> {
    let (Some(bin), Some(name)) = (executable.parent(), executable.file_name()) else {
        return Err(format!("{} is no file", executable.display()));
    };
    no_links(bin, precautions)?;
    let root = bin.parent().unwrap_or(bin).to_path_buf();
    if let Some(reason) = (precautions.refusal)(&real(&root)) {
        return Err(reason);
    }
    let found = |installation, ways, version| Environment {
        root: root.clone(),
        executable: executable.to_path_buf(),
        installation,
        ways,
        version,
        covered: precautions.covers(executable),
    };
    let mut name = name.to_owned();
    for _ in 0..LINKS {
        let path = bin.join(&name);
        let Ok(target) = fs::read_link(&path) else {
            // The installation itself, or a copy of its interpreter.
            if let Some((prefix, version)) = installation(&real(&path))
                && prefix == real(&root)
            {
                return Ok(found(None, Vec::new(), version));
            }
            let way = home(&root, precautions)?;
            let (installation, version) = leap(&way, &root, precautions)?;
            return Ok(found(Some(installation), vec![way], version));
        };
        match target.components().collect::<Vec<_>>()[..] {
            [Component::Normal(next)] => name = next.to_owned(),
            _ => {
                let way = bin.join(target);
                let (installation, version) = leap(&way, &root, precautions)?;
                // Where Python looks for its modules, by the name that the environment was made with.
                let home = home(&root, precautions).ok();
                let home =
                    home.filter(|home| installation_of(home).as_ref() == Some(&installation));
                let ways = std::iter::once(way).chain(home).collect();
                return Ok(found(Some(installation), ways, version));
            }
        }
    }
    Err(format!("{} is a link to itself", executable.display()))
}

/// Refuses a folder that is reached through a link which code may have made.
fn no_links(folder: &Path, precautions: &Precautions) -> Result<(), String> {
    for path in folder.ancestors() {
        if precautions.covers(path)
            && let Ok(target) = fs::read_link(path)
        {
            return Err(format!(
                "{} is a link to {}, and code can change it. Activate the environment that it leads to",
                path.display(),
                target.display()
            ));
        }
    }
    Ok(())
}

/// The installation that a link, or a `pyvenv.cfg`, which code may have written leads to; and the name of its version.
fn leap(way: &Path, root: &Path, precautions: &Precautions) -> Result<(PathBuf, String), String> {
    let inside = |path: &PathBuf| precautions.covers(path) || lexical(path).starts_with(root);
    let refused = |what: &str| {
        Err(format!(
            "its interpreter comes from {}, {what}. Make the environment anew",
            way.display()
        ))
    };
    if hops(way).iter().any(inside) {
        return refused("which code can change");
    }
    let Some((prefix, version)) = installation(&real(way)) else {
        return refused("which is no installation of Python");
    };
    match (precautions.refusal)(&prefix) {
        Some(reason) => Err(reason),
        None => Ok((prefix, version)),
    }
}

fn installation_of(interpreter: &Path) -> Option<PathBuf> {
    installation(&real(interpreter)).map(|(prefix, _)| prefix)
}

/// The prefix of the installation that a real interpreter is in, and the name of its version, where the layout is that
/// of one: `bin/pythonX.Y` beside `lib/pythonX.Y/os.py`.
fn installation(interpreter: &Path) -> Option<(PathBuf, String)> {
    let bin = interpreter.parent().filter(|bin| bin.ends_with("bin"))?;
    let prefix = bin.parent()?;
    let version = interpreter.file_name()?.to_str()?;
    let library = prefix.join("lib").join(version).join("os.py");
    (is_version(version) && interpreter.is_file() && library.is_file())
        .then(|| (prefix.to_path_buf(), version.to_owned()))
}

/// Whether a name is an implementation's with its version, such as `python3.12`.
fn is_version(name: &str) -> bool {
    let number = ["python", "pypy"]
        .iter()
        .find_map(|known| name.strip_prefix(known));
    let number = number.map(|number| number.strip_suffix('t').unwrap_or(number));
    let parts = number.and_then(|number| number.split_once('.'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    parts.is_some_and(|(major, minor)| digits(major) && digits(minor))
}

/// The interpreter that the `pyvenv.cfg` of an environment says it was made with.
fn home(root: &Path, precautions: &Precautions) -> Result<PathBuf, String> {
    let path = root.join(MARKS[0]);
    no_links(&path, precautions)?;
    let unreadable = || {
        format!(
            "{} is no environment of Python. Make it anew",
            root.display()
        )
    };
    let mut text = String::new();
    let read = fs::File::options()
        .read(true)
        // Nobody waits for a pipe that code has put there.
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&path)
        .and_then(|file| file.take(LONGEST_CONFIGURATION).read_to_string(&mut text));
    if read.is_err() {
        return Err(unreadable());
    }
    let value = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.find_map(|(name, value)| (name.trim() == key).then(|| value.trim().to_owned()))
    };
    let version = value("version").or_else(|| value("version_info"));
    let version = version.unwrap_or_default();
    let mut numbers = version.split('.');
    let (Some(home), Some(major), Some(minor)) = (value("home"), numbers.next(), numbers.next())
    else {
        return Err(unreadable());
    };
    let name = format!("python{major}.{minor}");
    match Path::new(&home).is_absolute() && is_version(&name) {
        true => Ok(Path::new(&home).join(name)),
        false => Err(unreadable()),
    }
}

fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}
