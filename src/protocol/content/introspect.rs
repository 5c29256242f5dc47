//! Questions about code and its past: inspect, complete, is_complete, history. All on shell.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Failure, ReplyStatus, lenient};
use crate::event::MimeBundle;

/// messaging: Introspection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectRequest {
    #[serde(deserialize_with = "lenient::text")]
    pub code: String,
    /// In code points; `None` is the end of the code.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::count"
    )]
    pub cursor_pos: Option<u64>,
    /// 0 for the short form (`x?`), 1 for the long one (`x??`).
    pub detail_level: u8,
}

/// messaging: Introspection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InspectReply {
    pub status: ReplyStatus,
    pub found: bool,
    #[serde(deserialize_with = "lenient::mime_bundle")]
    pub data: MimeBundle,
    #[serde(deserialize_with = "lenient::object")]
    pub metadata: Map<String, Value>,
    #[serde(flatten)]
    pub failure: Failure,
}

/// messaging: Completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompleteRequest {
    #[serde(deserialize_with = "lenient::text")]
    pub code: String,
    /// In code points; `None` is the end of the code.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::count"
    )]
    pub cursor_pos: Option<u64>,
}

/// messaging: Completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompleteReply {
    pub status: ReplyStatus,
    #[serde(deserialize_with = "lenient::lines")]
    pub matches: Vec<String>,
    /// The range that a match replaces, in code points.
    pub cursor_start: u64,
    pub cursor_end: u64,
    #[serde(deserialize_with = "lenient::object")]
    pub metadata: Map<String, Value>,
    #[serde(flatten)]
    pub failure: Failure,
}

/// messaging: Code completeness.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IsCompleteRequest {
    #[serde(deserialize_with = "lenient::text")]
    pub code: String,
}

/// messaging: Code completeness.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IsCompleteReply {
    pub status: Completeness,
    /// What to begin the next line with when the code is `incomplete`.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "lenient::text"
    )]
    pub indent: String,
}

/// The status of an `is_complete_reply`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    Complete,
    Incomplete,
    Invalid,
    /// Also what an `error` of the kernel, or any other status, is taken for.
    #[default]
    #[serde(other)]
    Unknown,
}

/// messaging: History. Which of the fields from `session` on count depends on `hist_access_type`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryRequest {
    /// Whether each entry is to have its output too.
    pub output: bool,
    /// Whether the input is wanted as typed, not as transformed.
    pub raw: bool,
    pub hist_access_type: HistAccessType,
    /// Counted from 1, or back from the present one where negative; 0 is the present one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
    /// Exclusive; `None` is the end of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<i64>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::count"
    )]
    pub n: Option<u64>,
    /// A glob for `search`.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional_text"
    )]
    pub pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique: Option<bool>,
}

impl HistoryRequest {
    /// The last `n` inputs.
    pub fn tail(n: u64) -> HistoryRequest {
        HistoryRequest {
            raw: true,
            hist_access_type: HistAccessType::Tail,
            n: Some(n),
            ..HistoryRequest::default()
        }
    }

    /// Lines `start` to before `stop` of a session.
    pub fn range(session: i64, start: i64, stop: Option<i64>) -> HistoryRequest {
        HistoryRequest {
            raw: true,
            hist_access_type: HistAccessType::Range,
            session: Some(session),
            start: Some(start),
            stop,
            ..HistoryRequest::default()
        }
    }

    /// The last `n` inputs that match a glob.
    pub fn search(pattern: &str, n: u64, unique: bool) -> HistoryRequest {
        HistoryRequest {
            raw: true,
            hist_access_type: HistAccessType::Search,
            n: Some(n),
            pattern: Some(pattern.to_owned()),
            unique: Some(unique),
            ..HistoryRequest::default()
        }
    }
}

/// How a `history_request` chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistAccessType {
    Range,
    #[default]
    Tail,
    Search,
}

/// messaging: History.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryReply {
    pub status: ReplyStatus,
    pub history: Vec<HistoryEntry>,
    #[serde(flatten)]
    pub failure: Failure,
}

/// Session, line number, cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry(pub i64, pub i64, pub HistoryCell);

/// What one entry of the history holds, by the request's `output`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HistoryCell {
    Input(String),
    /// Input, and its output where there was one (text, though kernels may give other JSON).
    WithOutput(String, Option<Value>),
}

impl HistoryCell {
    /// The code.
    pub fn input(&self) -> &str {
        match self {
            HistoryCell::Input(input) | HistoryCell::WithOutput(input, _) => input,
        }
    }
}
