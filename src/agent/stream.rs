//! Parts of a model's reply while it is still arriving: fields of a JSON object, the inside of a fenced block.

/// Gives the text of a JSON object's string fields piece by piece. Best effort: it feeds the eye, and the finished
/// reply is read anew.
#[derive(Default)]
pub struct FieldStream {
    state: State,
    key: String,
    depth: u32,
    /// The hexadecimal digits of a `\u` escape so far, and the first half of a surrogate pair.
    hex: String,
    high: Option<u32>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Outside,
    Key,
    AfterKey,
    /// A value whose text is wanted, or not: only texts are.
    Value,
    Text,
    Escape,
    Unicode,
    Other {
        in_string: bool,
        escaped: bool,
    },
}

impl FieldStream {
    /// Takes the next piece; calls `field` with a field's name and the text that has come of it.
    pub fn push(&mut self, piece: &str, mut field: impl FnMut(&str, &str)) {
        let mut text = String::new();
        for character in piece.chars() {
            let before = self.state;
            if let Some(character) = self.step(character) {
                text.push(character);
            }
            if before == State::Text && self.state == State::AfterKey && !text.is_empty() {
                field(&self.key, &text);
                text.clear();
            }
        }
        if !text.is_empty() {
            field(&self.key, &text);
        }
    }

    fn step(&mut self, character: char) -> Option<char> {
        match self.state {
            State::Outside => match character {
                '{' => self.depth = 1,
                '"' if self.depth == 1 => {
                    self.key.clear();
                    self.state = State::Key;
                }
                _ => {}
            },
            State::Key => match character {
                '"' => self.state = State::Value,
                other => self.key.push(other),
            },
            State::AfterKey => match character {
                ',' => self.state = State::Outside,
                '}' => self.depth = 0,
                _ => {}
            },
            State::Value => match character {
                '"' => self.state = State::Text,
                ':' => {}
                other if other.is_whitespace() => {}
                '{' | '[' => {
                    self.depth += 1;
                    self.state = State::Other {
                        in_string: false,
                        escaped: false,
                    };
                }
                ',' => self.state = State::Outside,
                _ => {}
            },
            State::Text => match character {
                '"' => self.state = State::AfterKey,
                '\\' => self.state = State::Escape,
                other => return Some(other),
            },
            State::Escape => {
                self.state = State::Text;
                match character {
                    'n' => return Some('\n'),
                    't' => return Some('\t'),
                    'r' | 'b' | 'f' => {}
                    'u' => {
                        self.hex.clear();
                        self.state = State::Unicode;
                    }
                    other => return Some(other),
                }
            }
            State::Unicode => {
                self.hex.push(character);
                if self.hex.len() >= 4 {
                    self.state = State::Text;
                    return self.unicode();
                }
            }
            State::Other { in_string, escaped } => self.skip(character, in_string, escaped),
        }
        None
    }

    /// Passes over a list or an object.
    fn skip(&mut self, character: char, in_string: bool, escaped: bool) {
        let (mut in_string, mut next_escaped) = (in_string, false);
        match character {
            _ if escaped => {}
            '\\' if in_string => next_escaped = true,
            '"' => in_string = !in_string,
            '{' | '[' if !in_string => self.depth += 1,
            '}' | ']' if !in_string => self.depth -= 1,
            _ => {}
        }
        self.state = match self.depth {
            1 => State::AfterKey,
            _ => State::Other {
                in_string,
                escaped: next_escaped,
            },
        };
    }

    fn unicode(&mut self) -> Option<char> {
        let code = u32::from_str_radix(&self.hex, 16).ok()?;
        match (code, self.high.take()) {
            (0xd800..0xdc00, _) => {
                self.high = Some(code);
                None
            }
            (0xdc00..0xe000, Some(high)) => {
                char::from_u32(0x10000 + ((high - 0xd800) << 10) + (code - 0xdc00))
            }
            (code, _) => char::from_u32(code),
        }
    }
}

/// Gives the inside of the first fenced block line by line.
#[derive(Default)]
pub struct FenceStream {
    line: String,
    fence: Fence,
}

#[derive(Default, PartialEq)]
enum Fence {
    #[default]
    Before,
    Inside,
    After,
}

impl FenceStream {
    /// Takes the next piece; calls `code` with each whole line of the block.
    pub fn push(&mut self, piece: &str, mut code: impl FnMut(&str)) {
        for part in piece.split_inclusive('\n') {
            self.line.push_str(part);
            if self.line.ends_with('\n') {
                let fence = self.line.trim_start().starts_with("```");
                match self.fence {
                    Fence::Before if fence => self.fence = Fence::Inside,
                    Fence::Inside if fence => self.fence = Fence::After,
                    Fence::Inside => code(&self.line),
                    _ => {}
                }
                self.line.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fields(text: &str, piece: usize) -> Vec<(String, String)> {
        let mut stream = FieldStream::default();
        let mut found: Vec<(String, String)> = Vec::new();
        let characters: Vec<char> = text.chars().collect();
        for piece in characters.chunks(piece) {
            stream.push(&piece.iter().collect::<String>(), |key, text| {
                match found.last_mut() {
                    Some((last, so_far)) if last == key => so_far.push_str(text),
                    _ => found.push((key.to_owned(), text.to_owned())),
                }
            });
        }
        found
    }

    proptest! {
        #[test]
        fn fields_come_out_whole_however_the_text_is_cut(a in "[\\w\\n\"\\\\中😀]{1,20}", b in "[a-z{}\\[\\],:\"]{1,20}", piece in 1usize..9) {
            let text = json!({"plan": a, "skipped": {"deep": ["}", 1]}, "number": 3, "message": b}).to_string();
            prop_assert_eq!(fields(&text, piece), [("plan".to_owned(), a), ("message".to_owned(), b)]);
        }

        #[test]
        fn any_text_is_survived(text in ".{0,200}", piece in 1usize..9) {
            fields(&text, piece);
        }
    }

    #[test]
    fn surrogate_pairs_become_one_character() {
        assert_eq!(
            fields(r#"{"m": "\ud83d\ude00"}"#, 3),
            [("m".to_owned(), "😀".to_owned())]
        );
    }

    #[test]
    fn the_block_comes_line_by_line() {
        let mut stream = FenceStream::default();
        let mut code = String::new();
        for piece in [
            "I ad",
            "d.\n``",
            "`python\nx = ",
            "1\nprint(x)\n",
            "```\nrest\n",
        ] {
            stream.push(piece, |line| code.push_str(line));
        }
        assert_eq!(code, "x = 1\nprint(x)\n");
    }
}
