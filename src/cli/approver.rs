//! Asks the person at the terminal for leave.

use std::io::{IsTerminal, Write};

use futures_util::future::BoxFuture;

use super::keyboard::Keyboard;
use super::setup;
use super::terminal::safe;
use crate::agent::approval::{Approver, Decision, Nobody, Question, decision, is_no, rejected};
use crate::executor::Input;
use crate::kernel::python;

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
    let what = safe(&question.what);
    let details = safe(&question.details);
    let details: String = details.lines().map(|line| format!("  {line}\n")).collect();
    // A question that cannot be shown is answered with no by the end of input.
    let _ = writeln!(err, "\n{style}? {what}{style:#}\n{}", details.trim_end());
}
