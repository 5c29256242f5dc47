//! Settings: keys, the layers they come from, and the source of each value.
//!
//! # Layers
//! From the strongest: command-line flags, environment, project file, user file, defaults. Inside one layer
//! `llm.<type>.model` wins over `llm.model` while `llm.api_type` is that type.
//!
//! - **Project file**: `heddle.toml`, or where there is none `taskweaver_config.json`, in the folder of `-p` or else
//!   the nearest one upwards, never above the home directory. In TOML tables are the parts of a dotted key:
//!   ```toml
//!   [llm]
//!   api_base = "http://localhost:8000/v1"
//!   model = "qwen3"
//!
//!   [execution_service]
//!   kernel_mode = "local"
//!   ```
//! - **User file**: `$XDG_CONFIG_HOME/heddle/config.toml`, in the same form.
//! - **Environment**: `llm.api_key` is `HEDDLE_LLM_API_KEY`, else `LLM_API_KEY`. `null`, `none` and `nil` unset a key.
//!
//! # Trust
//! Code that runs in a project, or the stranger whose repository it is, may have written the project file. So a value
//! of it counts only if its row in [`KEYS`] lets it count by itself, or if the person has said yes to this value for
//! this folder; else it is as if it was not there, and [`Loaded::waiting`].
//!
//! # Values
//! An empty text, in any layer, is as if the key was not there. A null hides the weaker layers and gives the default
//! (for `llm.response_format` it means `text`, for `code_interpreter.timeout` no limit). A number or truth value may
//! be written as a text. Paths expand `~` and `${AppBaseDir}`, the project's folder; relative ones start at the
//! project's folder in a file, and at the working directory in a flag or the environment.

mod error;
mod file;
mod keys;
mod layers;
mod project;
mod settings;
mod store;
mod strictness;
#[cfg(test)]
mod tests;
mod trust;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use etcetera::BaseStrategy;

pub use error::ConfigError;
pub use keys::{
    ALLOWED_MODULES, BLOCKED_FUNCTIONS, KEYS, Key, Kind, PROVIDERS, Provider, Trust, lookup,
};
pub use layers::{load, survey, survey_written};
pub(crate) use project::PROJECT_FILES;
pub use settings::{
    Approve, CodeInterpreter, ExecutionService, Kernel, KernelMode, Llm, ResponseFormat, Session,
    Settings, Transport, Workspace,
};
pub use strictness::Order;
pub use trust::{Remembered, Waiting};

/// Where to look for settings.
pub struct Request<'a> {
    /// The folder given with `-p`.
    pub project: Option<PathBuf>,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// The home directory: `~`, and the end of the search for a project.
    pub home: Option<PathBuf>,
    /// The user file, whether it is there or not.
    pub user_file: Option<PathBuf>,
    /// Heddle's state folder, where it is remembered what the person trusts; without one nothing is.
    pub state: Option<PathBuf>,
    /// Keys with the text given on the command line; of two for one key the last counts.
    pub flags: Vec<(String, String)>,
    /// Looks up a variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Request<'static> {
    /// A request with the home directory, user file and environment of this process.
    pub fn of_process(
        project: Option<PathBuf>,
        cwd: PathBuf,
        flags: Vec<(String, String)>,
    ) -> Request<'static> {
        let base = etcetera::base_strategy::Xdg::new().ok();
        Request {
            project,
            cwd,
            home: base.as_ref().map(|base| base.home_dir().to_owned()),
            user_file: user_file(),
            state: crate::folders::state(),
            flags,
            env: &|name| std::env::var_os(name),
        }
    }
}

/// What tells whether the files that settings come from are still the same, without reading them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<Option<[i64; 4]>>);

impl Stamp {
    /// Of all files that are there now or would count if they were.
    pub fn of(request: &Request<'_>) -> Stamp {
        let folders = match &request.project {
            Some(folder) => vec![request.cwd.join(folder)],
            None => project::searched(&request.cwd, request.home.as_deref()),
        };
        let in_folder = |folder: PathBuf| PROJECT_FILES.map(|name| folder.join(name));
        let files = folders.into_iter().flat_map(in_folder);
        let files = files.chain(request.user_file.clone());
        Stamp(files.map(|file| stamp(&file)).collect())
    }
}

fn stamp(file: &std::path::Path) -> Option<[i64; 4]> {
    use std::os::unix::fs::MetadataExt;
    let meta = file.metadata().ok()?;
    // The time of the last change cannot be set by who owns the file.
    Some([
        meta.ino() as i64,
        meta.size() as i64,
        meta.ctime(),
        meta.ctime_nsec(),
    ])
}

/// The user's own settings file, whether it is there or not; none without a home folder.
pub fn user_file() -> Option<PathBuf> {
    let base = etcetera::base_strategy::Xdg::new().ok()?;
    Some(base.config_dir().join("heddle/config.toml"))
}

/// The settings, and how they came about.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// One for each row of [`KEYS`], in its order.
    pub values: Vec<Resolved>,
    /// For the person, one sentence or two each; none of them stops the program.
    pub warnings: Vec<String>,
    /// The project's folder, absolute.
    pub project_dir: Option<PathBuf>,
    /// The files that were read, the project's first.
    pub files: Vec<PathBuf>,
    /// Values of the project file that need trust and have none, in the order of the file.
    pub waiting: Vec<Waiting>,
    /// Whether the person was asked about some of these, and said no for this command.
    pub declined: bool,
    /// A yes that could not be remembered, and counts for this command alone.
    pub trusted_once: bool,
    layers: trust::Layers,
    store: Option<store::Store>,
}

/// The settings as far as they can be made, and all that is wrong.
#[derive(Debug)]
pub struct Survey {
    pub loaded: Loaded,
    /// From the command line, the environment and the files, in this order.
    pub faults: Vec<ConfigError>,
}

impl Loaded {
    /// The project file, where there is one.
    pub fn project_file(&self) -> Option<&PathBuf> {
        let file = self.files.first()?;
        project::is_project_file(file.file_name()?).then_some(file)
    }

    /// What this and another reading of the settings differ in: key, value and source as `other` has them.
    pub fn changes<'a>(&'a self, other: &'a Loaded) -> impl Iterator<Item = &'a Resolved> {
        let pairs = self.values.iter().zip(&other.values);
        pairs
            .filter(|(one, other)| one.shown != other.shown)
            .map(|(_, other)| other)
    }

    /// Key, value and source of each setting, for a table.
    pub fn rows(&self) -> impl Iterator<Item = [String; 3]> {
        self.values
            .iter()
            .map(|it| [it.key.to_owned(), it.shown.clone(), it.source.to_string()])
    }
}

/// One setting as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub key: &'static str,
    /// The value; `not set`; or of a secret no more than that it is set.
    pub shown: String,
    pub source: Source,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line; the name of the flag, such as `--mode`.
    Flag(&'static str),
    /// The variable of this name.
    Env(String),
    /// A file and the line in it, from 1.
    File {
        path: PathBuf,
        line: usize,
    },
    Default,
}

impl std::fmt::Display for Source {
    /// A project file is named without its folder: there is but one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Flag(name) => f.write_str(name),
            Source::Env(name) => write!(f, "env {name}"),
            Source::File { path, line } => match path.file_name() {
                Some(name) if project::is_project_file(name) => {
                    write!(f, "{}:{line}", name.display())
                }
                _ => write!(f, "{}:{line}", path.display()),
            },
            Source::Default => f.write_str("default"),
        }
    }
}
