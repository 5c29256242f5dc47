//! The events of a session: every step of a request, in the order in which it happened.
//!
//! The terminal, `--json`, the notebook export and the log on disk are renderers of this one stream.
//! An event is one JSON object, tagged by its field `event`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A MIME bundle as the Jupyter protocol carries it: MIME type to data.
pub type MimeBundle = Map<String, Value>;

/// What the text of a [`Event::Delta`] is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Plan,
    Code,
    Answer,
}

/// How a cell, or a whole request, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    Error,
    Interrupted,
}

/// What became of the variables of the kernel that this session had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelState {
    /// A kernel without history.
    Fresh,
    /// The same kernel is still running.
    Kept,
    /// A new kernel, in which the session's successful cells were run again.
    Rebuilt,
    /// A new kernel; the variables of the old one are gone.
    Lost,
}

/// How much a [`Event::Notice`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Info,
    Warning,
    /// The request cannot go on.
    Error,
}

/// One step of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// First event of every stream and of every time that a session is opened again.
    Session {
        id: String,
        workspace: String,
        mode: String,
        kernel: String,
        version: String,
    },
    /// What the person asked, with the files they handed over (names inside the working directory).
    User {
        message: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        files: Vec<String>,
    },
    /// Text of a model's reply as it arrives. Shown, never logged: the finished part follows.
    Delta { of: Part, text: String },
    /// The Planner's view of the task.
    Plan {
        init_plan: String,
        plan: String,
        current_plan_step: String,
    },
    /// Code that is about to run. `attempt` counts from 1 and grows when an earlier try failed.
    Code {
        code: String,
        #[serde(default)]
        thought: String,
        attempt: u32,
    },
    /// Text printed by the running code; `name` is `stdout` or `stderr`.
    Stream { name: String, text: String },
    /// A rich output. With `update`, it replaces the earlier output that has the same `display_id`.
    Display {
        data: MimeBundle,
        #[serde(default)]
        metadata: Map<String, Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        display_id: Option<String>,
        #[serde(default)]
        update: bool,
    },
    /// The value of a cell's last expression.
    Result {
        data: MimeBundle,
        #[serde(default)]
        metadata: Map<String, Value>,
        execution_count: Option<u64>,
    },
    /// Outputs so far are withdrawn; with `wait`, only when the next one comes.
    ClearOutput { wait: bool },
    /// The cell raised. `traceback` lines may carry ANSI colours.
    Error {
        ename: String,
        evalue: String,
        traceback: Vec<String>,
    },
    /// A file that the running code, or a display of it, left in the workspace.
    Artifact { path: String, mime: String },
    /// One cell has ended.
    Executed {
        status: Status,
        execution_count: Option<u64>,
        seconds: f64,
    },
    /// A kernel was started for this session, and what that means for its variables.
    Kernel { state: KernelState, reason: String },
    /// Tokens that the endpoint counted for one reply.
    Usage {
        prompt_tokens: u64,
        completion_tokens: u64,
    },
    /// Something that a person should know and no other event says.
    Notice { level: Level, message: String },
    /// The reply to the person.
    Answer { message: String },
    /// Last event of a request.
    Done {
        status: Status,
        execution_count: Option<u64>,
        seconds: f64,
    },
}

impl Event {
    /// Whether the event belongs into the log; deltas are repeated by the part that they build up.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Event::Delta { .. })
    }
}

/// Where events go. Implemented by renderers, by the session log, and by a fan-out of both.
pub trait Sink: Send {
    fn emit(&mut self, event: Event);
}

impl<F: FnMut(Event) + Send> Sink for F {
    fn emit(&mut self, event: Event) {
        self(event);
    }
}
