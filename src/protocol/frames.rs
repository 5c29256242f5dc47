//! A message as ZeroMQ carries it: a list of frames, split at the delimiter and not yet decoded.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;

use super::ProtocolError;
use super::content::lenient::Text;

/// The frame between the routing identities and the signature.
pub const DELIMITER: &[u8] = b"<IDS|MSG>";

/// The frames of one message, as received or to be sent (messaging: The wire protocol).
///
/// The four dictionaries stay the bytes that were signed, so that a relay passes on what it got.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RawMessage {
    /// Routing identities on a ROUTER socket; the topic on iopub.
    pub identities: Vec<Bytes>,
    /// Lower-case hex of the HMAC, empty when messages are not signed.
    pub signature: Bytes,
    pub header: Bytes,
    /// `{}` when nothing caused the message.
    pub parent_header: Bytes,
    pub metadata: Bytes,
    pub content: Bytes,
    /// Binary frames after the content. The signature does not cover them.
    pub buffers: Vec<Bytes>,
}

/// What a relay has to know of a message: its header's routing fields, `""` where one is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek<'a> {
    pub msg_type: Cow<'a, str>,
    pub msg_id: Cow<'a, str>,
    pub session: Cow<'a, str>,
    /// The subshell that a shell request is meant for (JEP 91).
    pub subshell_id: Option<Cow<'a, str>>,
}

impl RawMessage {
    /// Splits received frames at the first delimiter.
    ///
    /// # Errors
    /// [`ProtocolError::NoDelimiter`], or [`ProtocolError::TooFewFrames`] when fewer than five follow it.
    pub fn parse(frames: Vec<Bytes>) -> Result<RawMessage, ProtocolError> {
        let delimiter = frames.iter().position(|frame| frame == DELIMITER).ok_or(
            ProtocolError::NoDelimiter {
                frames: frames.len(),
            },
        )?;
        let found = frames.len() - delimiter - 1;
        let mut frames = frames.into_iter();
        let identities = frames.by_ref().take(delimiter).collect();
        let mut next = || {
            frames
                .next()
                .ok_or(ProtocolError::TooFewFrames { frames: found })
        };
        next()?; // the delimiter itself
        Ok(RawMessage {
            identities,
            signature: next()?,
            header: next()?,
            parent_header: next()?,
            metadata: next()?,
            content: next()?,
            buffers: frames.collect(),
        })
    }

    /// The frames to send, in order.
    pub fn into_frames(self) -> Vec<Bytes> {
        let mut frames = self.identities;
        frames.reserve(6 + self.buffers.len());
        frames.push(Bytes::from_static(DELIMITER));
        frames.extend([
            self.signature,
            self.header,
            self.parent_header,
            self.metadata,
            self.content,
        ]);
        frames.extend(self.buffers);
        frames
    }

    /// The four frames that a signature covers, in its order.
    pub fn signed_frames(&self) -> [&Bytes; 4] {
        [
            &self.header,
            &self.parent_header,
            &self.metadata,
            &self.content,
        ]
    }

    /// Reads the routing fields of the header. The content is not touched, and strings without an
    /// escape are borrowed.
    ///
    /// # Errors
    /// [`ProtocolError::Frame`] when the header is not a JSON object, or a field no kind of text.
    pub fn peek(&self) -> Result<Peek<'_>, ProtocolError> {
        peek(&self.header).map_err(|source| ProtocolError::Frame {
            frame: "header",
            source,
        })
    }

    /// The routing fields of the request that caused this message; `None` where there is none or it is unreadable.
    pub fn parent(&self) -> Option<Peek<'_>> {
        let parent = peek(&self.parent_header).ok()?;
        Some(parent).filter(|parent| !parent.msg_id.is_empty())
    }

    /// `msg_id` of the request that caused this message.
    pub fn parent_msg_id(&self) -> Option<Cow<'_, str>> {
        self.parent().map(|parent| parent.msg_id)
    }
}

