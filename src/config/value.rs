//! Values: from what a layer holds to what a key takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::keys::{Key, Kind};
use crate::printable::escape_line;

/// What a layer holds, before its key has been looked at. It may be a secret: no `Debug`.
#[derive(Clone)]
pub(super) enum Raw {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Raw>),
    /// Something that no key takes; what it is, with its article.
    Other(&'static str),
}

/// A value that its key takes.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Secret(SecretString),
    Integer(i64),
    Number(f64),
    Seconds(Duration),
    Bool(bool),
    List(Vec<String>),
    Path(PathBuf),
}

impl Value {
    /// A form in which two values are equal where they are the same, and only there. It holds secrets.
    pub fn encoded(&self) -> Vec<u8> {
        let of = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
        match self {
            Value::Text(text) => of(b't', text.as_bytes()),
            Value::Secret(secret) => of(b's', secret.expose_secret().as_bytes()),
            Value::Integer(number) => of(b'i', &number.to_le_bytes()),
            Value::Number(number) => of(b'n', &number.to_bits().to_le_bytes()),
            Value::Seconds(time) => of(b'd', &time.as_nanos().to_le_bytes()),
            Value::Bool(yes) => of(b'b', &[u8::from(*yes)]),
            // No item holds a control character.
            Value::List(items) => of(b'l', items.join("\n").as_bytes()),
            Value::Path(path) => of(b'p', path.as_os_str().as_encoded_bytes()),
        }
    }

    /// Whether two values are the same; `None` is a key that is not set.
    pub fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
        one.map(Value::encoded) == other.map(Value::encoded)
    }
}

impl std::fmt::Display for Value {
    /// As `heddle config show` prints it. Nothing of a secret is shown, nor anything that steers a terminal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Text(text) => f.write_str(&escape_line(text)),
            Value::Secret(_) => f.write_str("set (hidden)"),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Seconds(time) => write!(f, "{} s", time.as_secs_f64()),
            Value::Bool(yes) => write!(f, "{yes}"),
            Value::List(items) => f.write_str(&escape_line(&items.join(", "))),
            Value::Path(path) => f.write_str(&escape_line(&path.display().to_string())),
        }
    }
}

/// What paths are relative to.
#[derive(Clone, Copy)]
pub(super) struct Bases<'a> {
    /// Where a relative path starts: the project for a file, the working directory for flags and environment.
    pub relative: &'a Path,
    /// `${AppBaseDir}`: the project.
    pub project: &'a Path,
    /// `~`, if it is known.
    pub home: Option<&'a Path>,
}

/// The value of a key, `None` for an explicit null; or what was found instead, in words.
pub(super) fn convert(key: &Key, raw: &Raw, bases: Bases<'_>) -> Result<Option<Value>, String> {
    if let Raw::Null = raw {
        return Ok(None);
    }
    read(key.kind, raw, bases)
        .map(|value| match value {
            Value::Text(text) if key.secret => Some(Value::Secret(text.into())),
            other => Some(other),
        })
        .ok_or_else(|| describe(raw, key))
}

/// Text of a layer that knows nothing but text: `null`, `none` and `nil` mean that the key is to be unset.
pub(super) fn from_text(text: &str) -> Raw {
    let null = ["null", "none", "nil"].iter();
    if null
        .into_iter()
        .any(|w| w.eq_ignore_ascii_case(text.trim()))
    {
        Raw::Null
    } else {
        Raw::Text(text.to_owned())
    }
}

/// The default of a key in its text form.
pub(super) fn from_table(kind: Kind, text: &str) -> Option<Value> {
    let nowhere = Path::new("");
    let bases = Bases {
        relative: nowhere,
        project: nowhere,
        home: None,
    };
    read(kind, &Raw::Text(text.to_owned()), bases)
}

