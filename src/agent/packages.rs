//! What a cell lacks: packages that it imports or asks pip for, installed outside of the kernel when a person agrees.

use std::collections::BTreeMap;

use super::approval::{Decision, Kind, Question};
use super::code_interpreter::executor;
use super::{Agent, AgentError, Scene, notice, pip_lines};
use crate::event::Level;
use crate::executor::Outcome;
use crate::kernel::packages::{Candidate, Packages, PackagesError, Requirement, package_of};

/// The longest reason that a model is told, in characters.
const LONGEST_REASON: usize = 600;

/// What was decided so far.
#[derive(Default)]
pub(super) struct Decided {
    /// A person has allowed whatever else this session needs.
    for_session: bool,
    /// Packages that are not to be had in this round, and why: nobody is asked twice.
    refused: BTreeMap<String, String>,
}

impl Decided {
    /// A new request may bring a new mind.
    pub(super) fn begin_round(&mut self) {
        self.refused.clear();
    }
}

/// What came of a wish.
pub(super) enum Provided {
    /// There is nothing to install: the code may run, in this form.
    Nothing(String),
    /// Something is there that was not before; what the model is told, and the code that may run.
    Installed { report: String, code: String },
    /// What the model is told instead.
    Refused(String),
}

impl Agent {
    /// Does what the lines of a cell that call pip ask for, in every mode: no code of a package is built, and the
    /// environment stays as it is.
    pub(super) async fn provide_asked(
        &mut self,
        scene: &mut Scene<'_>,
        code: &str,
    ) -> Result<Provided, AgentError> {
        let Some(found) = pip_lines::find(code) else {
            return Ok(Provided::Nothing(code.to_owned()));
        };
        let Some(packages) = packages(scene).await? else {
            return Ok(Provided::Nothing(code.to_owned()));
        };
        if let Some(word) = found.refused {
            return Ok(Provided::Refused(format!(
                "The code did not run: of pip install, Heddle takes names of packages alone, and no {word}. Leave that \
                 out."
            )));
        }
        let wishes: Result<Vec<Requirement>, PackagesError> = found
            .wishes
            .iter()
            .map(|wish| Requirement::parse(wish))
            .collect();
        let missing = match wishes {
            Ok(wishes) => packages.missing(&wishes).await,
            Err(error) => Err(error),
        };
        let missing = match missing {
            Ok(missing) => missing,
            Err(error) => {
                return Ok(Provided::Refused(format!("The code did not run: {error}.")));
            }
        };
        if missing.is_empty() {
            return Ok(Provided::Nothing(found.rest));
        }
        let asked = "The code asks pip for it.";
        Ok(
            match self.provide(scene, &packages, &missing, asked).await? {
                Ok(report) => Provided::Installed {
                    report,
                    code: found.rest,
                },
                Err(report) => Provided::Refused(format!("The code did not run. {report}")),
            },
        )
    }

    /// Provides the module that a cell has failed to import, if that is how it failed. A refusal is for the model, too.
    pub(super) async fn provide_missing(
        &mut self,
        scene: &mut Scene<'_>,
        outcome: &Outcome,
    ) -> Result<Option<Provided>, AgentError> {
        let Some(module) = missing_module(outcome) else {
            return Ok(None);
        };
        let (Some(Candidate { name, guessed }), Some(packages)) =
            (package_of(module), packages(scene).await?)
        else {
            return Ok(None);
        };
        let Ok(wish) = Requirement::parse(&name) else {
            return Ok(None);
        };
        let wishes = [wish];
        // Whoever asked for it by another version already has it; its modules have other names.
        if packages
            .missing(&wishes)
            .await
            .is_ok_and(|missing| missing.is_empty())
        {
            return Ok(Some(Provided::Refused(format!(
                "The package {name} is installed, and has no module {module}."
            ))));
        }
        let why = match guessed {
            false => format!("The code imports {module}, which this package brings."),
            true => format!(
                "The code imports {module}. That a package of this name brings it is a guess: make sure that it is \
                 the one that is meant."
            ),
        };
        Ok(Some(
            match self.provide(scene, &packages, &wishes, &why).await? {
                Ok(report) => Provided::Installed {
                    report: format!("{report} Run the code again."),
                    code: String::new(),
                },
                Err(report) => Provided::Refused(report),
            },
        ))
    }

