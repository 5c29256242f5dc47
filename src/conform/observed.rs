//! What holds for every message that a kernel sends, watched while the other checks run.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::heard::{Heard, Request};
use super::{Flaw, Outcome};
use crate::protocol::{Channel, ProtocolError, RawMessage, Verifier};

/// Message ids that are remembered; a kernel cannot make us hold more.
const REMEMBERED: usize = 100_000;
/// Bytes of an id that is remembered.
const LONG_ID: usize = 256;

/// A rule for all messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    Signature,
    Replay,
    Json,
    Header,
    Date,
    MsgId,
    Parent,
    ReplyType,
}

/// How many messages came, and the first that broke each rule.
#[derive(Default)]
pub(super) struct Observed {
    messages: usize,
    broken: HashMap<Rule, (usize, String)>,
    msg_ids: HashSet<String>,
    /// Whether a subscription was answered (JEP 65).
    pub welcomed: bool,
    requests: HashMap<String, Request>,
}

impl Observed {
    pub fn sent(&mut self, request: &Request) {
        let id = request.header["msg_id"].as_str().unwrap_or_default();
        self.requests.insert(id.to_owned(), request.clone());
    }

    /// Looks at a message. `session` is our own.
    pub fn look(
        &mut self,
        raw: &RawMessage,
        heard: &Heard,
        verifier: &mut Verifier,
        session: &str,
    ) {
        self.messages += 1;
        self.welcomed |= heard.msg_type() == "iopub_welcome";
        let named = format!("{} on {}", heard.msg_type(), heard.channel.name());
        match verifier.verify(raw) {
            Err(ProtocolError::Replayed) => self.broke(Rule::Replay, format!("{named} came twice")),
            Err(error) => self.broke(Rule::Signature, format!("{named}: {error}")),
            Ok(()) => {}
        }
        for (frame, value) in [
            ("header", &heard.header),
            ("parent_header", &heard.parent),
            ("metadata", &heard.metadata),
            ("content", &heard.content),
        ] {
            if !value.is_object() {
                self.broke(
                    Rule::Json,
                    format!("the {frame} of {named} is no JSON object"),
                );
            }
        }
        for field in [
            "msg_id", "session", "username", "date", "msg_type", "version",
        ] {
            match heard.header[field].as_str() {
                None => self.broke(Rule::Header, format!("{named} has no {field}")),
                Some("") if !matches!(field, "username") => {
                    self.broke(Rule::Header, format!("{named} has an empty {field}"));
                }
                Some(_) => {}
            }
        }
        if let Some(date) = heard.header["date"].as_str()
            && date.parse::<jiff::Timestamp>().is_err()
        {
            self.broke(Rule::Date, format!("{named} has the date {date:?}"));
        }
        if let Some(id) = heard.header["msg_id"].as_str()
            && self.msg_ids.len() < REMEMBERED
            && id.len() <= LONG_ID
            && !self.msg_ids.insert(id.to_owned())
        {
            self.broke(
                Rule::MsgId,
                format!("{named} has the msg_id of another message"),
            );
        }
        self.parent(heard, &named, session);
    }

    fn parent(&mut self, heard: &Heard, named: &str, session: &str) {
        let of_iopub = heard.channel == Channel::Iopub;
        if heard.parent["session"] != session {
            // Published for another client, or on the kernel's own account.
            if !of_iopub {
                let parent = &heard.parent;
                self.broke(Rule::Parent, format!("{named} has the parent {parent}"));
            }
            return;
        }
        let id = heard.parent["msg_id"].as_str().unwrap_or_default();
        let Some(request) = self.requests.get(id).cloned() else {
            return self.broke(
                Rule::Parent,
                format!("{named} has the parent {id:?}, which is no request"),
            );
        };
        let differs = ["msg_type", "session", "username", "version"]
            .into_iter()
            .find(|field| heard.parent[field] != request.header[field]);
        if let Some(field) = differs {
            self.broke(
                Rule::Parent,
                format!(
                    "{named} has the {field} {} in its parent, and the request has {}",
                    heard.parent[field], request.header[field]
                ),
            );
        }
        let instant = |header: &Value| header["date"].as_str()?.parse::<jiff::Timestamp>().ok();
        if instant(&heard.parent) != instant(&request.header) {
            let date = &heard.parent["date"];
            self.broke(
                Rule::Parent,
                format!("{named} has the date {date} in its parent, which is not the request's"),
            );
        }
        let expected = request.msg_type().replace("_request", "_reply");
        if matches!(heard.channel, Channel::Shell | Channel::Control)
            && (heard.msg_type() != expected || heard.channel != request.channel)
        {
            let asked = request.msg_type();
            self.broke(Rule::ReplyType, format!("{named} answers a {asked}"));
        }
    }

    /// Something came that is no message at all.
    pub fn no_message(&mut self, channel: Channel, error: &ProtocolError) {
        self.messages += 1;
        self.broke(Rule::Json, format!("on {}: {error}", channel.name()));
    }

    /// A message was not looked at.
    pub fn too_large(&mut self, channel: Channel, size: usize) {
        self.messages += 1;
        let channel = channel.name();
        self.broke(
            Rule::Json,
            format!("a message of {size} bytes on {channel}"),
        );
    }

    fn broke(&mut self, rule: Rule, how: String) {
        self.broken.entry(rule).or_insert((0, how)).0 += 1;
    }

    /// Whether every message kept to a rule.
    pub fn outcome(&self, rule: Rule) -> Outcome {
        match self.broken.get(&rule) {
            None => Ok(format!("so in {} messages", self.messages)),
            Some((1, first)) => Err(Flaw::seen(first)),
            Some((times, first)) => Err(Flaw::seen(format!(
                "{first}; {times} of {} messages are so",
                self.messages
            ))),
        }
    }
}
