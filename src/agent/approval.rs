//! Leave for what a person should decide.

use futures_util::future::BoxFuture;

/// What leave is asked for. A decision for the session is for everything of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Software from the package index becomes part of the project.
    Packages,
    /// Code is run.
    Code,
}

/// When a person is asked before code runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    #[default]
    Never,
    /// Before code that runs shell commands, installs, deletes files, uses the network, writes outside its folder, or
    /// is against the policy.
    Risky,
    Always,
}

/// What a person is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub kind: Kind,
    /// One line, which names exactly what would be done.
    pub what: String,
    /// What is to be known of it. Text of a model's, or of code's, is foreign text.
    pub details: String,
    /// What the person may change before it is done.
    pub editable: Option<String>,
}

/// What they say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Once,
    /// Yes, and to further questions of this kind, too.
    Session,
    /// Yes, to this text in place of [`Question::editable`].
    Edited {
        text: String,
    },
    Rejected {
        /// In a person's words; the model is told. Empty where they gave none.
        reason: String,
    },
}

/// A person, or whatever decides for one.
pub trait Approver: Send {
    /// Asks, and waits for as long as a person takes. Safe to cancel.
    fn approve(&mut self, question: Question) -> BoxFuture<'_, Decision>;
}

/// Says no, because nobody is there to ask.
pub struct Nobody;

impl Approver for Nobody {
    fn approve(&mut self, _: Question) -> BoxFuture<'_, Decision> {
        let reason = "nobody is at a terminal who could allow it".to_owned();
        Box::pin(std::future::ready(Decision::Rejected { reason }))
    }
}

/// What an answer, as a person types it, decides by itself; a reason may follow the no.
pub fn decision(answer: &str) -> Option<Decision> {
    let answer = answer.trim();
    match answer.to_lowercase().as_str() {
        "y" | "yes" | "是" => return Some(Decision::Once),
        "s" | "session" => return Some(Decision::Session),
        _ => {}
    }
    let (first, reason) = answer.split_once(char::is_whitespace)?;
    is_no(first.trim_end_matches([',', ':'])).then(|| rejected(reason))
}

/// Whether an answer is a no without a reason.
pub fn is_no(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "n" | "no" | "否")
}

/// A no, for a reason.
pub fn rejected(reason: &str) -> Decision {
    Decision::Rejected {
        reason: reason.trim().to_owned(),
    }
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
