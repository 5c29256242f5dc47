//! JSON as models write it: read where there is one way to read it, and refused with the place where there are two.

use std::fmt;

use serde_json::{Map, Number, Value};

/// Objects in objects.
const DEEPEST: usize = 64;

/// A syntax error and its position in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Byte of the text.
    pub at: usize,
    pub what: &'static str,
    /// Whether the text ends before the object does.
    pub cut: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

/// Reads the object at the start of `text`; gives it with the byte behind it.
///
/// Beyond JSON it takes single quotes, typographic quotes, unquoted names as keys, Python's constants, comments, commas
/// before a closing bracket, full-width punctuation, line breaks in texts, and backslashes that escape nothing, which
/// stay. With `mend`, brackets that are open at the end of the text are closed; a text that is open never is.
///
/// # Errors
/// A [`Fault`] for text that has no reading, or more than one.
pub fn object(text: &str, mend: bool) -> Result<(Value, usize), Fault> {
    let mut reader = Reader { text, at: 0, mend };
    match reader.peek() {
        Some('{' | '｛') => {}
        _ => return Err(reader.fault("an object begins with {")),
    }
    let value = reader.value(0)?;
    Ok((value, reader.at))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    mend: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault {
            at: self.at,
            what,
            cut: self.at >= self.text.len(),
        }
    }

    /// Skips white space and comments.
    fn space(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            let end = if trimmed.starts_with("//") || trimmed.starts_with('#') {
                trimmed.find('\n').unwrap_or(trimmed.len())
            } else if trimmed.starts_with("/*") {
                trimmed.find("*/").map_or(trimmed.len(), |end| end + 2)
            } else {
                return;
            };
            self.at += end;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        self.space();
        match self.peek() {
            Some('{' | '｛') if depth < DEEPEST => self.members(depth),
            Some('[' | '［') if depth < DEEPEST => self.items(depth),
            Some('{' | '[' | '｛' | '［') => Err(self.fault("it is nested too deeply")),
            Some(quote) if closing(quote).is_some() => self.string().map(Value::String),
            Some(_) => self.word(),
            None => Err(self.fault("a value is missing")),
        }
    }

    fn members(&mut self, depth: usize) -> Result<Value, Fault> {
        self.bump();
        let mut members = Map::new();
        loop {
            self.space();
            match self.peek() {
                Some('}' | '｝') => {
                    self.bump();
                    return Ok(Value::Object(members));
                }
                None if self.mend => return Ok(Value::Object(members)),
                _ => {}
            }
            let key = match self.peek() {
                Some(quote) if closing(quote).is_some() => self.string()?,
                _ => self.name()?,
            };
            self.space();
            match self.peek() {
                Some(':' | '：') => self.bump(),
                _ => return Err(self.fault("a colon is missing behind a key")),
            };
            let value = self.value(depth + 1)?;
            members.insert(key, value);
            self.separator(&['}', '｝'])?;
        }
    }

    fn items(&mut self, depth: usize) -> Result<Value, Fault> {
        self.bump();
        let mut items = Vec::new();
        loop {
            self.space();
            match self.peek() {
                Some(']' | '］') => {
                    self.bump();
                    return Ok(Value::Array(items));
                }
                None if self.mend => return Ok(Value::Array(items)),
                _ => {}
            }
            items.push(self.value(depth + 1)?);
            self.separator(&[']', '］'])?;
        }
    }

    /// A comma, or the end that may follow without one.
    fn separator(&mut self, ends: &[char]) -> Result<(), Fault> {
        self.space();
        match self.peek() {
            Some(',' | '，') => {
                self.bump();
                Ok(())
            }
            Some(end) if ends.contains(&end) => Ok(()),
            None if self.mend => Ok(()),
            Some('"' | '\'' | '“' | '”') => {
                Err(self.fault("a comma is missing before this quote"))
            }
            _ => Err(self.fault("a comma or a closing bracket is missing here")),
        }
    }

    /// A text in quotes. A quote inside that is neither escaped nor the end leaves more than one reading.
    fn string(&mut self) -> Result<String, Fault> {
        let end = self.bump().and_then(closing).unwrap_or('"');
        let mut out = String::new();
        loop {
            let Some(next) = self.bump() else {
                return Err(self.fault("it ends in the middle of a text"));
            };
            match next {
                '\\' => self.escape(&mut out)?,
                next if next == end => {
                    let quote = self.at - next.len_utf8();
                    if self.ends_text() {
                        return Ok(out);
                    }
                    return Err(Fault {
                        at: quote,
                        what: "a quote inside a text must be written as \\\", or the text ends here and a comma is missing",
                        cut: false,
                    });
                }
                '\r' => {}
                other => out.push(other),
            }
        }
    }

    /// Whether what follows a quote can follow a whole text.
    fn ends_text(&self) -> bool {
        let mut ahead = Reader {
            text: self.text,
            at: self.at,
            mend: self.mend,
        };
        ahead.space();
        matches!(
            ahead.peek(),
            None | Some(':' | '：' | ',' | '，' | '}' | '｝' | ']' | '］')
        )
    }

    fn escape(&mut self, out: &mut String) -> Result<(), Fault> {
        let Some(escaped) = self.bump() else {
            return Err(self.fault("it ends in the middle of a text"));
        };
        match escaped {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            '"' | '\'' | '\\' | '/' => out.push(escaped),
            'u' => match self.unicode() {
                Some(character) => out.push(character),
                None => out.push_str("\\u"),
            },
            // `\d` of a pattern: the model forgot to escape the backslash.
            other => {
                out.push('\\');
                out.push(other);
            }
        }
        Ok(())
    }

    /// The character of the digits behind `\u`, two of them for a surrogate pair.
    fn unicode(&mut self) -> Option<char> {
        let unit = self.hex(self.at)?;
        self.at += 4;
        if (0xd800..0xdc00).contains(&unit)
            && self.text[self.at..].starts_with("\\u")
            && let Some(low @ 0xdc00..0xe000) = self.hex(self.at + 2)
        {
            self.at += 6;
            return char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
        }
        Some(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&self, at: usize) -> Option<u32> {
        let digits = self.text.get(at..at + 4)?;
        let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        all.then(|| u32::from_str_radix(digits, 16).ok())?
    }

    /// A key without quotes.
    fn name(&mut self) -> Result<String, Fault> {
        let word = self.take_word();
        match word.is_empty() || word.starts_with(|first: char| first.is_ascii_digit()) {
            true => Err(self.fault("a key in quotes is missing here")),
            false => Ok(word),
        }
    }

    fn take_word(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.')))
            .unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn word(&mut self) -> Result<Value, Fault> {
        let start = self.at;
        let word = self.take_word();
        let value = match word.as_str() {
            "true" | "True" => Some(Value::Bool(true)),
            "false" | "False" => Some(Value::Bool(false)),
            "null" | "None" | "undefined" | "NaN" => Some(Value::Null),
            number => serde_json::from_str::<Number>(number)
                .ok()
                .map(Value::Number),
        };
        value.ok_or(Fault {
            at: start,
            what: "a text must stand in quotes",
            cut: self.at >= self.text.len(),
        })
    }
}

/// The quote that ends what this one begins.
fn closing(quote: char) -> Option<char> {
    match quote {
        '"' | '\'' => Some(quote),
        '“' | '”' => Some('”'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        object(text, false).unwrap().0
    }

    #[test]
    fn what_has_one_reading_is_read() {
        for (text, value) in [
            (r#"{"a": "\d+ it\'s"}"#, json!({"a": "\\d+ it's"})),
            ("{'a': None, 'b': True,}", json!({"a": null, "b": true})),
            ("｛“a”：“b”，“c”：1｝", json!({"a": "b", "c": 1})),
            ("{\"a\"：1，\"b\": [1, 2,],}", json!({"a": 1, "b": [1, 2]})),
            (
                "{ // why\n \"a\": 1, # so\n /* and */ b: 'x \"y\"'}",
                json!({"a": 1, "b": "x \"y\""}),
            ),
            ("{\"a\": \"two\nlines\"}", json!({"a": "two\nlines"})),
            (r#"{"a": "\ud83d\ude00 \u4e2d"}"#, json!({"a": "😀 中"})),
        ] {
            assert_eq!(read(text), value, "{text}");
        }
    }

    #[test]
    fn two_readings_are_a_fault_with_its_place() {
        let text = r#"{"message": "he said "hi" to me"}"#;
        let fault = object(text, true).unwrap_err();
        assert_eq!(fault.at, text.find("hi").unwrap() - 1);
        assert!(fault.what.contains("quote") && !fault.cut);
    }

    #[test]
    fn open_brackets_are_closed_where_allowed_and_open_texts_never() {
        assert_eq!(
            object("{\"a\": [1, {\"b\": 2}", true).unwrap().0,
            json!({"a": [1, {"b": 2}]})
        );
        assert!(object("{\"a\": 1", false).unwrap_err().cut);
        assert!(object("{\"a\": \"The total is 12", true).unwrap_err().cut);
        assert!(object(&"{\"a\":".repeat(100_000), true).is_err());
    }

    proptest! {
        #[test]
        fn json_is_read_as_json(text in "[\\w\\n\"\\\\中😀/]{0,20}", number in any::<i64>(), list in proptest::collection::vec(any::<bool>(), 0..4)) {
            let value = json!({"text": text, "number": number, "list": list, "deep": {"null": null}});
            prop_assert_eq!(read(&value.to_string()), value);
        }

        #[test]
        fn no_text_panics(text in "[{}\\[\\]\",:：，“”'\\\\u0-9a-e\n/*#中 ]{0,60}") {
            let _ = object(&text, true);
        }
    }
}
