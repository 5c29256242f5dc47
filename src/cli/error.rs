//! How a command ends: exit codes, and the one message that a failure gets.

use std::process::ExitCode;

use crate::agent::AgentError;
use crate::config::ConfigError;
use crate::event::Status;
use crate::kernel::KernelError;
use crate::kernel::container::image::ImageError;
use crate::kernel::packages::PackagesError;
use crate::llm::LlmError;
use crate::notebook::NotebookError;
use crate::session::SessionError;
use crate::session::conversation::ConversationError;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// The code or the task failed.
    Failed,
    /// Wrong use, or a configuration that cannot be read.
    Usage,
    /// Something that is needed is not there: a kernel, a model.
    Missing,
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Missing => 3,
            Exit::Interrupted => 130,
        })
    }
}

impl From<Status> for Exit {
    fn from(status: Status) -> Exit {
        match status {
            Status::Ok => Exit::Done,
            Status::Error => Exit::Failed,
            Status::Interrupted => Exit::Interrupted,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Notebook(#[from] NotebookError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Llm(#[from] LlmError),
    /// A request that failed; its sink has been told already.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// Values of the project file are used, and wait for trust.
    #[error("{0}    (for one command alone: --trust)")]
    Untrusted(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Missing(String),
    #[error("{what}: {source}")]
    Io {
        what: String,
        source: std::io::Error,
    },
}

impl CliError {
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> CliError {
        let what = what.into();
        move |source| CliError::Io { what, source }
    }

    pub fn exit(&self) -> Exit {
        match self {
            CliError::Config(_)
            | CliError::Session(_)
            | CliError::Untrusted(_)
            | CliError::Usage(_) => Exit::Usage,
            CliError::Packages(PackagesError::NotPlain { .. } | PackagesError::Proposal { .. }) => {
                Exit::Usage
            }
            CliError::Packages(PackagesError::NoPython(_)) => Exit::Missing,
            CliError::Packages(_) => Exit::Failed,
            CliError::Conversation(ConversationError::Session(_)) => Exit::Failed,
            CliError::Notebook(NotebookError::Write { .. })
            | CliError::Image(_)
            | CliError::Io { .. } => Exit::Failed,
            CliError::Notebook(_) => Exit::Usage,
            CliError::Kernel(_)
            | CliError::Llm(_)
            | CliError::Missing(_)
            | CliError::Conversation(_) => Exit::Missing,
        }
    }

    /// Whether the message was shown where the events of the request are.
    pub fn is_told(&self) -> bool {
        matches!(
            self,
            CliError::Conversation(ConversationError::Agent(
                AgentError::Llm(_) | AgentError::Kernel(_)
            ))
        )
    }
}
