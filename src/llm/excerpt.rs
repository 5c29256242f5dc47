//! An endpoint's words, made fit for an error or a terminal: short, printable, without the key.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::printable::is_unprintable;

/// Characters of an endpoint's answer that an error quotes.
const EXCERPT_CHARS: usize = 200;

/// Shorter keys are placeholders (`none`, `ollama`) of servers that want none, and ordinary words of a reply.
const SHORTEST_SECRET: usize = 12;

const MASK: &str = "[key]";

/// Takes the key out of texts that an endpoint sent.
#[derive(Clone)]
pub struct Redactor {
    key: Option<SecretString>,
}

impl Redactor {
    pub fn new(key: Option<SecretString>) -> Redactor {
        Redactor {
            key: key.filter(|key| !key.expose_secret().is_empty()),
        }
    }

    /// `text` for an error: one line of printable characters, no key, at most 200 characters and an ellipsis.
    pub fn excerpt(&self, text: &str) -> String {
        // Control characters go first, since a key could be hidden between them; the cut comes last, since half a
        // key would not be recognized.
        let printable: String = text
            .chars()
            .map(|c| if c.is_whitespace() { ' ' } else { c })
            .filter(|&c| !is_unprintable(c))
            .collect();
        let line = printable.split_whitespace().collect::<Vec<_>>().join(" ");
        let clean = match self.long_key() {
            Some(key) => line.replace(key, MASK),
            None => line,
        };
        match clean.char_indices().nth(EXCERPT_CHARS) {
            Some((end, _)) => format!("{}…", &clean[..end]),
            None => clean,
        }
    }

    /// The message of an error body: the usual fields of a JSON error, else the text itself.
    pub fn message(&self, body: &str) -> String {
        let json = serde_json::from_str::<Value>(body).ok();
        let message = json.as_ref().and_then(|json| {
            [
                "/error/message",
                "/message",
                "/detail",
                "/error",
                "/detail/0/msg",
            ]
            .iter()
            .find_map(|path| json.pointer(path)?.as_str())
        });
        match self.excerpt(message.unwrap_or(body)) {
            said if said.is_empty() => "no reason given".to_owned(),
            said => said,
        }
    }

    /// Splits the key off `text`, the part of a reply that has come and was not passed on yet. Gives what may be
    /// passed on and leaves in `text` what could be the first half of a key.
    pub fn release(&self, text: &mut String) -> String {
        let Some(key) = self.long_key() else {
            return std::mem::take(text);
        };
        if text.contains(key) {
            *text = text.replace(key, MASK);
        }
        let kept = (1..key.len())
            .rev()
            .find(|&length| key.get(..length).is_some_and(|half| text.ends_with(half)))
            .unwrap_or(0);
        let rest = text.split_off(text.len() - kept);
        std::mem::replace(text, rest)
    }

    fn long_key(&self) -> Option<&str> {
        let key = self.key.as_ref()?.expose_secret();
        (key.len() >= SHORTEST_SECRET).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-0123456789abcdef";

    fn redactor() -> Redactor {
        Redactor::new(Some(SecretString::from(KEY)))
    }

    #[test]
    fn an_excerpt_is_short_and_printable() {
        let excerpt = redactor().excerpt(&format!(
            "a\u{1b}[31mb\n\n\u{202e}c\u{9b}{}",
            "数".repeat(300)
        ));
        assert!(excerpt.starts_with("a[31mb c数"), "{excerpt}");
        assert_eq!(excerpt.chars().count(), EXCERPT_CHARS + 1);
    }

    #[test]
    fn a_key_is_masked_even_between_control_characters_or_at_the_cut() {
        let text = format!("{} sk-0123\u{0}456789abcdef", "x".repeat(190));
        let excerpt = redactor().excerpt(&text);
        assert!(excerpt.ends_with("x [key]"), "{excerpt}");
    }

    #[test]
    fn a_key_in_a_reply_is_masked_wherever_it_is_split() {
        for split in 0..KEY.len() {
            let (first, second) = KEY.split_at(split);
            let mut held = String::new();
            let mut passed = String::new();
            for piece in ["the key is ", first, second, " and sk- is no key"] {
                held.push_str(piece);
                passed += &redactor().release(&mut held);
            }
            passed += &held;
            assert_eq!(passed, "the key is [key] and sk- is no key");
        }
    }

    #[test]
    fn a_placeholder_key_does_not_damage_replies() {
        let mut text = "if none is left".to_owned();
        let passed = Redactor::new(Some(SecretString::from("none"))).release(&mut text);
        assert_eq!(passed, "if none is left");
    }

    #[test]
    fn the_message_is_found_in_the_usual_places() {
        for body in [
            r#"{"error":{"message":"why","code":null}}"#,
            r#"{"error":"why"}"#,
            r#"{"message":"why"}"#,
            r#"{"detail":"why"}"#,
            r#"{"detail":[{"msg":"why","loc":["body"]}]}"#,
            "why",
        ] {
            assert_eq!(redactor().message(body), "why", "{body}");
        }
        assert_eq!(redactor().message(" \n"), "no reason given");
    }
}
