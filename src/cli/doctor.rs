//! `heddle doctor`: what this machine can do, and what to type to better it.

use std::io::Write;

use clap::Args;

use super::error::{CliError, Exit};
use super::mark::{Mark, line};
use super::setup::{self, Steps};
use super::{Global, KernelArgs};
use crate::config;
use crate::doctor::{Check, Examination, News, Verdict, examine};
use crate::printable::escape;

#[derive(Args)]
pub struct Doctor {
    /// Ask the model for one token, to see that the key is accepted and the model known
    #[arg(long)]
    model: bool,
    /// Remove what crashed runs left behind
    #[arg(long)]
    fix: bool,
}

impl Doctor {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let mut survey = config::survey(&setup::request(global, &[])?);
        if global.trust {
            let all = survey.loaded.waiting.clone();
            survey.loaded.accept(&all);
        }
        let workspace = setup::workspace(&survey.loaded).ok();
        let mut worst = Verdict::Pass;
        let json = global.json;
        let mut steps = None;
        let mut tell = |news: News<'_>| {
            let check = match news {
                News::Check(check) => check,
                News::Step(step) => return steps.get_or_insert_with(Steps::new).show(step),
            };
            // A line that changes is gone before the next that stays.
            steps = None;
            if check.verdict == Verdict::Fail {
                worst = Verdict::Fail;
            }
            let text = match json {
                true => serde_json::to_string(&check).unwrap_or_default() + "\n",
                false => shown(&check),
            };
            // A reader that has gone has all that it wanted; the exit code still says the rest.
            let _ = anstream::stdout().write_all(text.as_bytes());
        };
        let examination = Examination {
            survey: &survey,
            precautions: setup::precautions(&survey.loaded, true, &KernelArgs::default()),
            workspace,
            ask_model: self.model,
            fix: self.fix,
        };
        examine(examination, &mut tell).await;
        Ok(match worst {
            Verdict::Fail => Exit::Failed,
            _ => Exit::Done,
        })
    }
}

fn shown(check: &Check) -> String {
    let mark = match check.verdict {
        Verdict::Pass => Mark::Good,
        Verdict::Warn => Mark::Odd,
        Verdict::Fail => Mark::Bad,
    };
    let next = check.next.iter();
    let next = next.map(|next| format!("    → {}\n", escape(next)));
    line(mark, check.name, &check.found) + &next.collect::<String>()
}
