//! Puts a reply together from what an endpoint sends: a stream of chunks, or one JSON object.

use serde::Deserialize;
use serde_json::Value;

use super::Endpoint;
use crate::llm::sse::{Decoder, Oversized};
use crate::llm::{LlmError, Reply, Sink, StreamEvent, Usage};

/// Bytes of one event, or of a whole reply that is not streamed: 1 MiB of text may be escaped to six times that.
const MAX_EVENT_BYTES: usize = 8 << 20;

/// Bytes of a whole stream. Each token travels in a wrapping of some hundred bytes.
const MAX_STREAM_BYTES: usize = 256 << 20;

/// A chunk of a stream, a whole completion, or an error in the place of either.
#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
    error: Option<Value>,
}

/// In a chunk the text is a `delta`, in a whole completion a `message`.
#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "message")]
    delta: Option<Message>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Content>,
    refusal: Option<String>,
    /// Thoughts, which are no part of the reply; servers call them by either name.
    #[serde(default, deserialize_with = "text_or_nothing")]
    reasoning_content: String,
    #[serde(default, deserialize_with = "text_or_nothing")]
    reasoning: String,
}

/// Text, and nothing where something else stands.
fn text_or_nothing<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        _ => String::new(),
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

/// What the first bytes of an answer say about the rest. More reliable than the content type, which proxies and
/// small servers get wrong.
enum Form {
    Unknown,
    Events(Decoder),
    Json,
    Html,
}

/// Takes the bytes of one answer.
pub(super) struct Assembler<'a, 's> {
    endpoint: &'a Endpoint,
    sink: &'a mut Sink<'s>,
    form: Form,
    /// Start of the answer while its form is unknown, all of it where it is JSON.
    body: Vec<u8>,
    received: usize,
    /// Chunks, or completions, that have come.
    chunks: usize,
    reply: Reply,
    /// Text that is not passed on yet, since it could be the first half of the key.
    held: String,
    /// `[DONE]` has come.
    done: bool,
    /// Characters of thoughts.
    thought: usize,
    /// What the model says where it declines.
    refusal: String,
}

impl<'a, 's> Assembler<'a, 's> {
    pub(super) fn new(endpoint: &'a Endpoint, sink: &'a mut Sink<'s>) -> Assembler<'a, 's> {
        Assembler {
            endpoint,
            sink,
            form: Form::Unknown,
            body: Vec::new(),
            received: 0,
            chunks: 0,
            reply: Reply::default(),
            held: String::new(),
            done: false,
            thought: 0,
            refusal: String::new(),
        }
    }

