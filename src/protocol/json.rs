//! JSON as peers really write it: strict first, and only where that fails, mended and read once more.
//!
//! Mended are bytes that are no UTF-8 (Python's `surrogateescape`), lone surrogate escapes (JavaScript's
//! `JSON.stringify`), `NaN` and `Infinity` (Python's `json.dumps`), and `null` where a field has a default.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Error, Value};

/// Reads one JSON document; an empty frame counts as `{}`.
pub(crate) fn from_frame<T: DeserializeOwned>(frame: &[u8]) -> Result<T, Error> {
    let frame = if frame.trim_ascii().is_empty() {
        b"{}"
    } else {
        frame
    };
    from_strict(frame).or_else(|strict| from_mended(frame).map_err(|_| strict))
}

/// Reads one JSON document and mends nothing.
pub(crate) fn from_strict<T: DeserializeOwned>(document: &[u8]) -> Result<T, Error> {
    let text = str::from_utf8(document);
    if text.is_err() || text.is_ok_and(|text| text.contains("RawValue") || text.contains("\\u00")) {
        serde_json::from_slice::<Plain>(document)?;
    }
    serde_json::from_slice(document)
}

fn from_mended<T: DeserializeOwned>(frame: &[u8]) -> Result<T, Error> {
    let mut value: Value = from_strict(mend(&String::from_utf8_lossy(frame)).as_bytes())?;
    match &mut value {
        Value::Object(fields) => fields.retain(|_, field| !field.is_null()),
        Value::Null => value = Value::Object(Default::default()),
        _ => {}
    }
    T::deserialize(value)
}

/// Writes one JSON document. Every type of this module is made of strings, numbers, lists and maps
/// with string keys, which serde_json always can write.
pub(crate) fn to_frame<T: Serialize>(value: &T) -> bytes::Bytes {
    serde_json::to_vec(value)
        .expect("maps with string keys are JSON")
        .into()
}

/// Replaces what Python and JavaScript write and JSON does not have.
pub(crate) fn mend(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(next) = rest.chars().next() {
        let taken = match next {
            '"' => {
                in_string = !in_string;
                out.push('"');
                1
            }
            '\\' if in_string => mend_escape(rest, &mut out),
            'N' | 'I' | '-' if !in_string => mend_number(rest, &mut out),
            _ => {
                out.push(next);
                next.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

/// Copies the escape that `rest` begins with, half of a surrogate pair as U+FFFD; returns its length.
fn mend_escape(rest: &str, out: &mut String) -> usize {
    let unit = |at: usize| {
        let digits = rest.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let length = match (unit(0), unit(6)) {
        (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
        (Some(0xD800..=0xDFFF), _) => {
            out.push('\u{FFFD}');
            return 6;
        }
        _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
    };
    out.push_str(&rest[..length]);
    length
}

fn mend_number(rest: &str, out: &mut String) -> usize {
    for name in ["NaN", "Infinity", "-Infinity"] {
        if rest.starts_with(name) {
            out.push_str("null");
            return name.len();
        }
    }
    out.push_str(&rest[..1]);
    1
}

/// A document in which no object begins with the key of serde_json's `RawValue`.
///
/// A `Value` takes the string under that key for JSON of its own and reads it with a fresh bound on the
/// depth, so that a peer could nest documents until the stack is full.
struct Plain;

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Plain, D::Error> {
        deserializer.deserialize_any(Plain)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_str<E>(self, _: &str) -> Result<Plain, E> {
        Ok(Plain)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Plain, A::Error> {
        while seq.next_element::<Plain>()?.is_some() {}
        Ok(Plain)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "$serde_json::private::RawValue" {
                return Err(serde::de::Error::custom("a key that is reserved"));
            }
            map.next_value::<Plain>()?;
        }
        Ok(Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_python_and_javascript_write_is_read() {
        let frame =
            br#"{"a": NaN, "b": [-Infinity, Infinity, -1], "c": "NaN \" \ud800 \ud83d\ude00"}"#;
        let value: Value = from_frame(frame).unwrap();
        assert_eq!(
            value,
            json!({"b": [null, null, -1], "c": "NaN \" \u{FFFD} \u{1F600}"})
        );
        let value: Value = from_frame(b"{\"a\": \"caf\xe9\"}").unwrap();
        assert_eq!(value, json!({"a": "caf\u{FFFD}"}));
    }

    #[test]
    fn an_empty_frame_is_an_empty_object() {
        assert_eq!(from_frame::<Value>(b" ").unwrap(), json!({}));
    }

    #[test]
    fn what_no_mending_helps_is_an_error() {
        for frame in ["{", "{\"a\": \\", "\"\\", "{\"a\": \"\\ud8", "nul", "[1,]"] {
            assert!(from_frame::<Value>(frame.as_bytes()).is_err(), "{frame}");
        }
    }
}
