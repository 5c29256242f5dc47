//! Readers for fields that real peers fill with another JSON type than the specification says.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::event::MimeBundle;

/// A string; `null` is the empty one, a list of strings is joined, a number or a boolean is spelt out.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Text::deserialize(deserializer).map(|Text(text)| text.into_owned())
}

/// As [`text`], with `null` for none.
pub(crate) fn optional_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let text = Option::<Text<'_>>::deserialize(deserializer)?;
    Ok(text.map(|Text(text)| text.into_owned()))
}

/// What [`text`] reads, borrowed from the frame where no escape stands in the way.
#[derive(Default)]
pub(crate) struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(text.into())
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.to_owned().into())
    }
    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(text.into())
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok("".into())
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(value.to_string().into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(value.to_string().into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(value.to_string().into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(value.to_string().into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let mut joined = String::new();
        while let Some(part) = parts.next_element::<Option<String>>()? {
            joined.push_str(&part.unwrap_or_default());
        }
        Ok(joined.into())
    }
}

/// A list of strings; one string is a list of one, `null` and `{}` are the empty list.
pub(crate) fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(line) => Ok(vec![line]),
        Value::Array(lines) => lines
            .into_iter()
            .map(|line| text(line).map_err(D::Error::custom))
            .collect(),
        other => empty(other),
    }
}

/// A list; `null` and `{}` are the empty one.
pub(crate) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Value>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Array(list) => Ok(list),
        other => empty(other),
    }
}

/// An object; `null` and the `[]` that languages without empty objects write are the empty one.
pub(crate) fn object<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Map<String, Value>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Object(object) => Ok(object),
        other => empty(other),
    }
}

/// A MIME bundle, in which text that came as a list of lines is joined.
pub(crate) fn mime_bundle<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<MimeBundle, D::Error> {
    let mut bundle = object(deserializer)?;
    for (mime, data) in &mut bundle {
        if let Value::Array(lines) = data
            && !is_json(mime)
            && let Some(joined) = join(lines)
        {
            *data = Value::String(joined);
        }
    }
    Ok(bundle)
}

/// Whether a list is data of its own under this MIME type.
fn is_json(mime: &str) -> bool {
    mime == "application/json" || mime.ends_with("+json")
}

fn join(lines: &[Value]) -> Option<String> {
    lines.iter().map(Value::as_str).collect()
}

/// A whole number that is not negative; anything else is `None`.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let whole = |number: f64| {
        (number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number))
            .then_some(number as u64)
    };
    Ok(match &value {
        Value::String(digits) => digits.parse().ok(),
        number => number.as_u64().or_else(|| number.as_f64().and_then(whole)),
    })
}

/// Lets `null`, `{}` and `[]` stand for an empty container of the other kind.
fn empty<T: Default, E: Error>(value: Value) -> Result<T, E> {
    match value {
        Value::Null => Ok(T::default()),
        Value::Array(list) if list.is_empty() => Ok(T::default()),
        Value::Object(object) if object.is_empty() => Ok(T::default()),
        _ => Err(E::custom("a container of another kind was expected")),
    }
}
