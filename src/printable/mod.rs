//! Text of foreign origin made safe for a terminal: what could steer it, hide text or reorder it is shown escaped.
//!
//! [`escape`] is for what a person decides by: questions, code in them, names, errors. [`prose`] is for text that is
//! read. [`OutputFilter`] is for what running code prints, which may colour its lines and overwrite them.

mod filter;

use std::borrow::Cow;

pub use filter::OutputFilter;

/// Whether a terminal obeys the character, or shows nothing for it. Newline and tab are no exception here.
///
/// These are the control characters (C0, DEL, C1), the line and paragraph separators, and what Unicode calls default
/// ignorable: marks of direction, joiners, fillers, variation selectors and tags, which reorder or carry unseen text.
pub fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Writes a character as Python would in a string literal: `\x1b`, `\u202e`, `\U000e0041`.
fn write_escaped(out: &mut String, character: char) {
    let escaped = match character {
        '\r' => "\\r".to_owned(),
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        character => match u32::from(character) {
            code @ 0..=0xff => format!("\\x{code:02x}"),
            code @ 0x100..=0xffff => format!("\\u{code:04x}"),
            code => format!("\\U{code:08x}"),
        },
    };
    out.push_str(&escaped);
}

/// The text with each character escaped that `passes` refuses, which is asked with the character before it.
fn escaped_unless(text: &str, passes: impl Fn(Option<char>, char) -> bool) -> Cow<'_, str> {
    let mut before = None;
    let plain = |character: char| {
        let passed = !is_unprintable(character) || passes(before, character);
        before = passed.then_some(character);
        passed
    };
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        // The line end of another system hides nothing, unlike a carriage return by itself.
        let line_end = character == '\r' && rest.peek() == Some(&'\n') && passes(before, '\n');
        let passed = !is_unprintable(character) || passes(before, character);
        if passed {
            out.push(character);
        } else if !line_end {
            write_escaped(&mut out, character);
        }
        before = passed.then_some(character);
    }
    Cow::Owned(out)
}

/// A text of lines: all is escaped but newlines and tabs.
pub fn escape(text: &str) -> Cow<'_, str> {
    escaped_unless(text, |_, character| matches!(character, '\n' | '\t'))
}

/// A name or another text of one line: newlines and tabs are escaped, too.
pub fn escape_line(text: &str) -> Cow<'_, str> {
    escaped_unless(text, |_, _| false)
}

/// A word for a shell such as bash that means this text, printable whatever is in it.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let plain = |character: char| character.is_alphanumeric() || "/._-+,:@".contains(character);
    if !text.is_empty() && text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    if !text.chars().any(is_unprintable) {
        return Cow::Owned(format!("'{}'", text.replace('\'', "'\\''")));
    }
    let text = text.replace('\\', "\\\\").replace('\'', "\\'");
    Cow::Owned(format!("$'{}'", escape_line(&text)))
}

/// Text to be read: as [`escape`], but joiners and the style of an emoji stay where they shape what is before them.
pub fn prose(text: &str) -> Cow<'_, str> {
    escaped_unless(text, |before, character| {
        matches!(character, '\n' | '\t') || shapes(before, character)
    })
}

/// Whether the character shapes the one before it, as scripts of letters that join and emoji need it. One that follows
/// another, or plain ASCII, shapes nothing.
fn shapes(before: Option<char>, character: char) -> bool {
    let joins = matches!(character, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}');
    joins
        && before.is_some_and(|before| {
            let emoji_style = before == '\u{fe0f}' && character == '\u{200d}';
            let keycap = matches!(before, '0'..='9' | '#' | '*') && character == '\u{fe0f}';
            emoji_style || keycap || !before.is_ascii() && !is_unprintable(before)
        })
}

/// A JSON text for a terminal, which JSON itself keeps from C0 controls alone: the same value, all of it printable.
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_unprintable(character) {
            true => {
                let units = &mut [0; 2];
                let units = character.encode_utf16(units);
                units
                    .iter()
                    .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            false => out.push(character),
        }
    }
    Cow::Owned(out)
}

/// Of the parameters of a colour sequence (`ESC [ … m`), those that colour; `None` where none is left. Concealed and
/// blinking text is not among them.
fn colours(parameters: &str) -> Option<String> {
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = parameters.split(';');
    while let Some(parameter) = rest.next() {
        let (number, detailed) = match parameter.split_once(':') {
            Some((number, _)) => (number, true),
            None => (parameter, false),
        };
        match number.parse::<u8>() {
            Ok(38 | 48 | 58) if !detailed => {
                // A colour by its number, or by red, green and blue.
                let kind = rest.next()?;
                let count = match kind {
                    "5" => 1,
                    "2" => 3,
                    _ => return join(&kept),
                };
                let values: Vec<&str> = rest.by_ref().take(count).collect();
                if values.len() < count || values.iter().any(|value| value.parse::<u8>().is_err()) {
                    return join(&kept);
                }
                kept.extend([parameter, kind]);
                kept.extend(values);
            }
            Ok(0..=4 | 7 | 9 | 21..=24 | 27 | 29..=49 | 58 | 59 | 90..=97 | 100..=107) => {
                kept.push(parameter);
            }
            Err(_) if parameter.is_empty() => kept.push("0"),
            _ => {}
        }
    }
    join(&kept)
}

