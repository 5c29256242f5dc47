//! What this machine can do, found out and explained: each check says how it is, and what to type to better it.

mod configuration;
mod leftovers;
mod machine;
mod model;
mod trial;

use serde::Serialize;

use crate::config::Survey;
use crate::kernel::container::Surroundings;
use crate::kernel::python::Precautions;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// It works, but not as well as it could.
    Warn,
    /// Something that was asked for does not work.
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, in a word or two.
    pub name: &'static str,
    pub verdict: Verdict,
    /// How it is.
    pub found: String,
    /// The next command to type, or what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Check {
    fn pass(name: &'static str, found: impl Into<String>) -> Check {
        Check::new(name, Verdict::Pass, found, None)
    }

    fn warn(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Check {
        Check::new(name, Verdict::Warn, found, Some(next.into()))
    }

    fn fail(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Check {
        Check::new(name, Verdict::Fail, found, Some(next.into()))
    }

    fn new(
        name: &'static str,
        verdict: Verdict,
        found: impl Into<String>,
        next: Option<String>,
    ) -> Check {
        Check {
            name,
            verdict,
            found: found.into(),
            next,
        }
    }
}

/// What to look at.
pub struct Examination<'a> {
    /// The settings, and what is wrong with them.
    pub survey: &'a Survey,
    /// What this machine's interpreters are judged by.
    pub precautions: Precautions,
    /// Where sessions are kept.
    pub workspace: Option<std::path::PathBuf>,
    /// Whether the model is asked for a word, which costs a token.
    pub ask_model: bool,
    /// Whether leftovers are removed.
    pub fix: bool,
}

/// What is told while all is looked at.
pub enum News<'a> {
    Check(Check),
    /// What is done at the moment, where it takes long.
    Step(&'a str),
}

/// Whom it is told to.
pub type Tell<'a> = &'a mut (dyn FnMut(News<'_>) + Send);

/// Looks at everything; each check goes to `tell` as soon as it is known. Takes as long as a kernel's start, and where
/// there is no Python environment yet, as long as to make one.
pub async fn examine(examination: Examination<'_>, tell: Tell<'_>) {
    let survey = examination.survey;
    let settings = &survey.loaded.settings;
    let mut all = |checks: Vec<Check>| checks.into_iter().for_each(|it| tell(News::Check(it)));
    all(machine::python(&examination.precautions));
    let (engine, checks) = machine::engine(&Surroundings::of_process(), settings).await;
    all(checks);
    all(vec![machine::sandbox(settings).await]);
    all(configuration::files(survey));
    all(vec![model::configured(settings)]);
    match (examination.ask_model, survey.faults.is_empty()) {
        (true, true) => all(vec![model::answers(settings).await]),
        (true, false) => all(vec![model::not_asked()]),
        (false, _) => {}
    }
    if let Some(workspace) = &examination.workspace {
        all(vec![machine::disk(workspace)]);
    }
    all(vec![leftovers::check(&engine, examination.fix).await]);
    trial::run(settings, &examination.precautions, tell).await;
}
