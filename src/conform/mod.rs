//! Does a kernel keep to the Jupyter messaging protocol? A report, in seconds, on any kernel.
//!
//! # Layout
//! - [`subject`]: the kernel that is examined: started, connected to, started anew when a check was its end
//! - [`peer`]: our end of the wire: raw sockets, so that anything can be sent, and all that comes is seen
//! - [`heard`]: what came, as plain JSON; [`observed`]: the rules that hold for every message
//! - [`sample`]: code in the kernel's language
//! - one file a family of checks: [`information`], [`execution`], [`outputs`], [`introspection`], [`stdin`],
//!   [`comms`], [`control`], [`wire`], [`malformed`], [`lifecycle`]
//!
//! Sources: the Jupyter messaging specification 5.4, JEP 65 (`iopub_welcome`), JEP 91 (subshells), JEP 92 (features).

mod comms;
mod control;
mod execution;
mod heard;
mod information;
mod introspection;
mod lifecycle;
mod malformed;
mod observed;
mod outputs;
mod peer;
mod sample;
mod stdin;
mod subject;
mod wire;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::kernel::{KernelError, Options};
use crate::printable::is_unprintable;
use crate::protocol::ConnectionInfo;
use subject::Subject;

/// The longest that one check takes, whatever the kernel does.
const LIMIT: Duration = Duration::from_secs(20);
/// How often a kernel that a check has ended is started again.
const RENEWALS: usize = 6;
/// Characters of what was seen that are reported.
const SEEN: usize = 400;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Fail,
    /// The kernel does not offer it, or it cannot be tried.
    NotSupported,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub family: &'static str,
    /// What the kernel should do.
    pub name: &'static str,
    pub verdict: Verdict,
    /// The same in detail.
    pub expected: &'static str,
    /// What it did, or why it could not be tried. One line, without control characters.
    pub seen: String,
}

/// Which kernel.
pub enum Target {
    /// One to be started, several times if need be.
    Start(Box<Options>),
    /// One that runs. Nothing is tried that could end it.
    Running(Box<ConnectionInfo>),
}

/// What a check found, where it is not what it should be.
enum Flaw {
    Seen(String),
    Unsupported(String),
    /// The connection has ended.
    Gone(String),
}

impl Flaw {
    fn seen(what: impl Into<String>) -> Flaw {
        Flaw::Seen(what.into())
    }

    fn unsupported(why: impl Into<String>) -> Flaw {
        Flaw::Unsupported(why.into())
    }
}

/// What was seen.
type Outcome = Result<String, Flaw>;

/// One thing to try.
struct Trial {
    name: &'static str,
    expected: &'static str,
    run: for<'a> fn(&'a mut Subject) -> BoxFuture<'a, Outcome>,
}

/// Checks that belong together.
struct Family {
    name: &'static str,
    trials: &'static [Trial],
}

/// Makes the table of a family out of lines `name => expected, function`.
macro_rules! family {
    ($family:literal; $($name:literal => $expected:literal, $function:ident;)*) => {
        pub(super) const FAMILY: super::Family = super::Family {
            name: $family,
            trials: &[$(super::Trial {
                name: $name,
                expected: $expected,
                run: |subject| Box::pin($function(subject)),
            },)*],
        };
    };
}
use family;

/// In this order: what watches all messages after those that make the kernel talk, what ends it last.
const FAMILIES: [Family; 10] = [
    information::FAMILY,
    execution::FAMILY,
    outputs::FAMILY,
    introspection::FAMILY,
    stdin::FAMILY,
    comms::FAMILY,
    control::FAMILY,
    wire::FAMILY,
    malformed::FAMILY,
    lifecycle::FAMILY,
];

/// Examines a kernel; each check goes to `tell` as soon as it is known. A check that silences the kernel fails, and
/// the others go on with a new one.
///
/// # Errors
/// When there is no kernel to examine. What it does wrong once it runs is in its checks.
pub async fn examine(target: Target, tell: &mut dyn FnMut(Check)) -> Result<(), KernelError> {
    let mut subject = Subject::of(target).await?;
    let mut renewals = 0;
    let mut usable = true;
    for Family { name, trials } in FAMILIES {
        if name == lifecycle::FAMILY.name {
            // What the other checks did to a kernel must not be held against its end.
            usable &= subject.kernel.is_none();
        }
        for trial in trials {
            if !usable {
                renewals += 1;
                let renewed = match renewals <= RENEWALS {
                    true => subject.renew().await.map_err(|error| error.to_string()),
                    false => Err(format!("it was started anew {RENEWALS} times")),
                };
                if let Err(reason) = renewed {
                    tell(Check {
                        family: name,
                        name: "goes on after that",
                        verdict: Verdict::Fail,
                        expected: "a kernel that can be examined further",
                        seen: clean(&reason),
                    });
                    return Ok(());
                }
            }
            let (verdict, seen) = attempt(trial, &mut subject).await;
            tell(Check {
                family: name,
                name: trial.name,
                verdict,
                expected: trial.expected,
                seen: clean(&seen),
            });
            usable = verdict != Verdict::Fail || subject.answers().await;
        }
    }
    subject.end().await;
    Ok(())
}

async fn attempt(trial: &Trial, subject: &mut Subject) -> (Verdict, String) {
    subject.peer.forget();
    match tokio::time::timeout(LIMIT, (trial.run)(subject)).await {
        Ok(Ok(seen)) => (Verdict::Pass, seen),
        Ok(Err(Flaw::Seen(seen))) => (Verdict::Fail, seen),
        Ok(Err(Flaw::Unsupported(why))) => (Verdict::NotSupported, why),
        Ok(Err(Flaw::Gone(how))) => (Verdict::Fail, subject.obituary(how).await),
        Err(_) => {
            let seconds = LIMIT.as_secs();
            (Verdict::Fail, format!("it was not over after {seconds} s"))
        }
    }
}

/// One line of bounded length without anything that a terminal would obey.
fn clean(text: &str) -> String {
    let plain = |character: char| match is_unprintable(character) {
        true => ' ',
        false => character,
    };
    let text = without_colours(text);
    let mut line: String = text.chars().take(SEEN).map(plain).collect();
    if text.chars().nth(SEEN).is_some() {
        line.push('…');
    }
    line
}

/// Text without the sequences that colour it: kernels colour values, errors and what they print at their end.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest));
    rest.fold(first, |text, part| text + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_off() {
        assert_eq!(without_colours("\u{1b}[33m42\u{1b}[39m"), "42");
        assert_eq!(without_colours("42"), "42");
        assert_eq!(without_colours("\u{1b}[1"), "1");
    }

    #[test]
    fn what_a_kernel_says_is_one_line_of_bounded_length() {
        assert_eq!(clean("a\u{1b}]2J\nb\u{9b}c"), "a ]2J b c");
        assert_eq!(clean(&"é".repeat(SEEN + 1)), "é".repeat(SEEN) + "…");
        assert_eq!(clean(&"é".repeat(SEEN)), "é".repeat(SEEN));
    }

    #[test]
    fn no_two_checks_have_one_name() {
        let trials = FAMILIES.iter().flat_map(|family| family.trials);
        let mut names: Vec<_> = trials.map(|trial| trial.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
