//! The content of each message type, by family, and the enum of them all.
//!
//! Reading is tolerant: a missing or null field gets its default, an unknown one is no error, and
//! content that its type cannot hold becomes [`Content::Unknown`] with its bytes kept. What we write is what
//! the specification asks for. Fields without a comment mean what the named section says.

pub mod comm;
pub mod control;
pub mod execute;
pub mod introspect;
pub mod iopub;
pub mod kernel_info;
pub(crate) mod lenient;
pub mod stdin;

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::json;

pub use comm::*;
pub use control::*;
pub use execute::*;
pub use introspect::*;
pub use iopub::*;
pub use kernel_info::*;
pub use stdin::*;

/// How a request went (messaging: Request-Reply). A reply that does not say went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "String")]
pub enum ReplyStatus {
    #[default]
    Ok,
    /// Also what a status of no known name is taken for.
    Error,
    /// Not done, because a request before it failed.
    Aborted,
}

impl From<String> for ReplyStatus {
    fn from(status: String) -> ReplyStatus {
        match status.as_str() {
            "ok" | "" => ReplyStatus::Ok,
            "aborted" | "abort" => ReplyStatus::Aborted,
            _ => ReplyStatus::Error,
        }
    }
}

/// What any reply with the status `error` adds (messaging: Request-Reply); empty in other replies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
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
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::lines"
    )]
    pub traceback: Vec<String>,
}

macro_rules! contents {
    ($($name:ident = $msg_type:literal,)*) => {
        /// The content of a message, typed by the `msg_type` of its header.
        #[derive(Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Content {
            $($name($name),)*
            /// A type that the specification does not have, or content that its type cannot hold.
            Unknown {
                msg_type: String,
                /// The content frame as it came.
                raw: Bytes,
            },
        }

        impl Content {
            /// Reads a content frame. Never fails: see [`Content::Unknown`].
            pub fn decode(msg_type: &str, raw: &Bytes) -> Content {
                let typed = match msg_type {
                    $($msg_type => json::from_frame(raw).map(Content::$name).ok(),)*
                    _ => None,
                };
                typed.unwrap_or_else(|| Content::Unknown {
                    msg_type: msg_type.to_owned(),
                    raw: raw.clone(),
                })
            }

            /// The `msg_type` that the header of this content has.
            pub fn msg_type(&self) -> &str {
                match self {
                    $(Content::$name(_) => $msg_type,)*
                    Content::Unknown { msg_type, .. } => msg_type,
                }
            }

            /// The content frame; unknown content byte for byte as it came.
            pub fn encode(&self) -> Bytes {
                match self {
                    $(Content::$name(content) => json::to_frame(content),)*
                    Content::Unknown { raw, .. } => raw.clone(),
                }
            }
        }

        impl fmt::Debug for Content {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Content::$name(content) => content.fmt(f),)*
                    // Sizes alone: what could not be read may be a password.
                    Content::Unknown { msg_type, raw } => f
                        .debug_struct("Unknown")
                        .field("msg_type", msg_type)
                        .field("raw_len", &raw.len())
                        .finish(),
                }
            }
        }

        $(impl From<$name> for Content {
            fn from(content: $name) -> Content {
                Content::$name(content)
            }
        })*

        #[cfg(test)]
        pub(crate) const MSG_TYPES: &[&str] = &[$($msg_type),*];
    };
}

contents! {
    ExecuteRequest = "execute_request",
    ExecuteReply = "execute_reply",
    InspectRequest = "inspect_request",
    InspectReply = "inspect_reply",
    CompleteRequest = "complete_request",
    CompleteReply = "complete_reply",
    IsCompleteRequest = "is_complete_request",
    IsCompleteReply = "is_complete_reply",
    HistoryRequest = "history_request",
    HistoryReply = "history_reply",
    KernelInfoRequest = "kernel_info_request",
    KernelInfoReply = "kernel_info_reply",
    ConnectRequest = "connect_request",
    ConnectReply = "connect_reply",
    CommInfoRequest = "comm_info_request",
    CommInfoReply = "comm_info_reply",
    CommOpen = "comm_open",
    CommMsg = "comm_msg",
    CommClose = "comm_close",
    InterruptRequest = "interrupt_request",
    InterruptReply = "interrupt_reply",
    ShutdownRequest = "shutdown_request",
    ShutdownReply = "shutdown_reply",
    DebugRequest = "debug_request",
    DebugReply = "debug_reply",
    UsageRequest = "usage_request",
    UsageReply = "usage_reply",
    CreateSubshellRequest = "create_subshell_request",
    CreateSubshellReply = "create_subshell_reply",
    DeleteSubshellRequest = "delete_subshell_request",
    DeleteSubshellReply = "delete_subshell_reply",
    ListSubshellRequest = "list_subshell_request",
    ListSubshellReply = "list_subshell_reply",
    InputRequest = "input_request",
    InputReply = "input_reply",
    Stream = "stream",
    DisplayData = "display_data",
    UpdateDisplayData = "update_display_data",
    ExecuteInput = "execute_input",
    ExecuteResult = "execute_result",
    Error = "error",
    Status = "status",
    ClearOutput = "clear_output",
    DebugEvent = "debug_event",
    IopubWelcome = "iopub_welcome",
}

#[cfg(test)]
mod tests;
