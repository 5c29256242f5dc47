//! A configuration file: read it, parse it, and flatten its tables to dotted keys with the line of each.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::value::Raw;

/// Far beyond any configuration; keeps a device or a wrong file from filling the memory.
const MOST_BYTES: u64 = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
}

/// One key of a file.
pub(super) struct Entry {
    /// Dotted, whether it was written that way or as tables.
    pub name: String,
    /// Line of the key, from 1.
    pub line: usize,
    pub raw: Raw,
}

/// What a file holds.
pub(super) struct Contents {
    /// In the order of the file.
    pub entries: Vec<Entry>,
    /// Permission bits.
    pub mode: u32,
}

/// Read and flatten a file. It is opened once, so that what is looked at is what is read.
pub(super) fn read(path: &Path, format: Format) -> Result<Contents, ConfigError> {
    let failed = |reason: String| ConfigError::Read {
        path: path.to_owned(),
        reason,
    };
    // A pipe would wait for a writer, unless it is opened so.
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| failed(error.to_string()))?;
    let meta = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !meta.is_file() {
        return Err(failed("it is not a regular file".into()));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(
            "it is larger than 1 MiB, so it is no configuration".into(),
        ));
    }
    Ok(Contents {
        entries: parse(path, &bytes, format)?,
        mode: meta.permissions().mode() & 0o777,
    })
}

pub(super) fn parse(path: &Path, bytes: &[u8], format: Format) -> Result<Vec<Entry>, ConfigError> {
    let text = std::str::from_utf8(bytes).map_err(|error| ConfigError::Encoding {
        path: path.to_owned(),
        line: 1 + newlines(&bytes[..error.valid_up_to()]),
    })?;
    // Editors on Windows begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = Vec::new();
    match format {
        Format::Toml => {
            let table = DeTable::parse(text).map_err(|error| {
                // The error's own Display quotes the line, which may hold a key.
                let at = error.span().map_or(0, |span| span.start);
                syntax(path, text, at, "TOML", error.message())
            })?;
            flatten_toml(table.get_ref(), "", &Lines::of(text), &mut entries);
            // The parser sorts by name.
            entries.sort_by_key(|entry| entry.line);
        }
        Format::Json => {
            json_object(text).map_err(|(at, reason)| syntax(path, text, at, "JSON", &reason))?;
            flatten_json(text, &Lines::of(text), text, "", &mut entries);
        }
    }
    Ok(entries)
}

fn syntax(path: &Path, text: &str, at: usize, format: &'static str, reason: &str) -> ConfigError {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    ConfigError::Syntax {
        path: path.to_owned(),
        line: 1 + newlines(before.as_bytes()),
        column: 1 + before[line_start..].chars().count(),
        format,
        reason: reason.to_owned(),
    }
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// The offsets of the newlines: a file may have many keys, and each asks for its line.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|newline| *newline < offset)
    }
}

fn dotted(prefix: &str, key: &str) -> String {
    if prefix.is_empty() {
        key.to_owned()
    } else {
        format!("{prefix}.{key}")
    }
}

/// The parser bounds the depth of tables, and so this recursion.
fn flatten_toml(table: &DeTable<'_>, prefix: &str, lines: &Lines, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let name = dotted(prefix, key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            flatten_toml(inner, &name, lines, entries);
        } else {
            entries.push(Entry {
                name,
                line: lines.at(key.span().start),
                raw: toml_raw(value.get_ref()),
            });
        }
    }
}

fn toml_raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("a whole number that is too large"), Raw::Integer),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_or(Raw::Other("a number that cannot be read"), Raw::Number),
        DeValue::Boolean(yes) => Raw::Bool(*yes),
        DeValue::Datetime(_) => Raw::Other("a date or time"),
        DeValue::Array(items) => Raw::List(items.iter().map(|i| toml_raw(i.get_ref())).collect()),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

/// Check the whole text once: syntax, and depth, which `RawValue` does not bound. An error comes with its offset.
fn json_object(text: &str) -> Result<(), (usize, String)> {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        Ok(_) => Err((0, "the file must hold one object, { … }".into())),
        Err(error) => {
            let lines = text
                .split_inclusive('\n')
                .take(error.line().saturating_sub(1));
            let at = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
            let reason = error.to_string();
            // The position goes in front of the message.
            let reason = reason.split(" at line ").next().unwrap_or_default();
            Err((floor(text, at), reason.to_owned()))
        }
    }
}

fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// The members of an object, each with the text of its value: a slice of the file, whose place is its line.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Flatten an object that `json_object` has accepted. The line of a key is found from the place of its value in the
/// file: back over white space and the colon, to the end of the key. Nothing is searched by its text, so the same
/// text inside a value can't mislead.
fn flatten_json(file: &str, lines: &Lines, object: &str, prefix: &str, entries: &mut Vec<Entry>) {
    // Accepted before, so this does not fail.
    let Ok(Members(members)) = serde_json::from_str(object) else {
        return;
    };
    for (key, value) in members {
        let name = dotted(prefix, &key);
        let text = value.get();
        if text.starts_with('{') {
            flatten_json(file, lines, text, &name, entries);
            continue;
        }
        let start = text.as_ptr() as usize - file.as_ptr() as usize;
        let space = [' ', '\t', '\r', '\n', ':'];
        let key_end = file[..start].trim_end_matches(space).len();
        entries.push(Entry {
            name,
            line: lines.at(key_end),
            raw: serde_json::from_str(text).map_or(Raw::Other("unreadable"), json_raw),
        });
    }
}