/// Sizes, not bytes: content may hold a password that someone typed.
impl fmt::Debug for RawMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = |frames: &[Bytes]| frames.iter().map(Bytes::len).collect::<Vec<_>>();
        f.debug_struct("RawMessage")
            .field("identities", &self.identities)
            .field("header", &self.header)
            .field("parent_header", &self.parent_header)
            .field("metadata_len", &self.metadata.len())
            .field("content_len", &self.content.len())
            .field("buffers_len", &sizes(&self.buffers))
            .finish_non_exhaustive()
    }
}

fn peek(header: &[u8]) -> Result<Peek<'_>, serde_json::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Fields<'a> {
        #[serde(borrow)]
        msg_type: Text<'a>,
        #[serde(borrow)]
        msg_id: Text<'a>,
        #[serde(borrow)]
        session: Text<'a>,
        #[serde(borrow)]
        subshell_id: Option<Text<'a>>,
    }
    let fields: Fields<'_> = serde_json::from_slice(header)?;
    Ok(Peek {
        msg_type: fields.msg_type.0,
        msg_id: fields.msg_id.0,
        session: fields.session.0,
        subshell_id: fields.subshell_id.map(|id| id.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(parts: &[&'static str]) -> Vec<Bytes> {
        parts
            .iter()
            .map(|part| Bytes::from_static(part.as_bytes()))
            .collect()
    }

    #[test]
    fn identities_and_buffers_stand_around_the_five_frames() {
        let sent = frames(&[
            "id1",
            "id2",
            "<IDS|MSG>",
            "sig",
            "h",
            "p",
            "m",
            "c",
            "b1",
            "<IDS|MSG>",
        ]);
        let raw = RawMessage::parse(sent.clone()).unwrap();
        assert_eq!(raw.identities, frames(&["id1", "id2"]));
        assert_eq!(
            (&raw.signature[..], &raw.content[..]),
            (&b"sig"[..], &b"c"[..])
        );
        assert_eq!(raw.buffers, frames(&["b1", "<IDS|MSG>"]));
        assert_eq!(raw.into_frames(), sent);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert!(matches!(
            RawMessage::parse(frames(&["a", "b"])),
            Err(ProtocolError::NoDelimiter { frames: 2 })
        ));
        assert!(matches!(
            RawMessage::parse(frames(&["a", "<IDS|MSG>", "", "{}", "{}", "{}"])),
            Err(ProtocolError::TooFewFrames { frames: 4 })
        ));
    }

    #[test]
    fn a_peek_borrows_and_takes_odd_types() {
        let mut raw = RawMessage {
            header: Bytes::from_static(
                br#"{"msg_id":"m\"1","msg_type":"stream","session":7,"subshell_id":null,"x":[{}]}"#,
            ),
            parent_header: Bytes::from_static(br#"{"msg_id":"p"}"#),
            ..RawMessage::default()
        };
        let peek = raw.peek().unwrap();
        assert!(matches!(peek.msg_type, Cow::Borrowed("stream")));
        assert_eq!(peek.msg_id, "m\"1");
        assert_eq!(peek.session, "7");
        assert_eq!(peek.subshell_id, None);
        assert_eq!(raw.parent_msg_id().unwrap(), "p");

        raw.parent_header = Bytes::from_static(b"{}");
        assert_eq!(raw.parent_msg_id(), None);
        raw.header = Bytes::from_static(b"7");
        assert!(matches!(
            raw.peek(),
            Err(ProtocolError::Frame {
                frame: "header",
                ..
            })
        ));
    }

    #[test]
    fn debug_output_hides_the_content() {
        let raw = RawMessage {
            content: Bytes::from_static(br#"{"value":"hunter2"}"#),
            ..RawMessage::default()
        };
        assert!(!format!("{raw:?}").contains("hunter2"));
    }
}
