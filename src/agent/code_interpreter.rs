//! The CodeInterpreter: writes Python for one task, runs it, and mends it while it fails.

use super::code_approval::Leave;
use super::packages::Provided;
use super::reply::{self, CodeReply, Fault};
use super::stream::{FenceStream, FieldStream};
use super::{Agent, AgentError, Extent, Scene, Workbench};
use crate::event::{Event, Part, Sink, Status};
use crate::executor::clip::clip;
use crate::executor::{Executor, Interrupts, Outcome, Variable};

const PROMPT: &str = include_str!("../../config/prompts/code_interpreter.md");

/// The most variables and files that a task names.
const MOST_LISTED: usize = 40;

/// Tries that packages may earn a task: what was missing is not the code's fault.
const MOST_EARNED: u32 = 5;

/// The system message, the same in every request of a session.
pub(super) fn prompt(environment: &str) -> String {
    PROMPT.replace("{environment}", environment)
}

/// What one try led to.
enum Tried {
    Step(Step),
    Failed(String),
    /// It failed for want of a package that is there now.
    Provided(String),
}

/// What a task led to.
pub(super) enum Step {
    /// What the Planner is told.
    Report(String),
    /// The code is written, which is all that was wanted.
    Written,
    /// The person stopped it.
    Interrupted,
}

impl Agent {
    /// Does one task. `code` may hold a first attempt that somebody else wrote.
    pub(super) async fn interpret(
        &mut self,
        scene: &mut Scene<'_>,
        task: String,
        code: String,
    ) -> Result<Step, AgentError> {
        let state = self.state(scene).await?;
        self.interpreter.told(format!("Task: {task}\n\n{state}"));
        let mut written = (!code.trim().is_empty()).then_some(CodeReply::Code {
            thought: String::new(),
            code,
        });
        let (mut attempt, mut earned) = (0, 0);
        // The code of the try before.
        let mut before: Option<String> = None;
        loop {
            attempt += 1;
            let reply = match written.take() {
                Some(reply) => {
                    if let CodeReply::Code { code, .. } = &reply {
                        self.interpreter.said(format!("```python\n{code}\n```"));
                    }
                    Ok(reply)
                }
                None => self.write_code(scene).await?,
            };
            let failure = match reply {
                Ok(CodeReply::Text(text)) => return Ok(Step::Report(text)),
                Ok(CodeReply::Code { thought, code }) if self.limits.extent == Extent::Code => {
                    scene.sink.emit(Event::Code {
                        code,
                        thought,
                        attempt,
                    });
                    return Ok(Step::Written);
                }
                Ok(CodeReply::Code { thought, code }) => {
                    let last = before.replace(code.clone());
                    let last = last.as_deref();
                    match self.try_code(scene, code, thought, attempt, last).await? {
                        Tried::Step(step) => return Ok(step),
                        Tried::Failed(report) => report,
                        Tried::Provided(report) => {
                            earned = MOST_EARNED.min(earned + 1);
                            report
                        }
                    }
                }
                Err(fault) => {
                    let reason = format!("{fault} Reply with one fenced python block.");
                    self.interpreter.told(reason.clone());
                    reason
                }
            };
            if attempt > self.limits.retries + earned {
                return Ok(Step::Report(format!(
                    "I tried {attempt} times and could not do it. The last try:\n{failure}"
                )));
            }
        }
    }

