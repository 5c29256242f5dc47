//! What was heard of a kernel: its messages as plain JSON, in the order in which they came.
//!
//! The typed contents of [`protocol`](crate::protocol) take what is wrong for what was meant, which is what must not
//! happen here.

use bytes::Bytes;
use serde_json::Value;

use super::Flaw;
use crate::protocol::{Channel, RawMessage, json};

/// One message. What is no JSON is `null`.
#[derive(Clone)]
pub(super) struct Heard {
    pub channel: Channel,
    pub header: Value,
    pub parent: Value,
    pub metadata: Value,
    pub content: Value,
    pub buffers: Vec<Bytes>,
}

impl Heard {
    pub fn new(channel: Channel, raw: &RawMessage) -> Heard {
        let read = |frame: &Bytes| json::from_strict(frame).unwrap_or(Value::Null);
        Heard {
            channel,
            header: read(&raw.header),
            parent: read(&raw.parent_header),
            metadata: read(&raw.metadata),
            content: read(&raw.content),
            buffers: raw.buffers.clone(),
        }
    }

    pub fn msg_type(&self) -> &str {
        self.header["msg_type"].as_str().unwrap_or("(no msg_type)")
    }

    pub fn is_child_of(&self, request: &Request) -> bool {
        self.parent["msg_id"] == request.header["msg_id"]
    }

    pub fn state(&self) -> Option<&str> {
        match self.msg_type() {
            "status" => self.content["execution_state"].as_str(),
            _ => None,
        }
    }

    /// A field of the content that must be text.
    pub fn text(&self, field: &str) -> Result<&str, Flaw> {
        let value = &self.content[field];
        value.as_str().ok_or_else(|| self.has(field, "text"))
    }

    /// A field of the content that must be a number from 0 on.
    pub fn number(&self, field: &str) -> Result<u64, Flaw> {
        let value = &self.content[field];
        value
            .as_u64()
            .ok_or_else(|| self.has(field, "a whole number"))
    }

    /// A field of the content that must be a list.
    pub fn list(&self, field: &str) -> Result<&Vec<Value>, Flaw> {
        let value = &self.content[field];
        value.as_array().ok_or_else(|| self.has(field, "a list"))
    }

    /// A field of the content that must be an object.
    pub fn object(&self, field: &str) -> Result<&serde_json::Map<String, Value>, Flaw> {
        let value = &self.content[field];
        value
            .as_object()
            .ok_or_else(|| self.has(field, "an object"))
    }

    /// `text/plain` of a display or a result.
    pub fn plain(&self) -> Option<&str> {
        self.content["data"]["text/plain"].as_str()
    }

    fn has(&self, field: &str, kind: &str) -> Flaw {
        Flaw::seen(format!(
            "{} has {field}: {}, which is not {kind}",
            self.msg_type(),
            self.content[field]
        ))
    }

    /// For people: its type, with what tells it from others of the type.
    fn named(&self) -> String {
        match (self.state(), self.channel) {
            (Some(state), _) => format!("status {state}"),
            (None, Channel::Iopub) => self.msg_type().to_owned(),
            (None, channel) => format!("{} on {}", self.msg_type(), channel.name()),
        }
    }
}

/// A request that was sent.
#[derive(Clone)]
pub(super) struct Request {
    pub channel: Channel,
    pub header: Value,
}

impl Request {
    pub fn msg_type(&self) -> &str {
        self.header["msg_type"].as_str().unwrap_or_default()
    }
}

/// Everything that was heard since a check began.
#[derive(Default)]
pub(super) struct Log(pub Vec<Heard>);

impl Log {
    /// What was published for a request.
    pub fn published<'a>(&'a self, request: &Request) -> impl Iterator<Item = &'a Heard> {
        self.on(Channel::Iopub, request)
    }

    /// What was published for a request, of one type.
    pub fn all<'a>(&'a self, request: &Request, msg_type: &str) -> impl Iterator<Item = &'a Heard> {
        self.published(request)
            .filter(move |heard| heard.msg_type() == msg_type)
    }

    /// What came on a channel for a request.
    pub fn on<'a>(
        &'a self,
        channel: Channel,
        request: &Request,
    ) -> impl Iterator<Item = &'a Heard> {
        let heard = self.0.iter();
        heard.filter(move |heard| heard.channel == channel && heard.is_child_of(request))
    }

    /// The reply; without one the flaw tells what came instead.
    pub fn reply(&self, request: &Request) -> Result<&Heard, Flaw> {
        let reply = self.on(request.channel, request).next();
        reply.ok_or_else(|| {
            let request_type = request.msg_type();
            Flaw::seen(format!(
                "no reply to the {request_type}: {}",
                self.told(request)
            ))
        })
    }

    pub fn is_replied(&self, request: &Request) -> bool {
        self.on(request.channel, request).next().is_some()
    }

    pub fn is_idle(&self, request: &Request) -> bool {
        self.published(request)
            .any(|heard| heard.state() == Some("idle"))
    }

    /// All text that a request printed to `stdout` or `stderr`.
    pub fn printed(&self, request: &Request, name: &str) -> String {
        self.all(request, "stream")
            .filter(|stream| stream.content["name"] == name)
            .filter_map(|stream| stream.content["text"].as_str())
            .collect()
    }

    /// For people: what came for a request, in order.
    pub fn told(&self, request: &Request) -> String {
        let heard = self.0.iter().filter(|heard| heard.is_child_of(request));
        let mut told: Vec<String> = heard.map(Heard::named).collect();
        told.dedup();
        match (told.is_empty(), self.0.is_empty()) {
            (false, _) => format!("what came is {}", told.join(", ")),
            (true, true) => "nothing came".into(),
            (true, false) => {
                let mut others: Vec<String> = self.0.iter().map(Heard::named).collect();
                others.dedup();
                format!("what came has other parents: {}", others.join(", "))
            }
        }
    }
}
