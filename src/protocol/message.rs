//! A decoded message, its replies and its children.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Content, Header, ProtocolError, RawMessage, json};

/// One message, decoded (messaging: General Message Format).
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Routing identities on a ROUTER socket; the topic on iopub.
    pub identities: Vec<Bytes>,
    /// Its `msg_type` is that of the content.
    pub header: Header,
    /// A copy of the header of the request that caused this message.
    pub parent_header: Option<Header>,
    pub metadata: Map<String, Value>,
    pub content: Content,
    pub buffers: Vec<Bytes>,
}

impl Message {
    /// Decodes received frames. The signature is not looked at: verify first.
    ///
    /// # Errors
    /// [`ProtocolError::Frame`] when the header, the parent header or the metadata is no JSON object. Content
    /// is never an error: see [`Content::Unknown`].
    pub fn decode(raw: RawMessage) -> Result<Message, ProtocolError> {
        fn read<T: serde::de::DeserializeOwned>(
            frame: &'static str,
            bytes: &Bytes,
        ) -> Result<T, ProtocolError> {
            json::from_frame(bytes).map_err(|source| ProtocolError::Frame { frame, source })
        }
        let header: Header = read("header", &raw.header)?;
        let parent: Header = read("parent_header", &raw.parent_header)?;
        Ok(Message {
            content: Content::decode(&header.msg_type, &raw.content),
            header,
            parent_header: Some(parent).filter(|parent| *parent != Header::default()),
            metadata: read("metadata", &raw.metadata)?,
            identities: raw.identities,
            buffers: raw.buffers,
        })
    }

    /// The frames of this message, not signed yet.
    pub fn encode(&self) -> RawMessage {
        RawMessage {
            identities: self.identities.clone(),
            signature: Bytes::new(),
            header: json::to_frame(&self.header),
            parent_header: match &self.parent_header {
                Some(parent) => json::to_frame(parent),
                None => Bytes::from_static(b"{}"),
            },
            metadata: json::to_frame(&self.metadata),
            content: self.content.encode(),
            buffers: self.buffers.clone(),
        }
    }

    /// A message that nothing caused: a client's request, or what a kernel publishes on its own.
    pub fn request(content: impl Into<Content>, session: &str, username: &str) -> Message {
        let content = content.into();
        Message {
            identities: Vec::new(),
            header: Header::new(content.msg_type(), session, username),
            parent_header: None,
            metadata: Map::new(),
            content,
            buffers: Vec::new(),
        }
    }

    /// This message, as caused by `parent`.
    pub fn as_child_of(mut self, parent: &Message) -> Message {
        self.parent_header = Some(parent.header.clone());
        self
    }

    /// A reply that finds its way back to the sender of `parent`: its identities, session and username.
    pub fn reply_to(parent: &Message, content: impl Into<Content>) -> Message {
        let Header {
            session, username, ..
        } = &parent.header;
        Message {
            identities: parent.identities.clone(),
            ..Message::request(content, session, username).as_child_of(parent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::content::{ExecuteReply, ExecuteRequest, Stream};

    fn request() -> Message {
        let mut request = Message::request(ExecuteRequest::default(), "s", "u");
        request.identities = vec![Bytes::from_static(b"peer")];
        request.header.subshell_id = Some("sub".into());
        request
    }

    #[test]
    fn a_reply_goes_back_with_the_header_of_its_request() {
        let request = request();
        let reply = Message::reply_to(&request, ExecuteReply::default());
        assert_eq!(reply.identities, request.identities);
        assert_eq!(reply.header.msg_type, "execute_reply");
        assert_eq!(reply.header.session, "s");
        assert_ne!(reply.header.msg_id, request.header.msg_id);
        assert_eq!(
            reply.encode().parent_msg_id().unwrap(),
            request.header.msg_id
        );
    }

    #[test]
    fn a_child_keeps_its_own_identities_and_session() {
        let mut child = Message::request(Stream::default(), "kernel", "");
        child.identities = vec![Bytes::from_static(b"stream.stdout")];
        let child = child.as_child_of(&request());
        assert_eq!(child.identities, [Bytes::from_static(b"stream.stdout")]);
        assert_eq!(child.header.session, "kernel");
        assert_eq!(child.parent_header.unwrap().session, "s");
    }

    #[test]
    fn no_parent_is_written_as_an_empty_object_and_read_in_any_form() {
        let mut raw = Message::request(Stream::default(), "s", "u").encode();
        assert_eq!(raw.parent_header, "{}");
        for parent in ["{}", "", "null"] {
            raw.parent_header = Bytes::from_static(parent.as_bytes());
            raw.metadata = Bytes::from_static(parent.as_bytes());
            let message = Message::decode(raw.clone()).unwrap();
            assert_eq!(message.parent_header, None, "{parent}");
        }
    }

    #[test]
    fn a_broken_frame_is_named() {
        let mut raw = request().encode();
        raw.metadata = Bytes::from_static(b"3");
        let error = Message::decode(raw).unwrap_err().to_string();
        assert!(error.contains("metadata"), "{error}");
    }
}
