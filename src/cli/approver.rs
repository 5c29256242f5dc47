//! Asks the person at the terminal for leave.

use std::io::{IsTerminal, Write};

use futures_util::future::BoxFuture;

use super::keyboard::Keyboard;
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
                let prompt = "Allow it? [y] once  [s] for this session  [n] no: ".to_owned();
                // The end of input is nobody's yes.
                let answer = Keyboard::new(false).read(prompt, false).await;
                let Some(answer) = answer else {
                    return rejected("");
                };
                if let Some(decision) = decision(&answer) {
                    return decision;
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
    // A question that cannot be shown is answered with no by the end of input.
    let _ = writeln!(err, "\n{style}? {what}{style:#}\n  {details}");
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