    /// Runs code, with the packages that it asks for, or lacks, provided where that is allowed.
    async fn try_code(
        &mut self,
        scene: &mut Scene<'_>,
        code: String,
        thought: String,
        attempt: u32,
        before: Option<&str>,
    ) -> Result<Tried, AgentError> {
        if let Some(reasons) = self.refuse(scene, &code, &thought, attempt) {
            return Ok(Tried::Failed(reasons));
        }
        let code = match self.leave_to_run(scene, code.clone(), before).await? {
            Leave::Run(code) => code,
            Leave::Refused(reasons) => {
                self.not_run(scene, &code, &thought, attempt, "NotAllowed", &reasons);
                return Ok(Tried::Failed(reasons));
            }
        };
        let (code, installed) = match self.provide_asked(scene, &code).await? {
            Provided::Nothing(code) => (code, None),
            Provided::Installed { report, code } => (code, Some(report)),
            Provided::Refused(report) => {
                scene.sink.emit(Event::Code {
                    code,
                    thought,
                    attempt,
                });
                self.interpreter.told(report.clone());
                return Ok(Tried::Failed(report));
            }
        };
        let outcome = self.execute(scene, &code, thought, attempt).await?;
        let ran = outcome.report(self.limits.characters);
        let missing = self.provide_missing(scene, &outcome).await?;
        let (provided, more) = match missing {
            Some(Provided::Installed { report, .. }) => (true, Some(report)),
            Some(Provided::Refused(report)) => (false, Some(report)),
            Some(Provided::Nothing(_)) | None => (false, None),
        };
        let report: Vec<String> = installed.into_iter().chain([ran]).chain(more).collect();
        let report = report.join("\n\n");
        self.interpreter.told(report.clone());
        Ok(match outcome.status {
            Status::Ok => Tried::Step(Step::Report(format!(
                "I ran:\n```python\n{code}\n```\n{report}"
            ))),
            Status::Interrupted if !outcome.timed_out => Tried::Step(Step::Interrupted),
            // Another try would run after this one.
            Status::Interrupted if outcome.queued => Tried::Step(Step::Report(report)),
            _ if provided => Tried::Provided(report),
            _ => Tried::Failed(report),
        })
    }

    /// Asks for code; the inner error says what cannot be read in the reply.
    async fn write_code(
        &mut self,
        scene: &mut Scene<'_>,
    ) -> Result<Result<CodeReply, Fault>, AgentError> {
        let messages = self.interpreter.request(&self.interpreter_prompt);
        let mut form = Form::default();
        let reply = self
            .chat(scene, "code_interpreter", messages, None, |sink, piece| {
                let Some(piece) = piece else {
                    form = Form::default();
                    return;
                };
                form.push(piece, |text| {
                    sink.emit(Event::Delta {
                        of: Part::Code,
                        text: text.to_owned(),
                    });
                });
            })
            .await?;
        let read = reply::code(&reply.text, reply.is_cut());
        self.interpreter.said(reply.text);
        Ok(read)
    }

    /// Checks code before it runs. What the policy forbids in it is told to the model and given back; to the events it
    /// is a cell that failed.
    fn refuse(
        &mut self,
        scene: &mut Scene<'_>,
        code: &str,
        thought: &str,
        attempt: u32,
    ) -> Option<String> {
        let policy = self.limits.policy.as_ref()?;
        let findings = self.namespace.check(policy, code);
        if findings.is_empty() {
            return None;
        }
        let lines = findings.iter().map(|finding| format!("line {finding}"));
        let reasons = format!(
            "The code was not run, because it is not allowed here:{}",
            listed(lines.collect())
        );
        let reasons = clip(&reasons, self.limits.characters);
        self.not_run(
            scene,
            code,
            thought,
            attempt,
            "CodeVerificationError",
            &reasons,
        );
        Some(reasons)
    }

    /// Tells everybody of code that was not run, and why.
    fn not_run(
        &mut self,
        scene: &mut Scene<'_>,
        code: &str,
        thought: &str,
        attempt: u32,
        ename: &str,
        reasons: &str,
    ) {
        scene.sink.emit(Event::Code {
            code: code.to_owned(),
            thought: thought.to_owned(),
            attempt,
        });
        scene.sink.emit(Event::Error {
            ename: ename.to_owned(),
            evalue: reasons.to_owned(),
            traceback: Vec::new(),
        });
        scene.sink.emit(Event::Executed {
            status: Status::Error,
            execution_count: None,
            seconds: 0.0,
        });
        self.interpreter.told(reasons.to_owned());
    }

