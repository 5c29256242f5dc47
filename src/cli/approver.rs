//! Asks the person at the terminal for leave.

use std::io::{IsTerminal, Write};

use futures_util::future::BoxFuture;

use super::keyboard::Keyboard;
use super::setup;
use super::terminal::{self, before_question};
use crate::agent::approval::{Approver, Decision, Nobody, Question, decision, is_no, rejected};
use crate::kernel::python;
use crate::printable::{escape, escape_line};

/// Whether somebody can be asked.
pub fn is_present() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whoever decides for this process.
pub fn here() -> Box<dyn Approver> {
    match is_present() {
        true => Box::new(Person),
        false => Box::new(Nobody),
    }
}

/// The person at the terminal.
struct Person;

impl Approver for Person {
    fn approve(&mut self, question: Question) -> BoxFuture<'_, Decision> {
        Box::pin(async move {
            show(&question);
            loop {
                let edit = if question.editable.is_some() {
                    "  [e] edit first"
                } else {
                    ""
                };
                let prompt = format!("Allow it? [y] once  [s] for this session{edit}  [n] no: ");
                // The end of input is nobody's yes.
                let answer = Keyboard::ask(prompt).await;
                let Some(answer) = answer else {
                    return rejected("");
                };
                if let Some(decision) = decision(&answer) {
                    return decision;
                }
                if let ("e", Some(text)) = (answer.trim(), question.editable.clone()) {
                    match tokio::task::spawn_blocking(move || edited(&text)).await {
                        Ok(Ok(text)) => return Decision::Edited { text },
                        Ok(Err(reason)) => setup::warn(&reason),
                        Err(error) => setup::warn(&error.to_string()),
                    }
                }
                if is_no(&answer) {
                    let prompt = "Why not? The model is told (Enter for no reason): ".to_owned();
                    let reason = Keyboard::ask(prompt).await;
                    return rejected(reason.as_deref().unwrap_or_default());
                }
            }
        })
    }
}

/// The text as the person's editor left it.
fn edited(text: &str) -> Result<String, String> {
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(std::env::var_os);
    let editor = editor.unwrap_or_else(|| "vi".into());
    let failed = |error: std::io::Error| format!("{} cannot be used: {error}", editor.display());
    let file = tempfile::Builder::new()
        .prefix("heddle-edit-")
        .suffix(".py")
        .tempfile()
        .map_err(failed)?;
    std::fs::write(file.path(), text).map_err(failed)?;
    // Code may have put a program of that name where it works, or into an environment that is active.
    let precautions = setup::precautions_with(std::iter::empty());
    // As a shell splits it: EDITOR may hold options.
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", "exec $0 \"$1\""])
        .env("PATH", python::path_outside(&precautions))
        .arg(&editor)
        .arg(file.path())
        .status()
        .map_err(failed)?;
    match status.success() {
        true => std::fs::read_to_string(file.path()).map_err(failed),
        false => Err(format!(
            "{} ended with {status}, so nothing is taken",
            editor.display()
        )),
    }
}

fn show(question: &Question) {
    let style = anstyle::AnsiColor::Yellow.on_default().bold();
    let mut err = anstream::stderr();
    let what = escape_line(&question.what);
    let details = visible(&question.details, terminal::width());
    // Colours that output has left in force end here. A question that cannot be shown is answered with no by the end of
    // input.
    let open = before_question();
    let _ = write!(err, "{open}\x1b[0m\n{style}? {what}{style:#}\n{details}");
}

/// Empty lines in a row, and blanks in a row, of which more are not shown one by one.
const MOST_EMPTY: usize = 5;
const MOST_BLANKS: usize = 80;
/// Lines from which on the first ones may have left the screen.
const MANY_LINES: usize = 30;

/// A text as it is asked about: nothing of it steers the terminal, or moves another part of it out of sight.
fn visible(text: &str, width: usize) -> String {
    let text = escape(text);
    let text = text.trim_end();
    let mut out = String::new();
    let mut empty: Vec<&str> = Vec::new();
    for line in text.lines() {
        // With the mark that it has where changes are shown.
        if matches!(line.trim(), "" | "+" | "-") {
            empty.push(line);
            continue;
        }
        match empty.len() {
            0..=MOST_EMPTY => empty
                .drain(..)
                .for_each(|line| out += &format!("  {line}\n")),
            many => out += &format!("  [… {many} empty lines …]\n"),
        }
        empty.clear();
        let rows = terminal::rows(&without_gaps(line), width.saturating_sub(3).max(10));
        for (number, row) in rows.iter().enumerate() {
            // A row that goes on is no line of Heddle's.
            let mark = if number == 0 { "  " } else { "↳ " };
            out += &format!("{mark}{row}\n");
        }
    }
    let lines = text.lines().count();
    if lines > MANY_LINES {
        out += &format!("  [{lines} lines; the first may be further up]\n");
    }
    out
}

/// A line in which a long run of blanks, which could move the rest out of sight, is counted instead.
fn without_gaps(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let blanks = rest
            .find(|it: char| !it.is_whitespace())
            .unwrap_or(rest.len());
        let count = rest[..blanks].chars().count();
        match count > MOST_BLANKS {
            true => out += &format!("[… {count} blanks …]"),
            false => out += &rest[..blanks],
        }
        rest = &rest[blanks..];
        let word = rest.find(char::is_whitespace).unwrap_or(rest.len());
        out += &rest[..word];
        rest = &rest[word..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_the_code_is_out_of_sight() {
        assert_eq!(
            visible("a = 1\n\n\nb = 2\x1b[8m # \u{202e}x\n", 80),
            "  a = 1\n  \n  \n  b = 2\\x1b[8m # \\u202ex\n"
        );
        let hidden = format!("evil(){}x = 1{};evil()", "\n".repeat(1001), " ".repeat(500));
        assert_eq!(
            visible(&hidden, 80),
            "  evil()\n  [… 1000 empty lines …]\n  x = 1[… 500 blanks …];evil()\n  [1002 lines; the first may be further \
             up]\n"
        );
        let text = format!("-a\n{}-b\n", "+\n".repeat(50));
        assert!(visible(&text, 80).contains("[… 50 empty lines …]"));
        // A row that the terminal begins is marked, too.
        assert_eq!(
            visible("x = 1234567890 # Allow it?", 20),
            "  x = 1234567890 # \n↳ Allow it?\n"
        );
    }
}
