//! The agent: a Planner that directs, a CodeInterpreter that writes and runs Python, and the loop between them.
//!
//! Every step is an event. A request costs one call when nothing needs to run, two when one short piece of code
//! settles it (the Planner writes that itself), three and more when it plans: the Planner decides in its first reply.

pub mod approval;
mod code_approval;
mod code_interpreter;
mod fences;
mod lenient_json;
mod memory;
mod packages;
mod pip_lines;
mod planner;
mod reply;
mod stream;
mod thoughts;

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;

use crate::event::{Event, Level, Sink, Status};
use crate::executor::{Executor, Input, Interrupts};
use crate::kernel::KernelError;
use crate::llm::{
    ChatMessage, ChatRequest, LlmError, Provider, Reply, ResponseFormat, StreamEvent,
};
use crate::policy::{Namespace, Policy};
use approval::Approver;
use memory::Thread;

/// Why a request could not be worked on. Code that fails is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Llm(#[from] LlmError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The person stopped it while a model was asked, or a kernel waited for.
    #[error("interrupted")]
    Interrupted,
}

/// What a round may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Tries that may follow a failed one: of code, and of replies that cannot be read.
    pub retries: u32,
    /// Tasks that the Planner may give for one request.
    pub rounds: u32,
    /// Characters of each text that a model reads about a run.
    pub characters: usize,
    /// Characters of the conversation that each role is shown.
    pub context: usize,
    /// What code may do; it is checked before it runs.
    pub policy: Option<Policy>,
    /// When a person is asked before code runs.
    pub approve: approval::When,
    /// How far a round goes.
    pub extent: Extent,
}

/// How far the agent goes with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// A plan is made, and nothing else.
    Plan,
    /// Code is written, and not run.
    Code,
    #[default]
    Run,
}

/// Where code runs. The kernel starts while the first model is still thinking, so it is asked for where it is needed.
pub trait Workbench: Send {
    /// The executor, once its kernel is ready, and what is to be told of that, once.
    fn executor(&mut self) -> BoxFuture<'_, Result<(&mut Executor, Vec<Event>), KernelError>>;
}

/// What a round plays with.
pub struct Scene<'a> {
    /// What the person asked.
    pub request: String,
    pub workbench: &'a mut dyn Workbench,
    pub sink: &'a mut dyn Sink,
    pub input: &'a mut dyn Input,
    pub approver: &'a mut dyn Approver,
    pub interrupts: &'a mut Interrupts,
}

/// The agent of one session, with what it remembers of it.
pub struct Agent {
    llm: Arc<dyn Provider>,
    limits: Limits,
    planner_prompt: String,
    interpreter_prompt: String,
    planner: Thread,
    interpreter: Thread,
    /// Of the last cell of this round.
    execution_count: Option<u64>,
    /// A person has allowed all further code of the session.
    code_allowed: bool,
    /// The Planner's model is not held to JSON any more: it wrote empty objects.
    in_words: bool,
    decided: packages::Decided,
    /// What the code of the session may have named.
    namespace: Namespace,
}

impl Agent {
    /// `environment` tells the models where the code runs and what it may do.
    pub fn new(llm: Arc<dyn Provider>, limits: Limits, environment: &str) -> Agent {
        let (planner, interpreter) = (Thread::new(limits.context), Thread::new(limits.context));
        Agent {
            llm,
            limits,
            planner_prompt: planner::prompt(environment),
            interpreter_prompt: code_interpreter::prompt(environment),
            planner,
            interpreter,
            execution_count: None,
            code_allowed: false,
            in_words: false,
            decided: packages::Decided::default(),
            namespace: Namespace::default(),
        }
    }

    /// Goes on with another model, or other limits.
    pub fn equip(&mut self, llm: Arc<dyn Provider>, limits: Limits) {
        self.planner.set_budget(limits.context);
        self.interpreter.set_budget(limits.context);
        self.llm = llm;
        self.limits = limits;
    }

