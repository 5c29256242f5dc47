//! Running code: messaging: Execute.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ReplyStatus, lenient};

/// messaging: Execute. Shell, client to kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecuteRequest {
    #[serde(deserialize_with = "lenient::text")]
    pub code: String,
    /// Run quietly: no `execute_input`, no `execute_result`, no history, no new execution count.
    pub silent: bool,
    pub store_history: bool,
    /// Name to expression, evaluated in the user's namespace after the code.
    #[serde(deserialize_with = "lenient::object")]
    pub user_expressions: Map<String, Value>,
    /// Whether the client can answer an `input_request`.
    pub allow_stdin: bool,
    /// Whether an error aborts the requests that are queued behind this one, other clients' too.
    pub stop_on_error: bool,
}

impl Default for ExecuteRequest {
    fn default() -> ExecuteRequest {
        ExecuteRequest {
            code: String::new(),
            silent: false,
            store_history: true,
            user_expressions: Map::new(),
            allow_stdin: true,
            stop_on_error: true,
        }
    }
}

/// messaging: Execution results. Shell, kernel to client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecuteReply {
    pub status: ReplyStatus,
    #[serde(deserialize_with = "lenient::count")]
    pub execution_count: Option<u64>,
    /// Name to what the expression of the request gave: a bundle with a status of its own each.
    #[serde(deserialize_with = "lenient::object")]
    pub user_expressions: Map<String, Value>,
    /// messaging: Payloads (deprecated, and still sent, for instance by `?`).
    #[serde(deserialize_with = "lenient::list")]
    pub payload: Vec<Value>,
    /// The exception's class, with the status `error`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "lenient::text"
    )]
    pub ename: String,
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "lenient::text"
    )]
    pub evalue: String,
    /// Lines that may carry ANSI colours.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::lines"
    )]
    pub traceback: Vec<String>,
}
