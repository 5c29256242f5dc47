//! Fenced code blocks in a model's reply.

use crate::policy;

/// The most places at which a block is tried to end.
const MOST_ENDS: usize = 40;

/// One fenced block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The word behind the opening fence.
    pub language: &'a str,
    pub body: &'a str,
    /// Where the opening fence begins and the closing one ends, in bytes of the text.
    pub start: usize,
    pub end: usize,
    /// Whether a closing fence came.
    pub closed: bool,
}

impl Block<'_> {
    pub fn is_python(&self) -> bool {
        ["python", "py", "python3", "ipython", "ipython3"]
            .iter()
            .any(|name| self.language.eq_ignore_ascii_case(name))
    }

    /// Whether it may hold Python, since no other language is named.
    pub fn may_be_python(&self) -> bool {
        self.is_python() || self.language.is_empty()
    }
}

/// The fenced blocks of a text, in their order.
///
/// A block ends at the first fence that is at least as long as the opening one; a block of Python at the first of them
/// where the Python is whole, so that a fence in a string does not end it.
pub fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while let Some(opening) = text[at..].split_inclusive('\n').next() {
        let line = at;
        at += opening.len();
        let Some((column, fence, language)) = opening_fence(opening) else {
            continue;
        };
        let ends = ends(text, at, fence);
        let mut block = Block {
            language,
            body: &text[at..],
            start: line + column,
            end: text.len(),
            closed: false,
        };
        let python = block.may_be_python();
        let whole = ends
            .iter()
            .find(|(from, _)| python && policy::is_python(&text[at..*from]));
        // Code that is nowhere valid ends at the first fence.
        if let Some((from, to)) = whole.or(ends.first()) {
            block.body = &text[at..*from];
            block.end = *to;
            block.closed = true;
        }
        at = block.end;
        blocks.push(block);
    }
    blocks
}

/// The column of a line's opening fence, the fence, and the language behind it. Models write a fence behind prose too.
fn opening_fence(line: &str) -> Option<(usize, &str, &str)> {
    let column = line.find("```").or_else(|| {
        let indent = line.len() - line.trim_start().len();
        line[indent..].starts_with("~~~").then_some(indent)
    })?;
    let rest = &line[column..];
    let mark = &rest[..1];
    let (fence, info) = rest.split_at(rest.len() - rest.trim_start_matches(mark).len());
    let mut words = info.split_whitespace();
    let language = words.next().unwrap_or_default();
    let alone = words.next().is_none() || line[..column].trim().is_empty();
    (alone && !info.contains(mark)).then_some((column, fence, language))
}

/// Where each line begins that could close a block, and where its fence ends: a run at least as long, with nothing
/// behind it but a model's end tag.
fn ends(text: &str, from: usize, fence: &str) -> Vec<(usize, usize)> {
    let mut at = from;
    let mut ends = Vec::new();
    for line in text[from..].split_inclusive('\n') {
        let run = line.trim_start();
        let behind = run.trim_start_matches(&fence[..1]);
        if run.len() - behind.len() >= fence.len()
            && (behind.trim().is_empty() || behind.starts_with('<'))
        {
            ends.push((at, at + line.len() - behind.len()));
        }
        at += line.len();
        if ends.len() == MOST_ENDS {
            break;
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bodies(text: &str) -> Vec<(&str, &str, bool)> {
        blocks(text)
            .into_iter()
            .map(|block| (block.language, block.body, block.closed))
            .collect()
    }

    #[test]
    fn a_block_of_python_ends_where_the_python_ends() {
        let text = "I do.\n```python\ns = '''\n```\ntext\n```\n'''\nprint(s)\n```\nThen.\n~~~\nx = 1\n~~~\n";
        assert_eq!(
            bodies(text),
            [
                ("python", "s = '''\n```\ntext\n```\n'''\nprint(s)\n", true),
                ("", "x = 1\n", true)
            ]
        );
        let longer = "````python\ntext = '```'\n```\n````";
        assert_eq!(bodies(longer).len(), 1);
    }

    #[test]
    fn code_with_a_mistake_ends_at_the_first_fence_and_other_languages_do_too() {
        assert_eq!(
            bodies("```python\nx = = 1\n```\nno\n```json\n{}\n```"),
            [("python", "x = = 1\n", true), ("json", "{}\n", true)]
        );
        assert_eq!(bodies("```python\nx = 1"), [("python", "x = 1", false)]);
        assert_eq!(bodies("Here: ```py\nx\n```"), [("py", "x\n", true)]);
        assert_eq!(bodies("the ```x``` mark"), []);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(```|````|~~~|python|json|\n|x = 1|'''|é| ){0,40}") {
            for block in blocks(&text) {
                prop_assert!(text.is_char_boundary(block.start) && text.is_char_boundary(block.end));
            }
        }
    }
}
