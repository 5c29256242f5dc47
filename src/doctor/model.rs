//! The model: set up, and answering.

use super::Check;
use crate::config::Settings;
use crate::llm::{
    ChatMessage, ChatRequest, LlmError, OpenAi, OpenAiSettings, Provider, Role, StreamEvent,
};
use secrecy::ExposeSecret;

pub(super) fn configured(settings: &Settings) -> Check {
    let llm = &settings.llm;
    let Some(model) = &llm.model else {
        return Check::warn(
            "model",
            "no model is named, so ask and chat have none",
            "export LLM_MODEL=… LLM_API_KEY=…   (or llm.model in heddle.toml)",
        );
    };
    let key = match &llm.api_key {
        Some(key) if is_placeholder(key.expose_secret()) => {
            return Check::warn(
                "model",
                "the key is a placeholder, as documentation has it",
                "export LLM_API_KEY=…   with a key of your account",
            );
        }
        Some(_) => "with a key",
        None => "without a key",
    };
    Check::pass("model", format!("{model} at {}, {key}", llm.api_base))
}

/// What is left of a configuration with faults may name another endpoint than the key is for.
pub(super) fn not_asked() -> Check {
    Check::warn(
        "model answers",
        "not asked, since the configuration has faults and the key is for one endpoint alone",
        "mend the configuration, then: heddle doctor --model",
    )
}

/// Asks for one token.
pub(super) async fn answers(settings: &Settings) -> Check {
    let llm = &settings.llm;
    let mut openai = OpenAiSettings::new(&llm.api_base, llm.model.clone().unwrap_or_default());
    openai.api_key = llm.api_key.clone();
    openai.connect_timeout = llm.connect_timeout;
    openai.idle_timeout = llm.idle_timeout;
    openai.max_tokens = Some(1);
    let request = ChatRequest {
        messages: vec![ChatMessage::new(Role::User, "Say: ok")],
        response_format: None,
        purpose: "doctor".into(),
    };
    let asked = async {
        OpenAi::new(openai)?
            .chat(&request, &mut |_: StreamEvent<'_>| {})
            .await
    };
    match asked.await {
        // One token is too little for a model that thinks first; it has answered all the same.
        Ok(_) | Err(LlmError::OnlyThought { .. } | LlmError::Empty { .. }) => Check::pass(
            "model answers",
            "the endpoint accepts the key and knows the model",
        ),
        Err(error) => Check::fail(
            "model answers",
            error.to_string(),
            "mend what it names, then: heddle doctor --model",
        ),
    }
}

/// Whether this is what documentation writes in the place of a key.
fn is_placeholder(key: &str) -> bool {
    let key = key.to_lowercase();
    let words = [
        "your",
        "api-key",
        "api_key",
        "changeme",
        "placeholder",
        "…",
        "...",
        "<",
        "xxxx",
    ];
    words.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_told_from_keys() {
        for placeholder in ["YOUR_API_KEY", "sk-...", "<key>", "sk-xxxxxxxx", "…"] {
            assert!(is_placeholder(placeholder), "{placeholder}");
        }
        for key in ["sk-proj-4fA0x9", "ollama", "none", "gsk_Zx81"] {
            assert!(!is_placeholder(key), "{key}");
        }
    }
}
