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
#[cfg(test)]
mod tests;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;

use etcetera::BaseStrategy;

pub use error::ConfigError;
pub use keys::{KEYS, Key, Kind, PROVIDERS, Provider, lookup};
pub use layers::{load, survey};
pub(crate) use project::PROJECT_FILES;
pub use settings::{
    Approve, CodeInterpreter, ExecutionService, Kernel, KernelMode, Llm, ResponseFormat, Session,
    Settings, Transport, Workspace,
};

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
            flags,
            env: &|name| std::env::var_os(name),
        }
    }
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
}

/// The settings as far as they can be made, and all that is wrong.
#[derive(Debug)]
pub struct Survey {
    pub loaded: Loaded,
    /// From the command line, the environment and the files, in this order.
    pub faults: Vec<ConfigError>,
}

impl Loaded {
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
