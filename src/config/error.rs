//! What can be wrong with a configuration. Each message says what, where, why and what to do; none holds a secret.

use std::path::PathBuf;

/// Why the settings could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `-p` names something that is not a folder.
    #[error("the project folder {} does not exist or is not a folder: give -p the folder that holds heddle.toml or taskweaver_config.json", .path.display())]
    Project { path: PathBuf },

    #[error("cannot read {}: {reason}", .path.display())]
    Read { path: PathBuf, reason: String },

    #[error("{}:{line}: the file is not UTF-8 from this line on: save it as UTF-8", .path.display())]
    Encoding { path: PathBuf, line: usize },

    /// Not TOML, or not JSON. Lines and columns count from 1, columns in characters.
    #[error("{}:{line}:{column}: not valid {format}: {reason}", .path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        column: usize,
        format: &'static str,
        reason: String,
    },

    /// A value that its key does not take. `found` describes a secret without quoting it.
    #[error("{place}: {key} must be {allowed}, but is {found}")]
    Value {
        place: String,
        key: String,
        allowed: String,
        found: String,
    },

    /// A service of TaskWeaver with a wire format of its own.
    #[error(
        "{place}: llm.api_type `{found}` is not supported: this version speaks OpenAI's Chat Completions format alone \
         ({supported}). Set llm.api_type to one of these, or to `openai` with llm.api_base at a compatible endpoint"
    )]
    ApiType {
        place: String,
        found: String,
        supported: String,
    },

    /// Further faults of a file that has many.
    #[error("{}: {count} more faults", .path.display())]
    More { path: PathBuf, count: usize },

    #[error("{place}: unknown key `{key}`: {hint}")]
    UnknownKey {
        place: String,
        key: String,
        hint: String,
    },
}
