//! Answers in Markdown, shown block by block as they arrive: what is on the screen is never drawn again.

use std::io::Write;

use crate::printable::prose;

/// Collects text until a block is whole, then shows it.
pub struct Markdown {
    /// Whether blocks are styled; otherwise text passes as it is.
    styled: bool,
    text: String,
    shown_any: bool,
}

impl Markdown {
    pub fn new(styled: bool) -> Markdown {
        Markdown {
            styled,
            text: String::new(),
            shown_any: false,
        }
    }

    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        while let Some(end) = end_of_block(&self.text) {
            let rest = self.text.split_off(end);
            let block = std::mem::replace(&mut self.text, rest);
            self.show(&block);
        }
    }

    /// Shows what is left. The next text is a new answer.
    pub fn finish(&mut self) {
        let block = std::mem::take(&mut self.text);
        if !block.trim().is_empty() {
            self.show(&block);
        }
        if std::mem::take(&mut self.shown_any) && self.styled {
            let _ = writeln!(anstream::stdout().lock());
        }
    }

    fn show(&mut self, block: &str) {
        let block = &*prose(block);
        let mut out = anstream::stdout().lock();
        self.shown_any = true;
        // A reader that has gone is no error of the answer's.
        let _ = match self.styled {
            true => write!(out, "{}", styled(block.trim_end_matches('\n'))).and_then(|()| {
                if block.ends_with("\n\n") {
                    writeln!(out)
                } else {
                    Ok(())
                }
            }),
            false => writeln!(out, "{}", block.trim_end_matches('\n')).and_then(|()| {
                if block.ends_with("\n\n") {
                    writeln!(out)
                } else {
                    Ok(())
                }
            }),
        }
        .and_then(|()| out.flush());
    }
}

/// Where the first block ends: at an empty line outside a fence.
fn end_of_block(text: &str) -> Option<usize> {
    let mut fenced = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if !fenced && line == "\n" && at > 1 {
            return Some(at);
        }
    }
    None
}

/// Stands for an asterisk that is one, while the block is styled. From the private use area, and one column wide.
const ASTERISK: char = '\u{e000}';

fn styled(block: &str) -> String {
    let text = skin().term_text(&with_asterisks(block)).to_string();
    text.replace(ASTERISK, "*")
}

/// A block whose asterisks that mark no emphasis, as in `2 * 3`, are stood for: the styling would swallow them.
fn with_asterisks(block: &str) -> String {
    let mut fenced = false;
    let mut text = String::with_capacity(block.len());
    for line in block.split_inclusive('\n') {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        match fence || fenced {
            true => text.push_str(line),
            false => text.extend(asterisks_stood_for(line)),
        }
    }
    text
}

fn asterisks_stood_for(line: &str) -> Vec<char> {
    let mut chars: Vec<char> = line.chars().collect();
    // One at the start of a line is a bullet, and nothing else is a rule.
    let start = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
    if line.trim().chars().all(|c| c == '*') {
        return chars;
    }
    let blank = |at: usize| chars.get(at).is_none_or(|c| c.is_whitespace());
    let mut literal = Vec::new();
    // Marks that may begin or end an emphasis, by their number of asterisks.
    let mut marks: [Vec<std::ops::Range<usize>>; 3] = Default::default();
    let mut code = false;
    let mut at = 0;
    while at < chars.len() {
        let run = chars[at..].iter().take_while(|c| **c == '*').count();
        code ^= chars[at] == '`';
        if run > 0 && !code {
            let bullet = run == 1 && at + 1 == start && blank(at + 1);
            let alone = (at == 0 || blank(at - 1)) && blank(at + run);
            match marks.get_mut(run - 1) {
                _ if bullet => {}
                Some(marks) if !alone => marks.push(at..at + run),
                _ => literal.push(at..at + run),
            }
        }
        at += run.max(1);
    }
    // One that is left without a partner marks nothing.
    let single = marks.into_iter().filter(|marks| marks.len() % 2 == 1);
    literal.extend(single.filter_map(|mut marks| marks.pop()));
    for range in literal {
        chars[range].fill(ASTERISK);
    }
    chars
}

fn skin() -> termimad::MadSkin {
    let mut skin = termimad::MadSkin::default();
    for header in &mut skin.headers {
        header.align = termimad::Alignment::Left;
    }
    skin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_that_marks_nothing_is_shown() {
        let shown = |text: &str| {
            let text = styled(text);
            anstream::adapter::strip_str(&text)
                .to_string()
                .trim_end()
                .to_owned()
        };
        for (text, expected) in [
            ("2 * 3 * 4 = 24", "2 * 3 * 4 = 24"),
            ("$x_1 * y_2$ 和 *强调*", "$x_1 * y_2$ 和 强调"),
            ("**bold** and *italic*", "bold and italic"),
            ("5* rating, 2 ** 3", "5* rating, 2 ** 3"),
            ("* bullet with 2 * 3", "• bullet with 2 * 3"),
            ("`a * b` * c", "a * b * c"),
            ("```\na * b\n```", "a * b"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_block_ends_at_an_empty_line_but_not_inside_a_fence() {
        assert_eq!(end_of_block("one\ntwo\n\nthree"), Some(9));
        assert_eq!(end_of_block("```\na\n\nb\n"), None);
        assert_eq!(end_of_block("```\na\n\nb\n```\n\nc"), Some(14));
        assert_eq!(end_of_block("open"), None);
    }
}
