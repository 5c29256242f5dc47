//! How a cell went, and the text that a model reads about it.

use super::artifacts::Artifact;
use super::clip::clip;
use super::runtime::Table;
use crate::event::Status;

/// The most of an exception's own message, in characters.
const MESSAGE: usize = 800;
/// The most files that are named.
const FILES: usize = 20;

/// What a cell raised.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Raised {
    pub ename: String,
    pub evalue: String,
    /// Without colours.
    pub traceback: String,
}

/// How a cell went. Texts are cut to the model's budget already.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub status: Status,
    pub execution_count: Option<u64>,
    /// From the request to the end, without the time spent waiting for a person.
    pub seconds: f64,
    pub stdout: String,
    pub stderr: String,
    /// The value of the last expression, and values that were displayed, as text.
    pub values: String,
    pub table: Option<Table>,
    pub raised: Option<Raised>,
    /// Set when the kernel ended, with the reason; its variables are lost.
    pub died: Option<String>,
    /// Set when the kernel had ended before this cell, which ran in a new one: how the old one ended.
    pub lost: Option<String>,
    /// A time limit ended it, or the wait for its turn.
    pub timed_out: bool,
    /// The kernel had not begun with it when it was given up, and still will.
    pub queued: bool,
    pub artifacts: Vec<Artifact>,
    /// What the kernel asks of whoever shows it (messaging: Payloads).
    pub payload: Vec<serde_json::Value>,
}

impl Outcome {
    /// Of a cell about which nothing is known yet.
    pub(super) fn new() -> Outcome {
        Outcome {
            status: Status::Ok,
            execution_count: None,
            seconds: 0.0,
            stdout: String::new(),
            stderr: String::new(),
            values: String::new(),
            table: None,
            raised: None,
            died: None,
            lost: None,
            timed_out: false,
            queued: false,
            artifacts: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// The outcome in words for a model, within about `budget` characters. The exception's line is always there.
    pub fn report(&self, budget: usize) -> String {
        let mut parts = vec![match self.status {
            Status::Ok => "The code ran without an error.".to_owned(),
            Status::Error => "The code failed.".to_owned(),
            Status::Interrupted if self.queued => {
                "The code has not begun: the kernel is busy with an earlier cell, such as another client's. The code \
                 is still queued there and runs when its turn comes, unseen. Do not send it again."
                    .to_owned()
            }
            Status::Interrupted if self.timed_out => {
                "The code was interrupted: it ran for longer than a cell may.".to_owned()
            }
            Status::Interrupted => "The user interrupted the code.".to_owned(),
        }];
        if let Some(reason) = &self.lost {
            parts.push(format!(
                "Before this code ran, the kernel {reason}. The code ran in a new one: all earlier variables and \
                 imports are lost, files are kept."
            ));
        }
        if let Some(reason) = &self.died {
            parts.push(format!(
                "The kernel {reason}. A new one is started: all variables and imports are lost, files are kept."
            ));
        }
        // Texts that were cut on the way say where the whole is; cut again, they would not.
        let mut add = |title: &str, text: &str| {
            if !text.trim().is_empty() {
                parts.push(format!("{title}:\n{}", text.trim_end()));
            }
        };
        add("Printed", &self.stdout);
        add("Printed to stderr", &self.stderr);
        match &self.table {
            Some(table) => add("Value, a table", &clip(&describe(table), budget)),
            None => add("Value", &self.values),
        }
        if let Some(raised) = &self.raised {
            add("Traceback", &clip(&raised.traceback, budget));
            parts.push(format!(
                "{}: {}",
                raised.ename,
                clip(&raised.evalue, MESSAGE)
            ));
        }
        if !self.artifacts.is_empty() {
            let named = self.artifacts.iter().take(FILES).map(|artifact| {
                let name = artifact.path.file_name().unwrap_or_default();
                format!("- {} ({})", name.to_string_lossy(), artifact.mime)
            });
            let mut lines: Vec<String> = named.collect();
            if self.artifacts.len() > FILES {
                lines.push(format!("- and {} more", self.artifacts.len() - FILES));
            }
            parts.push(format!("Files written:\n{}", lines.join("\n")));
        }
        parts.join("\n\n")
    }
}

fn describe(table: &Table) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|(name, kind)| format!("{name}: {}", kind.as_str().unwrap_or("?")))
        .collect();
    format!(
        "{} rows; columns {}\nFirst rows:\n{}",
        table.rows,
        columns.join(", "),
        table.head
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::clip::Clip;

    #[test]
    fn the_exception_survives_any_traceback() {
        let failed = Outcome {
            status: Status::Error,
            raised: Some(Raised {
                ename: "KeyError".into(),
                evalue: "'月份'".into(),
                traceback: "deep\n".repeat(100_000),
            }),
            ..Outcome::new()
        };
        let report = failed.report(1000);
        assert!(report.ends_with("KeyError: '月份'"), "{report}");
        assert!(report.chars().count() < 1500);
    }

    #[test]
    fn the_pointer_to_the_whole_text_survives() {
        let folder = tempfile::tempdir().unwrap();
        let mut stdout = Clip::new(1000, Some(folder.path().join("1-stdout.txt")));
        stdout.push(&"line\n".repeat(100_000));
        let stdout = stdout.finish(folder.path());
        let report = Outcome {
            stdout,
            ..Outcome::new()
        }
        .report(1000);
        assert!(
            report.contains("the whole text is in 1-stdout.txt"),
            "{report}"
        );
        assert!(report.chars().count() < 1500);
    }

    #[test]
    fn a_death_says_that_variables_are_lost_and_files_are_not() {
        let dead = Outcome {
            status: Status::Error,
            died: Some("was killed by signal 9 (SIGKILL)".into()),
            ..Outcome::new()
        };
        let report = dead.report(1000);
        assert!(report.contains("signal 9") && report.contains("variables and imports are lost"));
    }

    #[test]
    fn code_that_was_given_up_before_it_began_is_not_told_as_interrupted() {
        let queued = Outcome {
            status: Status::Interrupted,
            timed_out: true,
            queued: true,
            ..Outcome::new()
        };
        let report = queued.report(1000);
        assert!(report.contains("still queued") && !report.contains("was interrupted"));
    }
}
