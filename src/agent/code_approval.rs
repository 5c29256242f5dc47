//! Leave to run code: what a person sees of it before it runs.

use similar::TextDiff;

use super::approval::{Decision, Kind, Question, When};
use super::{Agent, AgentError, Scene};
use crate::policy::{Risk, RiskKind};

/// What became of the question.
pub(super) enum Leave {
    /// Run this: as it was written, or as the person has edited it.
    Run(String),
    /// Do not; the text tells the model.
    Refused(String),
}

impl Agent {
    /// Asks for leave to run code where that is wanted, showing it, or what differs from the try `before`.
    pub(super) async fn leave_to_run(
        &mut self,
        scene: &mut Scene<'_>,
        code: String,
        before: Option<&str>,
    ) -> Result<Leave, AgentError> {
        let wanted = match self.limits.approve {
            When::Never => false,
            When::Risky | When::Always => !self.code_allowed,
        };
        if !wanted {
            return Ok(Leave::Run(code));
        }
        let policy = self.limits.policy.as_ref();
        let risks = self.namespace.risks(policy, &code);
        if risks.is_empty() && self.limits.approve == When::Risky {
            return Ok(Leave::Run(code));
        }
        let question = Question {
            kind: Kind::Code,
            what: title(&risks),
            details: shown(&code, before),
            editable: Some(code.clone()),
        };
        let decision = tokio::select! {
            decision = scene.approver.approve(question) => decision,
            () = scene.interrupts.pressed() => return Err(AgentError::Interrupted),
        };
        Ok(match decision {
            Decision::Once => Leave::Run(code),
            Decision::Session => {
                self.code_allowed = true;
                Leave::Run(code)
            }
            Decision::Edited { text } => {
                self.namespace.learn(&text);
                Leave::Run(text)
            }
            Decision::Rejected { reason } if reason.is_empty() => {
                Leave::Refused("The code was not run: the User did not allow it.".into())
            }
            Decision::Rejected { reason } => Leave::Refused(format!(
                "The code was not run. It was not allowed: {reason}"
            )),
        })
    }
}

fn title(risks: &[Risk]) -> String {
    if risks.is_empty() {
        return "Run this code".into();
    }
    let of = |risk: &Risk| {
        let kind = match risk.kind {
            RiskKind::Shell => "a shell command",
            RiskKind::PackageInstall => "a package install",
            RiskKind::FileDeletion => "deletes files",
            RiskKind::Network => "uses the network",
            RiskKind::WriteOutside => "writes outside its folder",
            RiskKind::Finding => "against the policy",
        };
        format!("line {}: {kind} ({})", risk.line, risk.what)
    };
    let all: Vec<String> = risks.iter().map(of).collect();
    format!("Run this code? {}", all.join("; "))
}

/// The code, or for a further try what is new in it.
fn shown(code: &str, before: Option<&str>) -> String {
    match before {
        None => code.to_owned(),
        Some(before) => TextDiff::from_lines(before, code)
            .unified_diff()
            .context_radius(3)
            .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_try_is_shown_by_what_differs() {
        let before = "import os\nx = 1\nprint(x)\n";
        let now = "import os\nx = 2\nprint(x)\n";
        let shown = shown(now, Some(before));
        assert!(
            shown.contains("-x = 1\n") && shown.contains("+x = 2\n"),
            "{shown}"
        );
    }

    #[test]
    fn the_title_names_each_risk_with_its_line() {
        let risks = crate::policy::risks(None, "x = 1\nimport shutil; shutil.rmtree('a')\n");
        let title = title(&risks);
        assert!(title.contains("line 2: deletes files"), "{title}");
    }
}
