//! One line for each thing that was looked at: a mark, what it is, how it is.

use anstyle::AnsiColor;

use crate::printable::{escape, escape_line};

#[derive(Clone, Copy)]
pub enum Mark {
    Good,
    /// Good enough, and to be bettered.
    Odd,
    Bad,
    /// Not there.
    Absent,
}

/// The line, and what of `found` goes beyond it indented below. What a terminal would obey in it is escaped.
pub fn line(mark: Mark, name: &str, found: &str) -> String {
    let (mark, colour) = match mark {
        Mark::Good => ("✓", AnsiColor::Green),
        Mark::Odd => ("!", AnsiColor::Yellow),
        Mark::Bad => ("✗", AnsiColor::Red),
        Mark::Absent => ("–", AnsiColor::BrightBlack),
    };
    let style = colour.on_default();
    let (name, found) = (escape_line(name), escape(found));
    let found = found.replace('\n', "\n    ");
    let colon = if found.is_empty() { "" } else { ": " };
    format!("{style}{mark}{style:#} {name}{colon}{found}\n")
}