    async fn execute(
        &mut self,
        scene: &mut Scene<'_>,
        code: &str,
        thought: String,
        attempt: u32,
    ) -> Result<Outcome, AgentError> {
        let Scene {
            workbench,
            sink,
            input,
            interrupts,
            ..
        } = scene;
        let executor = executor(&mut **workbench, &mut **sink, interrupts).await?;
        sink.emit(Event::Code {
            code: code.to_owned(),
            thought,
            attempt,
        });
        let outcome = executor
            .run(code, &mut **sink, &mut **input, interrupts)
            .await?;
        self.execution_count = outcome.execution_count.or(self.execution_count);
        Ok(outcome)
    }

    /// The kernel's variables and the working directory's files, in words.
    async fn state(&mut self, scene: &mut Scene<'_>) -> Result<String, AgentError> {
        let Scene {
            workbench,
            sink,
            interrupts,
            ..
        } = scene;
        let executor = executor(&mut **workbench, &mut **sink, interrupts).await?;
        tokio::select! {
            state = state_of(executor) => Ok(state),
            () = interrupts.pressed() => Err(AgentError::Interrupted),
        }
    }
}

/// A kernel's variables and its working directory's files, in words.
pub(super) async fn state_of(executor: &Executor) -> String {
    let variables = executor.variables().await;
    let variables: Vec<String> = variables.iter().map(describe).collect();
    let files = executor.files().await;
    let files = files
        .iter()
        .map(|(name, bytes)| format!("{name} ({bytes} bytes)"))
        .collect();
    format!(
        "Variables in the kernel:{}\nFiles in the working directory:{}",
        listed(variables),
        listed(files)
    )
}

/// The executor, with what is to be told of its kernel told. A kernel may take its time to start; a person need not.
pub(super) async fn executor<'a>(
    workbench: &'a mut dyn Workbench,
    sink: &mut dyn Sink,
    interrupts: &mut Interrupts,
) -> Result<&'a mut Executor, AgentError> {
    let (executor, news) = tokio::select! {
        ready = workbench.executor() => ready?,
        () = interrupts.pressed() => return Err(AgentError::Interrupted),
    };
    news.into_iter().for_each(|event| sink.emit(event));
    Ok(executor)
}

/// A reply whose form shows in its first character: JSON, or prose with a fenced block.
#[derive(Default)]
enum Form {
    #[default]
    Unknown,
    Json(FieldStream),
    Fence(FenceStream),
}

impl Form {
    fn push(&mut self, piece: &str, mut code: impl FnMut(&str)) {
        if let Form::Unknown = self {
            *self = match piece.trim_start().chars().next() {
                None => return,
                Some('{') => Form::Json(FieldStream::default()),
                Some(_) => Form::Fence(FenceStream::default()),
            };
        }
        match self {
            Form::Json(fields) => fields.push(piece, |field, text| {
                if field == "reply_content" {
                    code(text);
                }
            }),
            Form::Fence(fence) => fence.push(piece, code),
            Form::Unknown => {}
        }
    }
}

fn describe(variable: &Variable) -> String {
    let mut text = format!("{}: {}", variable.name, variable.kind);
    if let Some(signature) = &variable.signature {
        text.push_str(signature);
    }
    if let Some(shape) = &variable.shape {
        let lengths: Vec<String> = shape.iter().map(ToString::to_string).collect();
        text.push_str(&format!(" [{}]", lengths.join(" x ")));
    }
    match &variable.columns {
        Some(columns) => {
            let columns: Vec<String> = columns
                .iter()
                .map(|(name, kind)| format!("{name} {}", kind.as_str().unwrap_or("?")))
                .collect();
            text.push_str(&format!(" columns {}", columns.join(", ")));
        }
        None if !variable.summary.is_empty() => text.push_str(&format!(" = {}", variable.summary)),
        None => {}
    }
    text
}

fn listed(lines: Vec<String>) -> String {
    if lines.is_empty() {
        return " none".into();
    }
    let more = lines.len().saturating_sub(MOST_LISTED);
    let mut text: String = lines
        .iter()
        .take(MOST_LISTED)
        .map(|line| format!("\n- {line}"))
        .collect();
    if more > 0 {
        text.push_str(&format!("\n- and {more} more"));
    }
    text
}
