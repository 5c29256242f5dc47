//! The body of a chat completion request, and what an endpoint turned out not to take in it.
//!
//! Endpoints that call themselves compatible differ in the parameters they know. What one refuses is left out, or
//! replaced, from then on.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{JsonMode, OpenAiSettings};
use crate::llm::{ChatMessage, ChatRequest, ResponseFormat, Role};

/// Parameters that a request can do without, in the order in which they are suspected.
const OPTIONAL: [&str; 9] = [
    "stream_options",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
];

/// Words by which endpoints say that they do not take a parameter at all, rather than not with this value.
const COMPLAINTS: [&str; 10] = [
    "unsupported",
    "not support",
    "unknown",
    "unrecognized",
    "unexpected",
    "not permitted",
    "not allowed",
    "unavailable",
    "not available",
    "deprecated",
];

/// What is known about the requests that an endpoint takes.
#[derive(Clone, Debug)]
pub(super) struct Dialect {
    json_mode: JsonMode,
    max_completion_tokens: bool,
    /// Replies come whole: this account may not have them streamed.
    whole: bool,
    /// There are no system messages: what they say goes before the first message of the user.
    no_system: bool,
    without: BTreeSet<&'static str>,
}

impl Dialect {
    pub(super) fn new(json_mode: JsonMode) -> Dialect {
        Dialect {
            json_mode,
            max_completion_tokens: false,
            whole: false,
            no_system: false,
            without: BTreeSet::new(),
        }
    }

    pub(super) fn body(
        &self,
        settings: &OpenAiSettings,
        request: &ChatRequest,
    ) -> Map<String, Value> {
        let max_tokens = if self.max_completion_tokens {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(settings.model));
        let messages = match self.no_system {
            true => json!(without_system(&request.messages)),
            false => json!(request.messages),
        };
        body.insert("messages".to_owned(), messages);
        body.insert("stream".to_owned(), json!(!self.whole));
        let usage = (!self.whole).then(|| json!({"include_usage": true}));
        let optional = [
            ("stream_options", usage),
            ("response_format", self.response_format(request)),
            (max_tokens, settings.max_tokens.map(Value::from)),
            ("temperature", settings.temperature.map(Value::from)),
            ("top_p", settings.top_p.map(Value::from)),
            ("seed", settings.seed.map(Value::from)),
            (
                "frequency_penalty",
                settings.frequency_penalty.map(Value::from),
            ),
            (
                "presence_penalty",
                settings.presence_penalty.map(Value::from),
            ),
        ];
        for (name, value) in optional {
            if let Some(value) = value.filter(|_| !self.without.contains(name)) {
                body.insert(name.to_owned(), value);
            }
        }
        body
    }

    fn response_format(&self, request: &ChatRequest) -> Option<Value> {
        match (request.response_format.as_ref()?, self.json_mode) {
            (_, JsonMode::None) => None,
            (ResponseFormat::JsonSchema { name, schema }, JsonMode::JsonSchema) => Some(json!({
                "type": "json_schema",
                "json_schema": {"name": name, "strict": true, "schema": schema},
            })),
            _ => Some(json!({"type": "json_object"})),
        }
    }

    /// Learns from `complaint`, the text of a refusal of `body`. Gives what will be different from now on, in
    /// words, or `None` if the refusal has another reason.
    pub(super) fn learn(&mut self, body: &Map<String, Value>, complaint: &str) -> Option<String> {
        let lower = complaint.to_lowercase();
        if !self.whole && lower.contains("verified to stream") {
            self.whole = true;
            return Some("replies are not streamed".to_owned());
        }
        if !self.no_system && refuses_system(&lower) {
            self.no_system = true;
            return Some("there are no system messages".to_owned());
        }
        let parameter = culprit(body, complaint)?;
        Some(match parameter {
            "response_format" if body[parameter]["type"] == "json_schema" => {
                self.json_mode = JsonMode::JsonObject;
                "JSON schemas are not sent".to_owned()
            }
            "max_tokens" => {
                self.max_completion_tokens = true;
                "`max_completion_tokens` is sent in place of `max_tokens`".to_owned()
            }
            _ => {
                self.without.insert(parameter);
                format!("`{parameter}` is not sent")
            }
        })
    }
}

/// Whether it is the role `system` that the model does not have.
fn refuses_system(complaint: &str) -> bool {
    let role = [
        "system role",
        "role system",
        "system message",
        "role 'system'",
        "\"system\"",
    ];
    role.iter().any(|role| complaint.contains(role))
        && COMPLAINTS.iter().any(|words| complaint.contains(words))
}