fn json_raw(value: serde_json::Value) -> Raw {
    use serde_json::Value;
    match value {
        Value::Null => Raw::Null,
        Value::Bool(yes) => Raw::Bool(yes),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Raw::Integer(whole),
            (None, Some(number)) => Raw::Number(number),
            (None, None) => Raw::Other("a number that is too large"),
        },
        Value::String(text) => Raw::Text(text),
        Value::Array(items) => Raw::List(items.into_iter().map(json_raw).collect()),
        Value::Object(_) => Raw::Other("an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flat(text: &str, format: Format) -> Vec<(String, usize)> {
        parse(Path::new("f"), text.as_bytes(), format)
            .unwrap()
            .into_iter()
            .map(|entry| (entry.name, entry.line))
            .collect()
    }

    fn problem(bytes: &[u8], format: Format) -> String {
        parse(Path::new("f"), bytes, format)
            .err()
            .unwrap()
            .to_string()
    }

    #[test]
    fn toml_tables_flatten_to_dotted_keys_with_their_lines() {
        let text = "\u{feff}# c\n[llm]\napi_base = '''\nmodel = 1\n'''\nmodel = \"m\"\nopenai.model = \"n\"\n\
                    \n[kernel]\nname=\"k\"\n[a]\n\"b.c\"={d=1}\n";
        assert_eq!(
            flat(text, Format::Toml),
            [
                ("llm.api_base".into(), 3),
                ("llm.model".into(), 6),
                ("llm.openai.model".into(), 7),
                ("kernel.name".into(), 10),
                ("a.b.c.d".into(), 12),
            ]
        );
    }

    #[test]
    fn json_keys_have_their_own_line_whatever_the_values_say() {
        let text = r#"{
            "note": "\"llm.model\": \"x\"",
            "list": ["llm.model",
                     {"llm.model": 1}],
            "llm.api_base"
              :
              "llm.model", "llm": {
                "model": "m",
                "deep": {"llm.model":
                    null}
            },
            "llm.model": "again"
        }"#;
        assert_eq!(
            flat(text, Format::Json),
            [
                ("note".into(), 2),
                ("list".into(), 3),
                ("llm.api_base".into(), 5),
                ("llm.model".into(), 8),
                ("llm.deep.llm.model".into(), 9),
                ("llm.model".into(), 12),
            ]
        );
    }

    #[test]
    fn syntax_errors_have_line_and_column_and_quote_nothing() {
        let toml = problem("[llm]\nmodel = \"é\" sk-secret\n".as_bytes(), Format::Toml);
        assert!(toml.starts_with("f:2:13: not valid TOML: "), "{toml}");
        let json = problem(
            b"{\n  \"llm.api_key\": \"sk-secret\"\n  \"a\": 1}",
            Format::Json,
        );
        assert!(
            json.starts_with("f:3:3: not valid JSON: expected `,`"),
            "{json}"
        );
        for message in [toml, json] {
            assert!(!message.contains("secret"), "{message}");
        }
        assert!(problem(b"[1]", Format::Json).contains("one object"));
        assert!(
            problem(b"a = 1\nb = \"\xff\"", Format::Toml).starts_with("f:2: the file is not UTF-8")
        );
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let json = "{\"a\":".repeat(100_000);
        assert!(problem(json.as_bytes(), Format::Json).contains("recursion limit"));
        let toml = format!("a = {}", "[".repeat(100_000));
        problem(toml.as_bytes(), Format::Toml);
    }

    #[test]
    fn what_is_no_regular_file_or_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let reason = |path: &Path| read(path, Format::Toml).err().unwrap().to_string();
        assert!(reason(dir.path()).contains("not a regular file"));
        assert!(reason(&dir.path().join("none")).contains("cannot read"));
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(reason(&pipe).contains("not a regular file"));
        let large = dir.path().join("large");
        std::fs::write(&large, vec![b'#'; MOST_BYTES as usize + 1]).unwrap();
        assert!(reason(&large).contains("larger than 1 MiB"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(Path::new("f"), &bytes, Format::Toml);
            let _ = parse(Path::new("f"), &bytes, Format::Json);
        }

        #[test]
        fn no_text_of_their_own_characters_makes_the_parsers_panic(text in "([\\[\\]{}\",:=.\\\\\n a1\u{e9}'#-]|null|\"a\":|\"a\"){0,60}") {
            let _ = parse(Path::new("f"), text.as_bytes(), Format::Toml);
            let _ = parse(Path::new("f"), text.as_bytes(), Format::Json);
        }
    }
}
