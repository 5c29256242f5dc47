//! What an endpoint's refusal means: one table for all that speak this format, whatever words they use.

use std::time::Duration;

use serde_json::Value;

use super::Endpoint;
use crate::llm::LlmError;

/// Codes and types of errors that no waiting mends: the account's money or plan is used up.
const NO_BALANCE: &[&str] = &[
    "insufficient_quota",
    "billing_hard_limit_reached",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "exceeded_current_quota_error",
    "enforced_spend_limit_reached",
    "billing_error",
    "insufficient_balance",
];
/// Zhipu's codes for the same: the balance, and limits of a plan.
const NO_BALANCE_ZHIPU: [&str; 2] = ["1112", "1113"];
const NO_PLAN_ZHIPU: std::ops::RangeInclusive<u32> = 1308..=1321;

/// What endpoints say of a prompt that is longer than the model's context.
const TOO_LONG: &[&str] = &[
    "context_length_exceeded",
    "exceed_context_size_error",
    "model_context_window_exceeded",
    "maximum context length",
    "reduce the length of the messages",
    "exceeds the available context size",
    "context size has been exceeded",
    "exceeds the maximum number of tokens allowed",
    "input token count",
    "prompt is too long",
    "exceed context limit",
    "longer than the model's context length",
];

const FILTERED: &[&str] = &[
    "content_filter",
    "content_policy_violation",
    "flagged_input",
];

const TOO_FAST: &[&str] = &["rate_limit", "too_many_requests", "1302", "1303"];

impl Endpoint {
    /// The error that a refusal stands for: its HTTP status, what the endpoint asked to wait, and its body.
    pub(super) fn failure(
        &self,
        status: u16,
        retry_after: Option<Duration>,
        body: &str,
    ) -> LlmError {
        let host = self.host.clone();
        let detail = self.redactor.message(body);
        let told = Told::new(body);
        match status {
            402 => LlmError::NoBalance { host, detail },
            _ if told.is_no_balance() => LlmError::NoBalance { host, detail },
            _ if told.says(TOO_LONG) => LlmError::TooLong {
                host,
                detail,
                characters: 0,
            },
            400 | 403 | 422 if told.has(FILTERED) => LlmError::Filtered { host, detail },
            401 | 403 => LlmError::Unauthorized {
                host,
                with_key: self.with_key,
                detail,
            },
            404 => LlmError::ModelNotFound {
                host,
                model: self.model.clone(),
                detail,
            },
            429 => LlmError::RateLimited {
                host,
                retry_after,
                detail,
            },
            408 | 409 | 425 | 500..=599 => LlmError::Server {
                host,
                status: Some(status),
                retry_after,
                detail,
            },
            _ => LlmError::Refused {
                host,
                status,
                detail,
            },
        }
    }

    /// The error that came in the place of a reply, with status 200: gateways answer before the model does. Its code
    /// may be a status, a word, or missing.
    pub(super) fn failure_in_reply(&self, body: &str) -> LlmError {
        let told = Told::new(body);
        let mut codes = told
            .codes
            .iter()
            .filter_map(|code| code.parse::<u16>().ok());
        match codes.find(|status| (400..600).contains(status)) {
            Some(status) => self.failure(status, None, body),
            None if told.has(TOO_FAST) => self.failure(429, None, body),
            None => match self.failure(500, None, body) {
                // What it means is not known: a fault of the moment is the likeliest.
                LlmError::Server { host, detail, .. } => LlmError::Server {
                    host,
                    status: None,
                    retry_after: None,
                    detail,
                },
                known => known,
            },
        }
    }
}

/// What an error body tells: its codes and types, and all of its words, in lower case.
struct Told {
    codes: Vec<String>,
    words: String,
}

impl Told {
    fn new(body: &str) -> Told {
        let json = serde_json::from_str::<Value>(body).unwrap_or_default();
        let codes = [
            "/error/code",
            "/error/type",
            "/error/metadata/error_type",
            "/code",
            "/type",
        ];
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.to_lowercase()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Told {
            codes: codes
                .iter()
                .filter_map(|path| text(json.pointer(path)?))
                .collect(),
            words: body.to_lowercase(),
        }
    }

    fn has(&self, codes: &[&str]) -> bool {
        self.codes
            .iter()
            .any(|code| codes.iter().any(|known| code.contains(known)))
    }

    fn says(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.words.contains(phrase))
    }

    fn is_no_balance(&self) -> bool {
        let plan = |code: &String| {
            let number = code.parse::<u32>().ok();
            number.is_some_and(|number| NO_PLAN_ZHIPU.contains(&number))
                || NO_BALANCE_ZHIPU.contains(&code.as_str())
        };
        self.has(NO_BALANCE) || self.codes.iter().any(plan)
    }
}
