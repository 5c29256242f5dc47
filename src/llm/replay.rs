//! Answers from a record instead of a model: for demonstrations, tests, and looking at a failure again.

use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::record::Exchange;
use super::{
    BoxFuture, ChatMessage, ChatRequest, LlmError, Provider, Reply, Role, Sink, StreamEvent,
};
use crate::open;

/// Bytes of a replay file.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Characters of a piece of a streamed reply.
const PIECE_CHARS: usize = 16;

/// A provider that gives recorded replies, each once, in their order.
///
/// A reply that was recorded with a purpose is given to a request of that purpose only; one without suits any.
#[derive(Debug)]
pub struct Replayer {
    origin: String,
    model: String,
    total: usize,
    rest: Mutex<Vec<Exchange>>,
}

impl Replayer {
    /// Reads a file of JSON lines such as [`Recorder`](super::Recorder) writes.
    pub fn from_path(path: &Path) -> Result<Replayer, LlmError> {
        let origin = path.display().to_string();
        let mut lines = String::new();
        let read = open::input(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut lines));
        let problem = match read {
            Err(error) => error.to_string(),
            Ok(length) if length as u64 > MAX_FILE_BYTES => {
                format!("it is larger than {MAX_FILE_BYTES} bytes")
            }
            Ok(_) => return Replayer::from_str(origin, &lines),
        };
        Err(LlmError::Replay {
            origin,
            problem,
            help: "set `llm.replay` to a file that `llm.record` made",
        })
    }

    /// Reads JSON lines that are at hand; `origin` is what errors call them. A line needs the field `reply`; the
    /// fields `purpose`, `model`, `usage` and `finish_reason` are used if there.
    pub fn from_str(origin: impl Into<String>, lines: &str) -> Result<Replayer, LlmError> {
        let origin = origin.into();
        let mut exchanges = Vec::new();
        for (index, line) in lines.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str::<Exchange>(line) {
                Ok(exchange) => exchanges.push(exchange),
                Err(error) => {
                    return Err(LlmError::Replay {
                        origin,
                        problem: format!("line {} is no exchange ({error})", index + 1),
                        help: "remove the line, or record again with `llm.record`",
                    });
                }
            }
        }
        let model = exchanges
            .iter()
            .map(|exchange| exchange.model.clone())
            .find(|model| !model.is_empty())
            .unwrap_or_else(|| "replay".to_owned());
        Ok(Replayer {
            origin,
            model,
            total: exchanges.len(),
            rest: Mutex::new(exchanges),
        })
    }

    fn next(&self, purpose: &str) -> Result<Exchange, LlmError> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = rest
            .iter()
            .position(|exchange| exchange.purpose.is_empty() || exchange.purpose == purpose);
        match fitting {
            Some(index) => Ok(rest.remove(index)),
            None => Err(LlmError::Replay {
                origin: self.origin.clone(),
                problem: format!(
                    "no reply for `{purpose}` is left ({} of {} are used)",
                    self.total - rest.len(),
                    self.total
                ),
                help: "record the whole conversation, or set a real model with `llm.model`",
            }),
        }
    }
}

/// Whether it is known that the reply was given to another request of the person. Only the Planner's first message is
/// compared: instructions and tasks name the day, the machine and variables, which differ between two equal runs.
fn is_another(exchange: &Exchange, request: &ChatRequest) -> bool {
    let first = |messages: &[ChatMessage]| {
        let mut said = messages.iter().filter(|message| message.role == Role::User);
        said.next().map(|message| message.content.clone())
    };
    exchange.purpose == "planner"
        && !exchange.messages.is_empty()
        && first(&exchange.messages) != first(&request.messages)
}

impl Provider for Replayer {
    fn chat<'a>(
        &'a self,
        request: &'a ChatRequest,
        sink: &'a mut Sink<'a>,
    ) -> BoxFuture<'a, Result<Reply, LlmError>> {
        Box::pin(async move {
            let exchange = self.next(&request.purpose)?;
            if is_another(&exchange, request) {
                sink(StreamEvent::Notice(
                    "the reply that follows was recorded for another request than this one",
                ));
            }
            let mut rest = exchange.reply.as_str();
            while !rest.is_empty() {
                let end = rest
                    .char_indices()
                    .nth(PIECE_CHARS)
                    .map_or(rest.len(), |(end, _)| end);
                let (piece, after) = rest.split_at(end);
                sink(StreamEvent::Text(piece));
                rest = after;
                tokio::task::yield_now().await;
            }
            Ok(Reply {
                text: exchange.reply,
                usage: exchange.usage,
                finish_reason: exchange.finish_reason,
            })
        })
    }

    fn model(&self) -> &str {
        &self.model
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(replayer: &Replayer, purpose: &str) -> String {
        replayer.next(purpose).unwrap().reply
    }

    #[test]
    fn replies_are_given_in_order_and_by_purpose() {
        let lines = r#"{"purpose":"planner","reply":"plan"}

            {"purpose":"code","reply":"first","messages":[],"later_field":1}
            {"purpose":"code","reply":"second"}
            {"reply":"any"}"#;
        let replayer = Replayer::from_str("lines", lines).unwrap();
        assert_eq!(next(&replayer, "code"), "first");
        assert_eq!(next(&replayer, "planner"), "plan");
        assert_eq!(next(&replayer, "planner"), "any");
        let message = replayer.next("planner").unwrap_err().to_string();
        assert!(
            message.contains("`planner`") && message.contains("3 of 4"),
            "{message}"
        );
    }

    #[test]
    fn a_torn_line_is_named() {
        let message = Replayer::from_str("r.jsonl", "{\"reply\":\"a\"}\n{\"rep")
            .unwrap_err()
            .to_string();
        assert!(message.contains("r.jsonl: line 2"), "{message}");
    }
}