    /// Asks, installs, shows. What the model is told: of success, or of failure.
    async fn provide(
        &mut self,
        scene: &mut Scene<'_>,
        packages: &Packages,
        wishes: &[Requirement],
        why: &str,
    ) -> Result<Result<String, String>, AgentError> {
        let names: Vec<String> = wishes.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        let refused = |reason: &str| {
            format!(
                "{names} was not installed: {reason}. Do without it, or say that it cannot be done without it."
            )
        };
        let earlier = wishes
            .iter()
            .find_map(|wish| self.decided.refused.get(&wish.to_string()));
        if let Some(reason) = earlier {
            return Ok(Err(refused(reason)));
        }
        let outcome = match self.leave(scene, &names, why).await? {
            Err(reason) => Err(match reason.trim() {
                "" => "the User does not want it".to_owned(),
                reason => format!("it was not allowed: {reason}"),
            }),
            Ok(()) => {
                let message = format!("Installing {names}");
                scene.sink.emit(notice(Level::Info, &message));
                let mut silent = |_: &str| {};
                let added = tokio::select! {
                    added = packages.add(wishes, &mut silent) => added,
                    () = scene.interrupts.pressed() => return Err(AgentError::Interrupted),
                };
                added.map_err(|error| error.to_string())
            }
        };
        match outcome {
            Ok(added) => {
                let (executor, _) = scene.workbench.executor().await?;
                executor.show_packages();
                let new = added
                    .new
                    .iter()
                    .map(|pin| format!("{} {}", pin.name, pin.version));
                let new: Vec<String> = new.collect();
                let message = format!("Installed {}", new.join(", "));
                scene.sink.emit(notice(Level::Info, &message));
                Ok(Ok(format!("{message}: it can be imported now.")))
            }
            Err(reason) => {
                let reason: String = reason.chars().take(LONGEST_REASON).collect();
                let reason = reason.trim_end_matches('.').to_owned();
                let message = format!("{names} was not installed: {reason}");
                scene.sink.emit(notice(Level::Warning, &message));
                let report = refused(&reason);
                for wish in wishes {
                    self.decided
                        .refused
                        .insert(wish.to_string(), reason.clone());
                }
                Ok(Err(report))
            }
        }
    }

    /// The inner error is a person's reason to refuse.
    async fn leave(
        &mut self,
        scene: &mut Scene<'_>,
        names: &str,
        why: &str,
    ) -> Result<Result<(), String>, AgentError> {
        if self.decided.for_session {
            return Ok(Ok(()));
        }
        let question = Question {
            kind: Kind::Packages,
            what: format!("Install from the package index: {names}"),
            details: format!(
                "{why} Packages that it needs come with it. They become part of this project, for its kernels alone."
            ),
            editable: None,
        };
        let decision = tokio::select! {
            decision = scene.approver.approve(question) => decision,
            () = scene.interrupts.pressed() => return Err(AgentError::Interrupted),
        };
        Ok(match decision {
            Decision::Once | Decision::Edited { .. } => Ok(()),
            Decision::Session => {
                self.decided.for_session = true;
                Ok(())
            }
            Decision::Rejected { reason } => Err(reason),
        })
    }
}

async fn packages(scene: &mut Scene<'_>) -> Result<Option<Packages>, AgentError> {
    let Scene {
        workbench,
        sink,
        interrupts,
        ..
    } = scene;
    let executor = executor(&mut **workbench, &mut **sink, interrupts).await?;
    Ok(executor.packages().cloned())
}

/// The top-level module whose absence ended the cell. A part of a module that is there is no package's to bring.
fn missing_module(outcome: &Outcome) -> Option<&str> {
    let raised = outcome.raised.as_ref()?;
    let name = raised.evalue.strip_prefix("No module named '")?;
    let (name, _) = name.split_once('\'')?;
    (raised.ename == "ModuleNotFoundError" && !name.contains('.')).then_some(name)
}