    /// Takes the next bytes. Gives true when no more are needed.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<bool, LlmError> {
        self.received += bytes.len();
        if self.received > MAX_STREAM_BYTES {
            return Err(self.too_large(MAX_STREAM_BYTES));
        }
        if let Form::Events(decoder) = &mut self.form {
            let mut events = Vec::new();
            let decoded = decoder.push(bytes, &mut events);
            for event in events {
                self.event(&event)?;
            }
            decoded.map_err(|Oversized| self.too_large(MAX_EVENT_BYTES))?;
            return Ok(self.done);
        }
        self.body.extend_from_slice(bytes);
        if self.body.len() > MAX_EVENT_BYTES {
            return Err(self.too_large(MAX_EVENT_BYTES));
        }
        if matches!(self.form, Form::Unknown) {
            let start = self
                .body
                .strip_prefix(b"\xef\xbb\xbf")
                .unwrap_or(&self.body);
            self.form = match start.trim_ascii_start().first() {
                None => Form::Unknown,
                Some(b'{') => Form::Json,
                Some(b'<') => Form::Html,
                Some(_) => Form::Events(Decoder::new(MAX_EVENT_BYTES)),
            };
            if matches!(self.form, Form::Events(_)) {
                let start = start.to_vec();
                self.received -= bytes.len();
                return self.push(&start);
            }
        }
        Ok(matches!(self.form, Form::Html))
    }

    /// Ends the answer, for the reason `cut` if not by its own end.
    pub(super) fn finish(mut self, cut: Option<LlmError>) -> Result<Reply, LlmError> {
        if let Form::Html = self.form {
            return Err(self.bad_reply("a web page"));
        }
        if let Form::Json = self.form {
            if let Some(cut) = cut {
                return Err(cut);
            }
            let body = std::mem::take(&mut self.body);
            self.chunk(&body)?;
            self.done = self.chunks > 0;
            self.body = body;
        }
        let ended = self.done || self.reply.finish_reason.is_some();
        // What comes after the finish reason is a courtesy; a reply that has it is whole. So is an object that is closed.
        if !ended && cut.is_none() && is_object(&format!("{}{}", self.reply.text, self.held)) {
            let host = &self.endpoint.host;
            (self.sink)(StreamEvent::Notice(&format!(
                "the endpoint {host} ended its reply without saying so; it is whole, and taken"
            )));
        } else if !ended {
            return Err(match cut {
                Some(cut) => cut,
                None if self.received == 0 || self.body.trim_ascii().is_empty() => {
                    self.bad_reply("nothing")
                }
                None if self.chunks == 0 => self.bad_reply("something that is no chat completion"),
                None => self.endpoint.cut("the stream ended early"),
            });
        }
        let rest = std::mem::take(&mut self.held);
        self.emit(&rest);
        let host = self.endpoint.host.clone();
        let reason = self.reply.finish_reason.as_deref().unwrap_or_default();
        if ["content_filter", "sensitive", "safety"].contains(&reason.to_lowercase().as_str()) {
            let detail = "it ended the reply".to_owned();
            return Err(LlmError::Filtered { host, detail });
        }
        if !self.reply.text.trim().is_empty() {
            return Ok(self.reply);
        }
        if !self.refusal.is_empty() {
            let detail = self.endpoint.redactor.excerpt(&self.refusal);
            return Err(LlmError::Declined { host, detail });
        }
        match (self.reply.is_cut(), self.thought) {
            (true, characters @ 1..) => Err(LlmError::OnlyThought { host, characters }),
            (true, 0) => Err(LlmError::Empty {
                host,
                why: "its length was used up before any text: raise `llm.max_tokens`",
            }),
            (false, _) => Err(LlmError::Empty {
                host,
                why: "try again; a local server may mean that the prompt is longer than the context it loaded the \
                      model with",
            }),
        }
    }

    fn event(&mut self, data: &[u8]) -> Result<(), LlmError> {
        match data.trim_ascii() {
            b"" => Ok(()),
            b"[DONE]" => {
                self.done = true;
                Ok(())
            }
            data => self.chunk(data),
        }
    }

    fn chunk(&mut self, data: &[u8]) -> Result<(), LlmError> {
        let Ok(chunk) = serde_json::from_slice::<Chunk>(data) else {
            self.body = data.to_vec();
            return Err(self.bad_reply("something that is no chat completion"));
        };
        if chunk.error.is_some_and(|error| !error.is_null()) {
            return Err(self
                .endpoint
                .failure_in_reply(&String::from_utf8_lossy(data)));
        }
        if chunk.choices.is_some() {
            self.chunks += 1;
        }
        if let Some(usage) = chunk.usage {
            // An endpoint that counts in another way is an endpoint that does not count.
            self.reply.usage = serde_json::from_value::<Usage>(usage)
                .ok()
                .or(self.reply.usage);
        }
        let Some(choice) = chunk.choices.into_iter().flatten().next() else {
            return Ok(());
        };
        if let Some(message) = choice.delta {
            let text = match message.content {
                Some(Content::Text(text)) => text,
                Some(Content::Parts(parts)) => parts.into_iter().map(|part| part.text).collect(),
                None => String::new(),
            };
            self.text(&text)?;
            self.thought += message.reasoning_content.chars().count();
            self.thought += message.reasoning.chars().count();
            let room = self.endpoint.max_reply_bytes;
            let refusal = message.refusal.unwrap_or_default();
            if self.refusal.len() + refusal.len() <= room {
                self.refusal.push_str(&refusal);
            }
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.reply.finish_reason = Some(self.endpoint.redactor.excerpt(&reason));
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), LlmError> {
        if self.reply.text.len() + self.held.len() + text.len() > self.endpoint.max_reply_bytes {
            return Err(self.too_large(self.endpoint.max_reply_bytes));
        }
        self.held.push_str(text);
        let free = self.endpoint.redactor.release(&mut self.held);
        self.emit(&free);
        Ok(())
    }

    fn emit(&mut self, text: &str) {
        if !text.is_empty() {
            self.reply.text.push_str(text);
            (self.sink)(StreamEvent::Text(text));
        }
    }

    fn bad_reply(&self, what: &str) -> LlmError {
        LlmError::BadReply {
            host: self.endpoint.host.clone(),
            what: what.to_owned(),
            excerpt: self
                .endpoint
                .redactor
                .excerpt(&String::from_utf8_lossy(&self.body)),
        }
    }

    fn too_large(&self, limit: usize) -> LlmError {
        LlmError::TooLarge {
            host: self.endpoint.host.clone(),
            limit,
        }
    }
}

/// Whether this is one JSON object from its first brace to its last.
fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, Value>>(text.trim()).is_ok()
}
