//! What a kernel says about itself: messaging: Kernel info. Shell and control.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Failure, ReplyStatus, lenient};

/// messaging: Kernel info.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelInfoRequest {}

/// messaging: Kernel info.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KernelInfoReply {
    pub status: ReplyStatus,
    /// Not to be relied on; see `supported_features`.
    #[serde(deserialize_with = "lenient::text")]
    pub protocol_version: String,
    #[serde(deserialize_with = "lenient::text")]
    pub implementation: String,
    #[serde(deserialize_with = "lenient::text")]
    pub implementation_version: String,
    /// Boxed, as this would be by far the largest content.
    pub language_info: Box<LanguageInfo>,
    #[serde(deserialize_with = "lenient::text")]
    pub banner: String,
    /// Deprecated for the feature `debugger`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debugger: Option<bool>,
    /// Objects with `text` and `url`.
    #[serde(deserialize_with = "lenient::list")]
    pub help_links: Vec<Value>,
    /// `debugger`, `kernel subshells` and other names (JEP 92).
    #[serde(deserialize_with = "lenient::lines")]
    pub supported_features: Vec<String>,
    #[serde(flatten)]
    pub failure: Failure,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl KernelInfoReply {
    /// Whether the kernel announces `feature`, in `supported_features` or by the older field.
    pub fn supports(&self, feature: &str) -> bool {
        self.supported_features.iter().any(|name| name == feature)
            || feature == "debugger" && self.debugger == Some(true)
    }
}

/// messaging: Kernel info, `language_info`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LanguageInfo {
    #[serde(deserialize_with = "lenient::text")]
    pub name: String,
    #[serde(deserialize_with = "lenient::text")]
    pub version: String,
    #[serde(deserialize_with = "lenient::text")]
    pub mimetype: String,
    /// With its dot.
    #[serde(deserialize_with = "lenient::text")]
    pub file_extension: String,
    /// `pygments_lexer`, `codemirror_mode`, `nbconvert_exporter` and whatever else there is.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
