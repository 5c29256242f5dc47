//! Answers in Markdown, shown block by block as they arrive: what is on the screen is never drawn again.

use std::io::Write;

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
        let mut out = anstream::stdout().lock();
        self.shown_any = true;
        // A reader that has gone is no error of the answer's.
        let _ = match self.styled {
            true => {
                write!(out, "{}", skin().term_text(block.trim_end_matches('\n'))).and_then(|()| {
                    if block.ends_with("\n\n") {
                        writeln!(out)
                    } else {
                        Ok(())
                    }
                })
            }
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
    fn a_block_ends_at_an_empty_line_but_not_inside_a_fence() {
        assert_eq!(end_of_block("one\ntwo\n\nthree"), Some(9));
        assert_eq!(end_of_block("```\na\n\nb\n"), None);
        assert_eq!(end_of_block("```\na\n\nb\n```\n\nc"), Some(14));
        assert_eq!(end_of_block("open"), None);
    }
}
