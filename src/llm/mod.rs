//! Language models: a provider trait, one file per wire format, retries, record and replay.
//!
//! Providers nest: `Recorder::create(Retry::new(OpenAi::new(settings)?, policy), path)?` is one provider that
//! asks an endpoint, tries again where that helps, and writes down what came.

mod error;
mod excerpt;
mod openai;
mod record;
mod replay;
mod retry;
mod sse;

pub use error::LlmError;
pub use futures_util::future::BoxFuture;
pub use openai::{JsonMode, MAX_REPLY_BYTES, OpenAi, OpenAiSettings};
pub use record::Recorder;
pub use replay::Replayer;
pub use retry::{Retry, RetryPolicy};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who speaks in a [`ChatMessage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One message of the conversation that a model is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: Role,
    pub content: String,
}

impl ChatMessage {
    pub fn new(role: Role, content: impl Into<String>) -> ChatMessage {
        ChatMessage {
            role,
            content: content.into(),
        }
    }
}

/// The form that the reply is asked to have. A wish: an endpoint may lack it, so a reply is still to be parsed
/// with tolerance.
#[derive(Clone, Debug, PartialEq)]
pub enum ResponseFormat {
    /// Any JSON object. Endpoints demand that a message contains the word "JSON".
    JsonObject,
    /// A JSON object that fits `schema`, a JSON Schema in which every property is required and no other is
    /// allowed (endpoints apply it strictly). `name` has letters, digits, `_` and `-` only.
    JsonSchema { name: String, schema: Value },
}

/// What a model is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    pub messages: Vec<ChatMessage>,
    pub response_format: Option<ResponseFormat>,
    /// What the reply is for, such as `planner`. Never sent; it labels records and chooses among replays.
    pub purpose: String,
}

/// Tokens of one exchange, as the endpoint counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    #[serde(default)]
    pub prompt_tokens: u64,
    #[serde(default)]
    pub completion_tokens: u64,
}

/// A complete reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Never empty where it comes from an endpoint.
    pub text: String,
    /// `None` where the endpoint does not count.
    pub usage: Option<Usage>,
    /// `stop` for a natural end, `length` for a reply that `max_tokens` cut short.
    pub finish_reason: Option<String>,
}

impl Reply {
    /// Whether the endpoint ended it at a limit of its length.
    pub fn is_cut(&self) -> bool {
        let reason = self.finish_reason.as_deref().unwrap_or_default();
        [
            "length",
            "max_tokens",
            "model_length",
            "model_context_window_exceeded",
        ]
        .iter()
        .any(|limit| reason.eq_ignore_ascii_case(limit))
    }
}

/// What happens while a reply arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent<'a> {
    /// The next piece of the reply. All pieces since the last [`StreamEvent::Restart`] make up [`Reply::text`].
    Text(&'a str),
    /// The pieces so far are void: the stream broke, and the reply begins anew.
    Restart { reason: &'a str },
    /// Something that a person who waits should know, such as a wait before another try.
    Notice(&'a str),
}

/// Where the events of one reply go.
pub type Sink<'a> = dyn FnMut(StreamEvent<'_>) + Send + 'a;

/// Something that answers as a language model does.
pub trait Provider: Send + Sync {
    /// Asks for one reply and passes its text on while it arrives. Dropping the future cancels the request.
    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        sink: &'a mut Sink<'a>,
    ) -> BoxFuture<'a, Result<Reply, LlmError>>;

    /// The model's name, as the endpoint knows it.
    fn model(&self) -> &str;
}

impl<P: Provider + ?Sized> Provider for Box<P> {
    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        sink: &'a mut Sink<'a>,
    ) -> BoxFuture<'a, Result<Reply, LlmError>> {
        (**self).chat(request, sink)
    }

    fn model(&self) -> &str {
        (**self).model()
    }
}
