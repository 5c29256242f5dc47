//! The sandbox mode: kernels in namespaces of their own, without Docker.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;

use super::launcher::{Launch, Launcher, Process};
use super::{KernelError, disk};
use crate::isolation::kept::is_settings;
use crate::isolation::level::{self, Found, Level};
use crate::isolation::resolve::{Granted, ResolveError};
use crate::isolation::{
    Command, HOME, Kept, RUN_FOLDER, Sandbox, Supervised, namespaces_remedy, private_folders,
};

/// Variables that describe the user outside.
const INSIDE: &[(&str, &str)] = &[
    ("USER", "heddle"),
    ("LOGNAME", "heddle"),
    ("SHELL", "/bin/sh"),
];
/// Variables whose folders are not there inside.
const OUTSIDE: &[&str] = &["TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"];

/// Runs kernels in a sandbox.
pub struct Sandboxed {
    /// The heddle binary, executed again as the supervisor.
    supervisor: PathBuf,
    found: Found,
}

impl Sandboxed {
    /// With this very program as the supervisor, which must be the heddle binary, and the strongest level that this
    /// machine has.
    ///
    /// # Errors
    /// Why this machine has no sandbox.
    pub fn new() -> Result<Sandboxed, String> {
        let supervisor = std::env::current_exe()
            .map_err(|error| format!("the heddle binary is not found: {error}"))?;
        Sandboxed::with(supervisor, Level::cap())
    }

    /// With another heddle binary as the supervisor, and no stronger level than `cap`.
    ///
    /// # Errors
    /// Why this machine has no sandbox.
    pub fn with(supervisor: PathBuf, cap: Level) -> Result<Sandboxed, String> {
        let found = level::probe(&supervisor, cap)?;
        Ok(Sandboxed { supervisor, found })
    }

    pub fn level(&self) -> Level {
        self.found.level
    }

    /// Where this is not the upper level: which it is, why, what it leaves open, and what would allow more.
    pub fn shortcoming(&self) -> Option<String> {
        let (open, refused) = (
            self.found.level.leaves_open()?,
            self.found.refused.as_ref()?,
        );
        let remedy =
            namespaces_remedy().map_or(String::new(), |remedy| format!(" To allow more: {remedy}"));
        Some(format!(
            "The sandbox is at {}, because {refused}: {open}.{remedy}",
            self.found.level.name()
        ))
    }

    fn sandbox(&self, launch: &Launch) -> Result<Sandbox, String> {
        let grants = &launch.grants;
        let project = grants.project.as_ref();
        let hide: Vec<PathBuf> = project
            .and_then(|project| project.hidden.clone())
            .filter(|hidden| hidden.is_dir())
            .into_iter()
            .collect();
        let shown = project.map_or(Vec::new(), |project| match self.found.level {
            Level::Namespaces => vec![project.path.clone()],
            // Nothing can be mounted there: what is to be seen is named, as it is now.
            Level::Landlock(_) => parts(&project.path, &hide),
        });
        let granted = grants.mounts.iter().filter(|mount| !mount.writable);
        let granted = granted.map(|mount| mount.path.clone());
        // A folder that is bound already needs no second mount below itself.
        let mut read: Vec<PathBuf> = launch
            .program
            .iter()
            .cloned()
            .chain(granted)
            .chain(shown)
            .collect();
        read.sort();
        read.dedup_by(|inner, outer| {
            inner.starts_with(outer) && !hide.iter().any(|hidden| inner.starts_with(hidden))
        });
        read.retain(|path| path.exists() && !is_system(path));
        let resolver = grants.resolver(&launch.cwd);
        let open = |path: &Path| match grants.mounts.iter().any(|mount| mount.path == path) {
            true => resolver.open_held(path),
            // The program is what it is now: an environment may be made anew.
            false => resolver.open(path),
        };
        // By its own name: the links of the person's that lead there are made inside as well.
        let read: Result<Vec<_>, ResolveError> = read
            .into_iter()
            .map(|path| {
                let id = open(&path)?.id;
                Ok(Granted { path, id })
            })
            .collect();
        let write: Result<Vec<_>, _> = grants
            .written(&launch.cwd)
            .map(|path| Ok(resolver.open_held(path)?.granted()))
            .collect();
        let failed = |error: ResolveError| error.to_string();
        let (read, write) = (read.map_err(failed)?, write.map_err(failed)?);
        let written: Vec<PathBuf> = write.iter().map(|it| it.path.clone()).collect();
        let mut keep = Kept::find(&written, grants.git_config)?;
        let shown = grants.mounts.iter().filter(|mount| !mount.writable);
        let shown = shown.map(|mount| &mount.path);
        for folder in shown.chain(project.map(|project| &project.path)) {
            keep.settings_of(folder)?;
        }
        Ok(Sandbox {
            level: self.found.level,
            read,
            hide,
            keep,
            write,
            exposed: resolver.writable().to_vec(),
            network: grants.network,
            memory: grants.memory,
            processes: grants.processes,
            file_size: disk::largest_file(&launch.cwd, grants),
            cpus: grants.cpus,
        })
    }
}