fn read(kind: Kind, raw: &Raw, bases: Bases<'_>) -> Option<Value> {
    let text = || match raw {
        Raw::Text(text) => one_line(text),
        _ => None,
    };
    match kind {
        Kind::Text => text().map(|t| Value::Text(t.to_owned())),
        Kind::Url => text().and_then(address).map(Value::Text),
        Kind::Path => text().and_then(|t| path(t, bases)).map(Value::Path),
        Kind::Integer(low, high) => integer(raw)
            .filter(|n| (low..=high).contains(n))
            .map(Value::Integer),
        Kind::Number(low, high) => number(raw, low, high).map(Value::Number),
        Kind::Seconds(low, high) => number(raw, low, high)
            .and_then(|n| Duration::try_from_secs_f64(n).ok())
            .map(Value::Seconds),
        Kind::Bool => boolean(raw).map(Value::Bool),
        Kind::List => list(raw).map(Value::List),
        Kind::Mounts => mounts(raw, bases).map(Value::List),
        Kind::Choice(words) => text()
            .and_then(|t| words.iter().find(|w| w.eq_ignore_ascii_case(t)))
            .map(|word| Value::Text((*word).to_owned())),
    }
}

/// Trimmed text; none if it holds a control character, which could forge a header or a line on the terminal.
fn one_line(text: &str) -> Option<&str> {
    let text = text.trim();
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

/// An address without its trailing `/`. A user name or password in it would be a secret that is shown.
fn address(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let host = rest.split('/').next()?;
    let fit = ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str())
        && !host.is_empty()
        && !host.contains('@')
        && !text.contains(['?', '#', ' ', '\\']);
    fit.then(|| text.trim_end_matches('/').to_owned())
}

fn path(text: &str, bases: Bases<'_>) -> Option<PathBuf> {
    let within = |base: &Path, rest: &str| match rest.strip_prefix('/') {
        Some(rest) => Some(base.join(rest.trim_start_matches('/'))),
        None => rest.is_empty().then(|| base.to_owned()),
    };
    if let Some(rest) = text.strip_prefix("${AppBaseDir}") {
        return within(bases.project, rest);
    }
    match text.strip_prefix('~') {
        // `~name` is somebody else's home: not ours to guess.
        Some(rest) => within(bases.home?, rest),
        None => Some(bases.relative.join(text)),
    }
}