    /// Works on a request until it is answered. `notes` tell the Planner about files that came with it.
    ///
    /// # Errors
    /// When the model or the kernel cannot be had; the round has then ended without an answer.
    pub async fn ask(&mut self, mut scene: Scene<'_>, notes: &str) -> Result<Status, AgentError> {
        let before = (self.planner.clone(), self.interpreter.clone());
        self.planner.told(format!("User: {}{notes}", scene.request));
        let started = Instant::now();
        self.execution_count = None;
        self.decided.begin_round();
        let worked = self.plan(&mut scene).await;
        let status = match &worked {
            Ok(status) => *status,
            Err(AgentError::Interrupted) => Status::Interrupted,
            Err(_) => Status::Error,
        };
        if status == Status::Interrupted {
            self.planner.told("The User interrupted this.");
        }
        if let Err(AgentError::Llm(LlmError::TooLong { .. })) = &worked {
            // Kept, it would make every later request too long as well.
            (self.planner, self.interpreter) = before;
            let left_out = "The request that was too long is left out of the conversation.";
            scene.sink.emit(notice(Level::Info, left_out));
        }
        if let Err(error @ (AgentError::Llm(_) | AgentError::Kernel(_))) = &worked {
            scene.sink.emit(notice(Level::Error, &error.to_string()));
        }
        scene.sink.emit(Event::Done {
            status,
            execution_count: self.execution_count,
            seconds: started.elapsed().as_secs_f64(),
        });
        match worked {
            Err(AgentError::Interrupted) | Ok(_) => Ok(status),
            Err(error) => Err(error),
        }
    }

    /// Remembers a round of an earlier time: what was asked and answered, and the code that ran with its report.
    pub fn remember(&mut self, request: &str, cells: &[(String, String)], answer: Option<&str>) {
        self.planner.told(format!("User: {request}"));
        for (code, report) in cells {
            self.interpreter.told(format!("Task: {request}"));
            self.interpreter.said(format!("```python\n{code}\n```"));
            self.interpreter.told(report.clone());
        }
        self.planner
            .said(answer.unwrap_or("(This was not answered.)"));
    }

    /// Tells both roles something that happened between two requests.
    pub fn inform(&mut self, news: &str) {
        self.planner.told(news);
        self.interpreter.told(news);
    }

    /// Asks a model for one reply. `on_text` gets each piece, and `None` where the reply begins anew.
    async fn chat(
        &self,
        scene: &mut Scene<'_>,
        purpose: &str,
        messages: Vec<ChatMessage>,
        response_format: Option<ResponseFormat>,
        mut on_text: impl FnMut(&mut dyn Sink, Option<&str>) + Send,
    ) -> Result<Reply, AgentError> {
        let request = ChatRequest {
            messages,
            response_format,
            purpose: purpose.to_owned(),
        };
        let sink = &mut *scene.sink;
        let mut on_event = |event: StreamEvent<'_>| match event {
            StreamEvent::Text(text) => on_text(sink, Some(text)),
            StreamEvent::Restart { reason } => {
                on_text(sink, None);
                sink.emit(notice(Level::Warning, reason));
            }
            StreamEvent::Notice(text) => sink.emit(notice(Level::Info, text)),
        };
        let reply = tokio::select! {
            reply = self.llm.chat(&request, &mut on_event) => reply?,
            () = scene.interrupts.pressed() => return Err(AgentError::Interrupted),
        };
        if let Some(usage) = reply.usage {
            scene.sink.emit(Event::Usage {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
            });
        }
        Ok(reply)
    }
}

/// What a Planner needs to know of a kernel that others work in too: its variables and files.
pub async fn state_of(executor: &Executor) -> String {
    code_interpreter::state_of(executor).await
}

fn notice(level: Level, message: &str) -> Event {
    Event::Notice {
        level,
        message: message.to_owned(),
    }
}