/// What is in a folder, but for settings, links, and what is hidden.
fn parts(folder: &Path, hidden: &[PathBuf]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut parts = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if hidden.contains(&path) || path.is_symlink() || is_settings(&path) {
            continue;
        }
        match hidden.iter().any(|hidden| hidden.starts_with(&path)) {
            true => parts.extend(self::parts(&path, hidden)),
            false => parts.push(path),
        }
    }
    parts
}

/// Whether a path is among those that every sandbox has.
fn is_system(path: &Path) -> bool {
    [
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/nix/store",
    ]
    .iter()
    .any(|system| path.starts_with(system))
}

impl Launcher for Sandboxed {
    fn mode(&self) -> &'static str {
        "sandbox"
    }

    fn keeps_files(&self) -> bool {
        self.found.level == Level::Namespaces
    }

    fn inside(&self, folder: &Path) -> PathBuf {
        match self.found.level {
            Level::Namespaces => RUN_FOLDER.into(),
            Level::Landlock(_) => folder.to_path_buf(),
        }
    }

    fn launch(&self, launch: Launch) -> BoxFuture<'_, Result<Box<dyn Process>, KernelError>> {
        let started = self
            .sandbox(&launch)
            .and_then(|sandbox| {
                let json = serde_json::to_string(&sandbox).map_err(|error| error.to_string())?;
                let cwd = sandbox.write.into_iter().next();
                Ok((json, cwd.map_or(launch.cwd, |cwd| cwd.path)))
            })
            .map_err(std::io::Error::other)
            .and_then(|(sandbox, cwd)| {
                let mut env = launch.env;
                env.retain(|(name, _)| !OUTSIDE.iter().any(|outside| name == outside));
                let mut set = |name: &str, value: &OsStr| {
                    env.retain(|(given, _)| given != name);
                    env.push((name.into(), value.into()));
                };
                for (name, value) in INSIDE {
                    set(name, value.as_ref());
                }
                match self.found.level {
                    Level::Namespaces => set("HOME", HOME.as_ref()),
                    Level::Landlock(_) => {
                        let [temporary, home] = private_folders(&launch.folder);
                        set("HOME", home.as_os_str());
                        set("TMPDIR", temporary.as_os_str());
                        // A file that is there and cannot be read is an error to Git.
                        set("GIT_CONFIG_NOSYSTEM", "1".as_ref());
                    }
                }
                Supervised::spawn(Command {
                    supervisor: self.supervisor.clone(),
                    sandbox,
                    argv: launch.argv,
                    env,
                    cwd,
                    folder: launch.folder,
                })
            })
            .map(|process| Box::new(process) as Box<dyn Process>)
            .map_err(|error| KernelError::Launch(error.to_string()));
        Box::pin(std::future::ready(started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_project_are_all_but_settings_links_and_what_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["data", "deep/work/sessions", "deep/src"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::write(path("heddle.toml"), "").unwrap();
        std::fs::write(path("a.csv"), "").unwrap();
        std::os::unix::fs::symlink("/etc", path("etc")).unwrap();
        let mut found = parts(folder.path(), &[path("deep/work")]);
        found.sort();
        assert_eq!(found, [path("a.csv"), path("data"), path("deep/src")]);
    }
}
