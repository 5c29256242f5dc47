//! What can go wrong between Heddle and a model, said so that a person knows what to do next.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why there is no reply. `host` is the endpoint's host and port; `detail` is the endpoint's own words, cut to
/// 200 characters, without control characters and without the key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LlmError {
    /// A setting is missing, or has a value that cannot work. `key` is the setting's name.
    #[error("the language model is not set up: `{key}` {problem}; {help}")]
    NotConfigured {
        key: &'static str,
        problem: String,
        help: &'static str,
    },
    /// No connection: the name is unknown, the port closed, the certificate refused, the way too long.
    #[error(
        "cannot connect to the model's endpoint {host}: {reason}; check that it runs, that the network \
         reaches it, and that `llm.api_base` names it"
    )]
    Unreachable { host: String, reason: String },
    /// HTTP status 401 or 403. `with_key` tells whether the request carried a key.
    #[error(
        "the endpoint {host} refuses {} ({detail}); set `LLM_API_KEY` or `llm.api_key` to a key that is valid for it",
        if *.with_key { "the key" } else { "a request without a key" }
    )]
    Unauthorized {
        host: String,
        with_key: bool,
        detail: String,
    },
    /// HTTP status 404: no such model, or no such address.
    #[error(
        "the endpoint {host} does not have the model `{model}` ({detail}); set `llm.model` to one that it \
         has, or `llm.api_base` to the address before `/chat/completions`"
    )]
    ModelNotFound {
        host: String,
        model: String,
        detail: String,
    },
    /// HTTP status 429. `retry_after` is the wait that the endpoint asked for.
    #[error(
        "the endpoint {host} allows no more requests for now ({detail}); {}, or choose another `llm.model`",
        wait(*.retry_after)
    )]
    RateLimited {
        host: String,
        retry_after: Option<Duration>,
        detail: String,
    },
    /// A fault on the endpoint's side that may pass: HTTP status 408, 409, 425 or 5xx, or none for an error that came in
    /// the place of a reply.
    #[error(
        "the endpoint {host} failed{} ({detail}); {}",
        status.map_or(" while it answered".to_owned(), |status| format!(" with status {status}")),
        wait(*.retry_after)
    )]
    Server {
        host: String,
        status: Option<u16>,
        retry_after: Option<Duration>,
        detail: String,
    },
    /// A request that the endpoint will not serve, however often it is sent.
    #[error(
        "the endpoint {host} refuses the request with status {status} ({detail}); check the `llm.*` \
         settings that this names"
    )]
    Refused {
        host: String,
        status: u16,
        detail: String,
    },
    /// The account's money, or its plan's share, is used up.
    #[error(
        "the account at the endpoint {host} has no balance, or its plan is used up ({detail}); top it up, or set \
         `llm.api_key` and `llm.api_base` to another account's"
    )]
    NoBalance { host: String, detail: String },
    /// The prompt is longer than the model's context. `characters` is the size of the request's messages.
    #[error(
        "the request is too long for the model at {host}: it has {characters} characters, and the endpoint says: \
         {detail}; set `llm.context_chars` to less, or `llm.model` to one with a larger context"
    )]
    TooLong {
        host: String,
        detail: String,
        characters: usize,
    },
    /// The endpoint's filter stopped the request or the reply.
    #[error(
        "the filter of the endpoint {host} stopped this ({detail}); word the request in another way, or choose \
         another `llm.model`"
    )]
    Filtered { host: String, detail: String },
    /// The model itself declined.
    #[error("the model at {host} declined: {detail}")]
    Declined { host: String, detail: String },
    /// A reply without text. `why` names what is known of the cause.
    #[error("the endpoint {host} sent an empty reply; {why}")]
    Empty { host: String, why: &'static str },
    /// The length of the reply was used up by `characters` of thought.
    #[error(
        "the model at {host} thought for {characters} characters and had no length left for the reply; raise \
         `llm.max_tokens`, or choose a model that thinks less"
    )]
    OnlyThought { host: String, characters: usize },
    /// The answer is not a chat completion: a web page, nothing, garbage. `what` names it.
    #[error(
        "the endpoint {host} answered with {what}{}; check that `llm.api_base` names an OpenAI-compatible \
         endpoint and `llm.model` a chat model",
        quoted(.excerpt)
    )]
    BadReply {
        host: String,
        what: String,
        excerpt: String,
    },
    /// The connection ended before the reply did.
    #[error("the endpoint {host} broke off its reply ({reason}); try again")]
    Cut { host: String, reason: String },
    /// The reply is longer than Heddle takes; `limit` is in bytes.
    #[error(
        "the endpoint {host} sent more than {limit} bytes for one reply; set `llm.max_tokens` to bound its length"
    )]
    TooLarge { host: String, limit: usize },
    /// Nothing came for `silence`.
    #[error(
        "the endpoint {host} sent nothing for {} s; check that it is not overloaded, or raise `llm.idle_timeout`",
        .silence.as_secs_f64()
    )]
    Timeout { host: String, silence: Duration },
    /// The file for records cannot be opened.
    #[error("cannot record to {path}: {reason}; set `llm.record` to a file that can be written", path = .path.display())]
    Record { path: PathBuf, reason: String },
    /// A replay file that cannot be read, or has no reply for this request.
    #[error("cannot replay from {origin}: {problem}; {help}")]
    Replay {
        origin: String,
        problem: String,
        help: &'static str,
    },
}

impl LlmError {
    /// Whether the same request may succeed when it is sent again soon.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            LlmError::Unreachable { .. }
                | LlmError::RateLimited { .. }
                | LlmError::Server { .. }
                | LlmError::Cut { .. }
                | LlmError::Empty { .. }
        )
    }

    /// How long the endpoint asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            LlmError::RateLimited { retry_after, .. } | LlmError::Server { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}

fn wait(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) => format!("try again in {} s", wait.as_secs_f64().ceil()),
        None => "try again later".to_owned(),
    }
}

fn quoted(excerpt: &str) -> String {
    if excerpt.is_empty() {
        String::new()
    } else {
        format!(" (\"{excerpt}\")")
    }
}
