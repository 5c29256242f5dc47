//! Comms, and the list of a kernel's ports: messaging: Custom Messages, Comm info, Connect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Failure, ReplyStatus, lenient};

/// messaging: Opening a Comm. Either way; buffers travel with the message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommOpen {
    #[serde(deserialize_with = "lenient::text")]
    pub comm_id: String,
    #[serde(deserialize_with = "lenient::text")]
    pub target_name: String,
    /// Where a front end finds the target; rarely used.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional_text"
    )]
    pub target_module: Option<String>,
    #[serde(deserialize_with = "lenient::object")]
    pub data: Map<String, Value>,
}

/// messaging: Comm Messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommMsg {
    #[serde(deserialize_with = "lenient::text")]
    pub comm_id: String,
    #[serde(deserialize_with = "lenient::object")]
    pub data: Map<String, Value>,
}

/// messaging: Tearing Down Comms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommClose {
    #[serde(deserialize_with = "lenient::text")]
    pub comm_id: String,
    #[serde(deserialize_with = "lenient::object")]
    pub data: Map<String, Value>,
}

/// messaging: Comm info. Shell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommInfoRequest {
    /// `None` asks for the comms of every target.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional_text"
    )]
    pub target_name: Option<String>,
}

/// messaging: Comm info.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommInfoReply {
    pub status: ReplyStatus,
    /// `comm_id` to an object with the comm's `target_name`.
    #[serde(deserialize_with = "lenient::object")]
    pub comms: Map<String, Value>,
    #[serde(flatten)]
    pub failure: Failure,
}

/// messaging: Connect. Shell; deprecated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectRequest {}

/// messaging: Connect: `shell_port`, `iopub_port` and the like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectReply(pub BTreeMap<String, Value>);
