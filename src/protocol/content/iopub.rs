//! What a kernel publishes to every client: messaging: Messages on the IOPub channel.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lenient;
use crate::event::MimeBundle;

/// messaging: Streams. No `flatten` here: output by the megabyte is read without a detour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stream {
    /// `stdout` or `stderr`.
    #[serde(deserialize_with = "lenient::text")]
    pub name: String,
    #[serde(deserialize_with = "lenient::text")]
    pub text: String,
}

/// messaging: Display data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DisplayData {
    #[serde(deserialize_with = "lenient::mime_bundle")]
    pub data: MimeBundle,
    #[serde(deserialize_with = "lenient::object")]
    pub metadata: Map<String, Value>,
    pub transient: Transient,
}

/// messaging: Update display data: replaces every display that has the same `display_id`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateDisplayData {
    #[serde(deserialize_with = "lenient::mime_bundle")]
    pub data: MimeBundle,
    #[serde(deserialize_with = "lenient::object")]
    pub metadata: Map<String, Value>,
    pub transient: Transient,
}

/// messaging: Display data, `transient`: what is not to be stored with a notebook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transient {
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional_text"
    )]
    pub display_id: Option<String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Transient {
    fn is_empty(&self) -> bool {
        self.display_id.is_none() && self.extra.is_empty()
    }
}

/// messaging: Code inputs: the code that is running, for clients that did not send it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecuteInput {
    #[serde(deserialize_with = "lenient::text")]
    pub code: String,
    #[serde(deserialize_with = "lenient::count")]
    pub execution_count: Option<u64>,
}

/// messaging: Execution results: the value of a cell's last expression.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecuteResult {
    #[serde(deserialize_with = "lenient::count")]
    pub execution_count: Option<u64>,
    #[serde(deserialize_with = "lenient::mime_bundle")]
    pub data: MimeBundle,
    #[serde(deserialize_with = "lenient::object")]
    pub metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Transient::is_empty")]
    pub transient: Transient,
}

/// messaging: Execution errors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Error {
    #[serde(deserialize_with = "lenient::text")]
    pub ename: String,
    #[serde(deserialize_with = "lenient::text")]
    pub evalue: String,
    /// Lines that may carry ANSI colours.
    #[serde(deserialize_with = "lenient::lines")]
    pub traceback: Vec<String>,
}

/// messaging: Kernel status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub execution_state: ExecutionState,
}

/// What the kernel is doing with the request that is the message's parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionState {
    Busy,
    Idle,
    /// Published once, with no parent.
    Starting,
    /// Any other name.
    #[serde(untagged)]
    Other(String),
}

impl Default for ExecutionState {
    fn default() -> ExecutionState {
        ExecutionState::Other(String::new())
    }
}

/// messaging: Clear output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClearOutput {
    /// Whether to clear only when the next output comes.
    pub wait: bool,
}

/// messaging: Debug event. An event of the Debug Adapter Protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DebugEvent(pub Map<String, Value>);

/// messaging: Welcome message (JEP 65): the kernel has seen this client's subscription.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IopubWelcome {
    /// The topic that was subscribed to; empty for all.
    #[serde(deserialize_with = "lenient::text")]
    pub subscription: String,
}