fn join(parameters: &[&str]) -> Option<String> {
    (!parameters.is_empty()).then(|| parameters.join(";"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every kind of character and sequence that steers a terminal, hides text or reorders it.
    pub(crate) const HOSTILE: &[&str] = &[
        "\x1b[8m",
        "\x1b[2J",
        "\x1b[3J",
        "\x1b[H",
        "\x1b[1;1H",
        "\x1b[5A",
        "\x1b[?1049h",
        "\x1b[?25l",
        "\x1b[1;3r",
        "\x1b[6n",
        "\x1b[c",
        "\x1b[>c",
        "\x1b[21t",
        "\x1b[5i",
        "\x1b[4h",
        "\x1b[?1000h",
        "\x1b]0;title\x07",
        "\x1b]2;title\x1b\\",
        "\x1b]52;c;cm0gLXJmIH4=\x07",
        "\x1b]8;;http://x\x07link\x1b]8;;\x07",
        "\x1b]1337;File=inline=1:AAAA\x07",
        "\x1bP$q\"p\x1b\\",
        "\x1b_Gi=1;AAAA\x1b\\",
        "\x1b^privacy\x1b\\",
        "\x1bXstring\x1b\\",
        "\x1bc",
        "\x1b7\x1b8",
        "\x1bM",
        "\x1b(0lqqk\x1b(B",
        "\x1b#8",
        "\x1b",
        "\0",
        "\x05",
        "\x07",
        "\x08\x08",
        "\x0b",
        "\x0c",
        "\r",
        "\x0e\x0f",
        "\x18\x1a",
        "\x7f",
        "\u{80}",
        "\u{84}\u{85}\u{8d}",
        "\u{90}$q\u{9c}",
        "\u{9b}2J",
        "\u{9d}0;title\u{9c}",
        "\u{9e}\u{9f}\u{98}",
        "\u{ad}",
        "\u{34f}",
        "\u{61c}",
        "\u{115f}\u{1160}\u{3164}\u{ffa0}",
        "\u{180e}",
        "\u{200b}\u{200c}\u{200d}",
        "\u{200e}\u{200f}",
        "\u{2028}\u{2029}",
        "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}",
        "\u{2060}\u{2061}\u{2062}\u{2063}\u{2064}",
        "\u{2066}\u{2067}\u{2068}\u{2069}",
        "\u{206a}\u{206f}",
        "\u{fe00}\u{fe0f}",
        "\u{feff}",
        "\u{fff9}\u{fffa}\u{fffb}",
        "\u{e0001}\u{e0041}\u{e007f}",
        "\u{e0100}\u{e01ef}",
    ];

    #[test]
    fn nothing_that_steers_hides_or_reorders_is_left_and_all_of_it_is_shown() {
        for hostile in HOSTILE {
            for shown in [escape(hostile), escape_line(hostile), prose(hostile)] {
                assert!(!shown.chars().any(is_unprintable), "{hostile:?}: {shown}");
                assert!(shown.starts_with('\\'), "{hostile:?}: {shown}");
            }
            let value = serde_json::json!(hostile).to_string();
            let shown = json(&value);
            assert!(!shown.chars().any(is_unprintable), "{shown}");
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), **hostile);
        }
        assert_eq!(escape("a\u{202e}b\x1b[8mc"), "a\\u202eb\\x1b[8mc");
        assert_eq!(escape("\u{e0041}"), "\\U000e0041");
    }

    #[test]
    fn ordinary_text_is_as_it_was() {
        for text in ["x = 1\n\tprint('é 中文 🎉')\n", "café", "שלום", ""] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(escape("a\r\nb\rc"), "a\nb\\rc");
        assert_eq!(escape_line("a\nb\t"), "a\\nb\\t");
        // A family, a heart in colour, a keycap, and Persian with a non-joiner.
        for text in [
            "👨\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
            "1\u{fe0f}\u{20e3}",
            "می\u{200c}خواهم",
        ] {
            assert_eq!(prose(text), text);
            assert_ne!(escape(text), text);
        }
        assert_eq!(prose("a\u{200d}b\u{fe0f}"), "a\\u200db\\ufe0f");
        assert_eq!(prose("中\u{fe0f}\u{fe0f}"), "中\u{fe0f}\\ufe0f");
    }

    #[test]
    fn of_a_colour_sequence_what_conceals_goes() {
        for (parameters, kept) in [
            ("31", Some("31")),
            ("1;8;31", Some("1;31")),
            ("8", None),
            ("08", None),
            ("5;6", None),
            ("", Some("0")),
            ("38;5;8", Some("38;5;8")),
            ("48;2;8;8;8", Some("48;2;8;8;8")),
            ("38;5;8;8", Some("38;5;8")),
            ("38;8;1", None),
            ("4:3", Some("4:3")),
            ("8:1", None),
            ("999;1", Some("1")),
        ] {
            assert_eq!(colours(parameters).as_deref(), kept, "{parameters}");
        }
    }

    #[test]
    fn a_word_for_a_shell_means_the_text_to_it() {
        for text in [
            "/a/b-1.txt",
            "",
            "a b'c",
            "x\x1b[8m\u{202e}\\'y\n",
            "数据 é",
        ] {
            let word = shell_word(text);
            assert!(!word.chars().any(is_unprintable), "{word}");
            let script = format!("printf %s {word}");
            let mut bash = std::process::Command::new("bash");
            let said = bash.args(["-c", &script]).env("LC_ALL", "C.UTF-8").output();
            assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), text);
        }
    }
}
