//! The header of a message: who sent what, when.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::content::lenient;

/// The version of the messaging specification that our headers carry.
///
/// Peers' versions are not to be relied on; gate features on `supported_features` of `kernel_info_reply`.
pub const PROTOCOL_VERSION: &str = "5.4";

/// messaging: Message header. A missing field is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Header {
    /// Unique to this message.
    #[serde(deserialize_with = "lenient::text")]
    pub msg_id: String,
    /// Unique to the running client or kernel that sends.
    #[serde(deserialize_with = "lenient::text")]
    pub session: String,
    #[serde(deserialize_with = "lenient::text")]
    pub username: String,
    /// When the message was made: ISO 8601 with its zone.
    #[serde(deserialize_with = "lenient::text")]
    pub date: String,
    #[serde(deserialize_with = "lenient::text")]
    pub msg_type: String,
    #[serde(deserialize_with = "lenient::text")]
    pub version: String,
    /// The subshell that a shell request is meant for (JEP 91); `None` is the main shell.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::optional_text"
    )]
    pub subshell_id: Option<String>,
    /// Fields that the specification does not name.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Header {
    /// A header with a fresh `msg_id` and the present time.
    pub fn new(msg_type: &str, session: &str, username: &str) -> Header {
        Header {
            msg_id: uuid::Uuid::new_v4().to_string(),
            session: session.to_owned(),
            username: username.to_owned(),
            date: now(),
            msg_type: msg_type.to_owned(),
            version: PROTOCOL_VERSION.to_owned(),
            subshell_id: None,
            extra: Map::new(),
        }
    }
}

/// Microseconds, because jupyter_client leaves a date with more digits unparsed.
fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json;

    #[test]
    fn the_date_has_microseconds_and_a_zone() {
        let date = Header::new("status", "s", "u").date;
        assert_eq!(date.len(), "2024-01-01T00:00:00.000000Z".len(), "{date}");
        assert!(date.ends_with('Z'));
        date.parse::<jiff::Timestamp>().unwrap();
    }

    #[test]
    fn missing_null_and_unknown_fields_are_taken() {
        let header: Header =
            json::from_frame(br#"{"msg_id": 7, "username": null, "subshell_id": "x", "hub": [1]}"#)
                .unwrap();
        assert_eq!(header.msg_id, "7");
        assert_eq!(header.username, "");
        assert_eq!(header.subshell_id.as_deref(), Some("x"));
        assert_eq!(header.extra["hub"], serde_json::json!([1]));
        let again: Header = json::from_frame(&json::to_frame(&header)).unwrap();
        assert_eq!(again, header);
    }
}