/// The messages with what the system says in front of the first that the user says.
fn without_system(messages: &[ChatMessage]) -> Vec<ChatMessage> {
    let (system, mut rest): (Vec<ChatMessage>, Vec<ChatMessage>) = messages
        .iter()
        .cloned()
        .partition(|message| message.role == Role::System);
    let mut said: Vec<String> = system.into_iter().map(|message| message.content).collect();
    match rest.first_mut().filter(|first| first.role == Role::User) {
        Some(first) => {
            said.push(std::mem::take(&mut first.content));
            first.content = said.join("\n\n");
        }
        None => rest.insert(0, ChatMessage::new(Role::User, said.join("\n\n"))),
    }
    rest
}

/// Words by which endpoints say that they cannot hold a reply to JSON, without the parameter's name.
const NO_JSON_MODE: [&str; 6] = [
    "json mode",
    "json_object",
    "json_schema",
    "json schema",
    "structured output",
    "guided_json",
];

/// The parameter of `body` that `complaint` is about.
fn culprit(body: &Map<String, Value>, complaint: &str) -> Option<&'static str> {
    let lower = complaint.to_lowercase();
    let refused = COMPLAINTS.iter().any(|words| lower.contains(words));
    let named = serde_json::from_str::<Value>(complaint)
        .ok()
        .and_then(|json| Some(json.pointer("/error/param")?.as_str()?.to_owned()));
    let suspects = || {
        OPTIONAL.into_iter().filter(|&name| {
            // A reply does not get worse without these two, so any complaint about them is enough.
            body.contains_key(name)
                && (refused || name == "stream_options" || name == "response_format")
        })
    };
    suspects()
        .find(|&name| {
            named
                .as_deref()
                .is_some_and(|named| named.split('.').next() == Some(name))
        })
        .or_else(|| suspects().find(|&name| mentions(complaint, name)))
        .or_else(|| {
            let json = NO_JSON_MODE.iter().any(|words| lower.contains(words));
            (json && body.contains_key("response_format")).then_some("response_format")
        })
}

/// Whether `text` has `name` as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body with everything that can be set, as sent in `dialect`.
    fn body(dialect: &Dialect) -> Map<String, Value> {
        let settings = OpenAiSettings {
            temperature: Some(0.0),
            top_p: Some(0.5),
            max_tokens: Some(9),
            seed: Some(1),
            frequency_penalty: Some(0.1),
            presence_penalty: Some(0.2),
            ..OpenAiSettings::new("http://x", "m")
        };
        let request = ChatRequest {
            messages: Vec::new(),
            response_format: Some(ResponseFormat::JsonSchema {
                name: "plan".to_owned(),
                schema: json!({"type": "object"}),
            }),
            purpose: String::new(),
        };
        dialect.body(&settings, &request)
    }

    #[test]
    fn refusals_in_the_words_of_real_endpoints_are_understood() {
        for (complaint, gone) in [
            (
                r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","param":"max_tokens","code":"unsupported_parameter"}}"#,
                "max_tokens",
            ),
            (
                r#"{"error":{"message":"Unsupported value: 'temperature' does not support 0.2 with this model.","param":"temperature"}}"#,
                "temperature",
            ),
            (
                r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#,
                "stream_options",
            ),
            ("Unrecognized request argument supplied: seed", "seed"),
        ] {
            let mut dialect = Dialect::new(JsonMode::JsonSchema);
            let before = body(&dialect);
            assert!(dialect.learn(&before, complaint).is_some(), "{complaint}");
            let after = body(&dialect);
            assert!(
                before.contains_key(gone) && !after.contains_key(gone),
                "{gone}"
            );
        }
    }

    #[test]
    fn json_schema_falls_back_to_json_object_and_then_to_nothing() {
        let complaint = r#"{"error":{"message":"This response_format type is unavailable now"}}"#;
        let mut dialect = Dialect::new(JsonMode::JsonSchema);
        assert_eq!(body(&dialect)["response_format"]["type"], "json_schema");
        dialect.learn(&body(&dialect), complaint).unwrap();
        assert_eq!(
            body(&dialect)["response_format"],
            json!({"type": "json_object"})
        );
        dialect.learn(&body(&dialect), complaint).unwrap();
        assert!(!body(&dialect).contains_key("response_format"));
        assert!(dialect.learn(&body(&dialect), complaint).is_none());
    }

    #[test]
    fn a_wrong_value_or_a_long_prompt_is_no_reason_to_leave_a_parameter_out() {
        for complaint in [
            r#"{"error":{"message":"temperature must be between 0 and 2","param":"temperature"}}"#,
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens","param":"messages"}}"#,
            "unknown model",
        ] {
            let mut dialect = Dialect::new(JsonMode::JsonObject);
            assert!(
                dialect.learn(&body(&dialect), complaint).is_none(),
                "{complaint}"
            );
        }
    }
}
