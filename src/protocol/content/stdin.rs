//! The stdin channel: the kernel asks, the person types. messaging: Messages on the stdin channel.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::lenient;

/// messaging: Messages on the stdin channel. Kernel to client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InputRequest {
    #[serde(deserialize_with = "lenient::text")]
    pub prompt: String,
    /// Whether what is typed must not be shown.
    pub password: bool,
}

/// messaging: Messages on the stdin channel. Client to kernel.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InputReply {
    #[serde(deserialize_with = "lenient::text")]
    pub value: String,
}

/// Without the value, which may be a password.
impl fmt::Debug for InputReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputReply").finish_non_exhaustive()
    }
}