fn integer(raw: &Raw) -> Option<i64> {
    match raw {
        Raw::Integer(number) => Some(*number),
        Raw::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A number between the two; neither infinite nor NaN is.
fn number(raw: &Raw, low: f64, high: f64) -> Option<f64> {
    let number = match raw {
        Raw::Number(number) => *number,
        Raw::Integer(number) => *number as f64,
        Raw::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (low..=high).contains(&number).then_some(number)
}

fn boolean(raw: &Raw) -> Option<bool> {
    match raw {
        Raw::Bool(yes) => Some(*yes),
        Raw::Integer(0) => Some(false),
        Raw::Integer(1) => Some(true),
        Raw::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn list(raw: &Raw) -> Option<Vec<String>> {
    let owned = |text: &str| one_line(text).map(str::to_owned);
    match raw {
        Raw::Text(text) => text.split(',').map(owned).collect(),
        Raw::List(items) => items
            .iter()
            .map(|item| match item {
                Raw::Text(text) => owned(text),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn mounts(raw: &Raw, bases: Bases<'_>) -> Option<Vec<String>> {
    let absolute = |text: String| {
        let (plain, access) = access(&text);
        // What is no text could not be written down again.
        Some(format!("{}{access}", path(plain, bases)?.to_str()?))
    };
    list(raw)?.into_iter().map(absolute).collect()
}

/// The path of a mount, and `:ro` or `:rw` where that stands behind it.
pub(super) fn access(mount: &str) -> (&str, &str) {
    let at = [":ro", ":rw"].iter().find(|it| mount.ends_with(**it));
    mount.split_at(mount.len() - at.map_or(0, |it| it.len()))
}

/// What was found, in words. Secrets and addresses, which may hold one, are not quoted.
fn describe(raw: &Raw, key: &Key) -> String {
    let quote = !key.secret && key.kind != Kind::Url;
    match raw {
        Raw::Null => "null".into(),
        Raw::Text(text) if text.trim().is_empty() => "an empty text".into(),
        Raw::Text(text) if quote => format!("the text \"{}\"", printable(text)),
        Raw::Text(_) => "another text (not shown)".into(),
        Raw::Bool(_) | Raw::Integer(_) | Raw::Number(_) if !quote => "not a text".into(),
        Raw::Bool(yes) => yes.to_string(),
        Raw::Integer(number) => number.to_string(),
        Raw::Number(number) => number.to_string(),
        Raw::List(_) => "a list".into(),
        Raw::Other(what) => (*what).into(),
    }
}

/// Text from a file, fit for a message: one line, control characters escaped, not long.
pub(super) fn printable(text: &str) -> String {
    const MOST: usize = 60;
    let mut out: String = text
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Kind, text: &str) -> Option<String> {
        let bases = Bases {
            relative: Path::new("/here"),
            project: Path::new("/project"),
            home: Some(Path::new("/home/ada")),
        };
        read(kind, &Raw::Text(text.into()), bases).map(|value| value.to_string())
    }

    #[test]
    fn booleans_are_read_in_all_their_spellings() {
        for (word, value) in [("true", true), ("YES", true), ("on", true), ("1", true)] {
            assert_eq!(parse(Kind::Bool, word), Some(value.to_string()));
        }
        for word in ["false", "No", "off", "0"] {
            assert_eq!(parse(Kind::Bool, word), Some("false".into()));
        }
        assert_eq!(parse(Kind::Bool, "2"), None);
    }

    #[test]
    fn a_list_is_a_text_with_commas_or_a_list() {
        assert_eq!(parse(Kind::List, "a , b,c"), Some("a, b, c".into()));
        let items = Raw::List(vec![Raw::Text("x".into()), Raw::Text("y".into())]);
        assert_eq!(list(&items), Some(vec!["x".into(), "y".into()]));
        assert_eq!(list(&Raw::List(vec![Raw::Integer(1)])), None);
    }

    #[test]
    fn paths_expand_home_and_project_and_are_absolute() {
        for (text, path) in [
            ("~/x", "/home/ada/x"),
            ("~", "/home/ada"),
            ("${AppBaseDir}/x", "/project/x"),
            ("x/y", "/here/x/y"),
            ("/x", "/x"),
            ("~//etc", "/home/ada/etc"),
        ] {
            assert_eq!(parse(Kind::Path, text).as_deref(), Some(path), "{text}");
        }
        assert_eq!(parse(Kind::Path, "~bob/x"), None);
        assert_eq!(parse(Kind::Path, "${AppBaseDir}x"), None);
    }

    #[test]
    fn addresses_hold_no_user_and_no_other_scheme() {
        assert_eq!(
            parse(Kind::Url, "http://localhost:8000/v1/").as_deref(),
            Some("http://localhost:8000/v1")
        );
        for bad in [
            "localhost",
            "ftp://x/",
            "https://",
            "https://u:p@x/",
            "https://x/?k=1",
        ] {
            assert_eq!(parse(Kind::Url, bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_outside_their_bounds_are_refused() {
        let bounds = Kind::Number(0.0, 2.0);
        assert_eq!(parse(bounds, "0.5").as_deref(), Some("0.5"));
        for bad in ["2.1", "-0.1", "nan", "inf", "x"] {
            assert_eq!(parse(bounds, bad), None, "{bad}");
        }
        assert_eq!(parse(Kind::Integer(1, 9), "10"), None);
        assert_eq!(
            parse(Kind::Seconds(0.0, 9.0), "1.5").as_deref(),
            Some("1.5 s")
        );
    }

    #[test]
    fn null_words_unset_a_key() {
        for word in ["null", "None", " nil "] {
            assert!(matches!(from_text(word), Raw::Null));
        }
        assert!(matches!(from_text("nothing"), Raw::Text(_)));
    }

    #[test]
    fn a_message_holds_no_control_characters() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable(&"é".repeat(200)).chars().count(), 61);
    }

    #[test]
    fn a_value_is_shown_without_what_steers_a_terminal_or_turns_its_text() {
        let value = Value::Text("~/d\u{202e}wr:\u{2066}\u{200f}\x1b[8m \"x\"\\".into());
        assert_eq!(
            value.to_string(),
            "~/d\\u202ewr:\\u2066\\u200f\\x1b[8m \"x\"\\"
        );
    }
}
