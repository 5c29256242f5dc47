//! The control channel: interrupt, shutdown, debug, usage, subshells.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Failure, ReplyStatus, lenient};

/// messaging: Kernel interrupt; for kernels whose `interrupt_mode` is `message`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InterruptRequest {}

/// messaging: Kernel interrupt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InterruptReply {
    pub status: ReplyStatus,
    #[serde(flatten)]
    pub failure: Failure,
}

/// messaging: Kernel shutdown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShutdownRequest {
    /// Whether a new kernel follows on the same connection file.
    pub restart: bool,
}

/// messaging: Kernel shutdown. Also published on iopub, so that every client knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShutdownReply {
    pub status: ReplyStatus,
    pub restart: bool,
    #[serde(flatten)]
    pub failure: Failure,
}

/// messaging: Debug request. A request of the Debug Adapter Protocol, or one of Jupyter's additions to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DebugRequest(pub Map<String, Value>);

/// messaging: Debug request. A response of the Debug Adapter Protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DebugReply(pub Map<String, Value>);

/// What the kernel's process uses; ipykernel's addition to the specification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageRequest {}

/// What the kernel's process uses: `pid`, `kernel_cpu` (percent), `kernel_memory` (bytes) and others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UsageReply(pub Map<String, Value>);

/// messaging: Create subshell (JEP 91).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateSubshellRequest {}

/// messaging: Create subshell (JEP 91).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateSubshellReply {
    pub status: ReplyStatus,
    /// For the `subshell_id` of a shell request's header.
    #[serde(deserialize_with = "lenient::text")]
    pub subshell_id: String,
    #[serde(flatten)]
    pub failure: Failure,
}

/// messaging: Delete subshell (JEP 91).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteSubshellRequest {
    #[serde(deserialize_with = "lenient::text")]
    pub subshell_id: String,
}

/// messaging: Delete subshell (JEP 91).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteSubshellReply {
    pub status: ReplyStatus,
    #[serde(flatten)]
    pub failure: Failure,
}

/// messaging: List subshells (JEP 91).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListSubshellRequest {}

/// messaging: List subshells (JEP 91).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListSubshellReply {
    pub status: ReplyStatus,
    #[serde(deserialize_with = "lenient::lines")]
    pub subshell_id: Vec<String>,
    #[serde(flatten)]
    pub failure: Failure,
}
