//! Asks the person at the terminal for leave.

use std::io::{IsTerminal, Write};

use futures_util::future::BoxFuture;

use super::keyboard::Keyboard;
use super::setup;
use super::terminal::safe;
use crate::agent::approval::{Approver, Decision, Nobody, Question};
use crate::executor::Input;

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
                let answer = Keyboard::new(false).read(prompt, false).await;
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
                    let reason = Keyboard::new(false).read(prompt, false).await;
                    return rejected(reason.as_deref().unwrap_or_default());
                }
            }
        })
    }
}

/// What an answer decides by itself; a reason may follow the no.
fn decision(answer: &str) -> Option<Decision> {
    let answer = answer.trim();
    match answer.to_lowercase().as_str() {
        "y" | "yes" | "是" => return Some(Decision::Once),
        "s" | "session" => return Some(Decision::Session),
        _ => {}
    }
    let (first, reason) = answer.split_once(char::is_whitespace)?;
    is_no(first.trim_end_matches([',', ':'])).then(|| rejected(reason))
}

fn is_no(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "n" | "no" | "否")
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
    // As a shell splits it: EDITOR may hold options.
    let status = std::process::Command::new("sh")
        .args(["-c", "exec $0 \"$1\""])
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

fn rejected(reason: &str) -> Decision {
    Decision::Rejected {
        reason: reason.trim().to_owned(),
    }
}

fn show(question: &Question) {
    let style = anstyle::AnsiColor::Yellow.on_default().bold();
    let mut err = anstream::stderr();
    let what = safe(&question.what);
    let details = safe(&question.details);
    let details: String = details.lines().map(|line| format!("  {line}\n")).collect();
    // A question that cannot be shown is answered with no by the end of input.
    let _ = writeln!(err, "\n{style}? {what}{style:#}\n{}", details.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_word_decides_and_nothing_else_does() {
        assert_eq!(decision(" Y "), Some(Decision::Once));
        assert_eq!(decision("s"), Some(Decision::Session));
        assert_eq!(decision("no, use csv"), Some(rejected("use csv")));
        for unclear in ["", "yep", "n", "maybe later", "ys"] {
            assert_eq!(decision(unclear), None, "{unclear}");
        }
    }
}
