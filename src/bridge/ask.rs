//! One cell of the agent's, from its request to its reply.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::Backing;
use super::cell::{Cell, Page, clean};
use super::front::Desk;
use super::magic::Wish;
use super::questions::Questions;
use super::relay::{Failed, Relay};
use crate::agent::Extent;
use crate::agent::approval::{Approver, Decision, Question, decision};
use crate::event::Status;
use crate::executor::clip::clip;
use crate::executor::{Executor, Input, Interrupts};
use crate::printable::{escape, escape_line};
use crate::protocol::content::{
    Error, ExecuteInput, ExecuteReply, ExecuteRequest, ExecutionState, ReplyStatus,
};
use crate::protocol::{Channel, Content, Header, RawMessage};
use crate::session::conversation::Conversation;

/// How long the kernel may take to say how many cells it has run.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest part of a failed cell that the agent is given, in characters.
const FAILED_CELL: usize = 8_000;

/// What the agent remembers between two cells of its own.
#[derive(Default)]
pub struct Talk {
    conversation: Option<Conversation>,
    /// Why the variables are gone that it knew, where it has not been told yet.
    lost: Option<String>,
}

impl Talk {
    /// A kernel has ended.
    pub fn lost(&mut self, reason: &str) {
        self.lost = Some(reason.to_owned());
    }

    /// Whether it has not been told of that yet.
    pub fn is_to_tell(&self) -> bool {
        self.lost.is_some()
    }
}

/// What comes back from a cell of the agent's.
#[derive(Default)]
pub struct Ended {
    pub talk: Talk,
    /// None where no kernel is left.
    pub executor: Option<Executor>,
}

/// What it takes to work on one.
pub struct Scene {
    pub wish: Result<Wish, String>,
    pub request: RawMessage,
    /// Whether its `busy` was told.
    pub begun: bool,
    /// Lent to the conversation while it works.
    pub executor: Option<Executor>,
    pub talk: Talk,
    pub backing: Arc<dyn Backing>,
    pub desk: Desk,
    pub relay: Arc<Relay>,
    pub questions: Arc<Questions>,
    pub interrupts: Interrupts,
}

/// Why the cell is an error.
struct Failure {
    ename: &'static str,
    reason: String,
}

impl Failure {
    fn of(error: impl std::fmt::Display) -> Failure {
        Failure {
            ename: "AskError",
            reason: error.to_string(),
        }
    }
}

/// Works on the cell and answers it. One busy, one idle, one reply, whatever the code in between does.
pub async fn run(mut scene: Scene) -> Ended {
    let header: Header = serde_json::from_slice(&scene.request.header).unwrap_or_default();
    let request = match Content::decode("execute_request", &scene.request.content) {
        Content::ExecuteRequest(request) => request,
        _ => ExecuteRequest::default(),
    };
    let desk = scene.desk.clone();
    scene.relay.speak_for(Some(header.msg_id.clone()));
    desk.latest(scene.request.header.clone());
    if !scene.begun {
        desk.publish_state(&scene.request, ExecutionState::Busy);
    }
    let count = Some(next_count(&scene.relay).await);
    desk.publish(
        &scene.request,
        ExecuteInput {
            code: request.code.clone(),
            execution_count: count,
        },
    );
    let mut cell = Cell::new(desk.clone(), scene.request.clone());
    if let Some(executor) = &mut scene.executor {
        executor.act_for(Some(header));
    }
    let worked = match scene.wish.clone() {
        Ok(wish) => work(&mut scene, &wish, &mut cell, request.allow_stdin).await,
        Err(reason) => Err(Failure {
            ename: "UsageError",
            reason,
        }),
    };
    let Scene {
        relay,
        request: message,
        mut executor,
        talk,
        ..
    } = scene;
    if let Some(executor) = &mut executor {
        executor.act_for(None);
    }
    let mut reply = ExecuteReply {
        execution_count: cell.count().or(count),
        ..ExecuteReply::default()
    };
    match worked {
        Ok(()) => {
            if let Some(code) = cell.offered() {
                reply.payload.push(json!({
                    "source": "set_next_input", "text": code, "replace": false,
                }));
            }
        }
        Err(Failure { ename, reason }) => {
            if request.stop_on_error {
                relay.failed();
            }
            let reason = clean(&reason);
            let error = Error {
                traceback: vec![format!("\u{1b}[31m{ename}\u{1b}[0m: {reason}")],
                ename: ename.to_owned(),
                evalue: reason,
            };
            desk.publish(&message, error.clone());
            reply.status = ReplyStatus::Error;
            (reply.ename, reply.evalue, reply.traceback) =
                (error.ename, error.evalue, error.traceback);
        }
    }
    desk.reply(Channel::Shell, &message, reply);
    desk.publish_state(&message, ExecutionState::Idle);
    // Last, as states of the code that ran may come late.
    relay.speak_for(None);
    Ended { talk, executor }
}

async fn work(
    scene: &mut Scene,
    wish: &Wish,
    cell: &mut Cell,
    allow_stdin: bool,
) -> Result<(), Failure> {
    let message = match wish.fix {
        false => wish.request.clone(),
        true => mending(&wish.request, scene.relay.last_failed()).ok_or(Failure {
            ename: "UsageError",
            reason: "no cell has failed here yet, so there is nothing to fix. Ask with %%ask"
                .into(),
        })?,
    };
    let place = scene.backing.place(wish).map_err(Failure::of)?;
    let conversation = match &mut scene.talk.conversation {
        Some(conversation) => {
            conversation.equip(place);
            conversation
        }
        slot => {
            let session = scene.backing.session().map_err(Failure::of)?;
            // Only a front end's restart finds a conversation that has begun. Variables of the person's own are not in
            // its log, and gone all the same.
            if session.earlier().events().next().is_some() {
                scene.talk.lost = Some("was restarted".to_owned());
            }
            let conversation = slot.insert(Conversation::about(place, session));
            conversation.announce(cell);
            conversation
        }
    };
    if let Some(reason) = scene.talk.lost.take() {
        conversation.lost(&reason);
    }
    if let Some(executor) = scene.executor.take() {
        conversation.lend(executor);
    }
    let mut input = Person {
        desk: scene.desk.clone(),
        request: scene.request.clone(),
        questions: scene.questions.clone(),
        present: allow_stdin,
    };
    let mut approver = Approval {
        person: input.clone(),
        page: cell.page(),
    };
    let asked = conversation
        .ask(
            &message,
            Vec::new(),
            cell,
            &mut input,
            &mut approver,
            &mut scene.interrupts,
        )
        .await;
    scene.executor = conversation.take_back();
    if wish.extent == Extent::Code {
        cell.offer_last();
    }
    match asked.map_err(Failure::of)? {
        Status::Ok => Ok(()),
        Status::Interrupted => Err(Failure {
            ename: "KeyboardInterrupt",
            reason: "the agent was interrupted".into(),
        }),
        Status::Error => Err(Failure {
            ename: "AskError",
            reason: match cell.answer().lines().next() {
                Some(answer) => format!("the agent could not do it: {answer}"),
                None => "the agent could not do it".into(),
            },
        }),
    }
}

/// The number of the cell that comes next. The kernel says in any reply how many it has run.
async fn next_count(relay: &Relay) -> u64 {
    let quiet = ExecuteRequest {
        silent: true,
        store_history: false,
        allow_stdin: false,
        ..ExecuteRequest::default()
    };
    let asked = async {
        let reply = relay
            .client()?
            .ask(Channel::Shell, quiet.into())
            .await
            .ok()?;
        match reply.content {
            Content::ExecuteReply(reply) => reply.execution_count,
            _ => None,
        }
    };
    let count = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
    count.unwrap_or_else(|| relay.count()) + 1
}

/// The request to mend the cell that failed last.
fn mending(wish: &str, failed: Option<Failed>) -> Option<String> {
    let Failed { code, failure } = failed?;
    let wish = match wish {
        "" => "Fix this cell, and run it.",
        wish => wish,
    };
    let traceback = anstream::adapter::strip_str(&failure.traceback.join("\n")).to_string();
    Some(format!(
        "{wish}\n\nThe cell:\n```python\n{}\n```\nIt failed with {}: {}\n{}",
        clip(&code, FAILED_CELL),
        failure.ename,
        clip(&failure.evalue, FAILED_CELL),
        clip(&traceback, FAILED_CELL),
    ))
}

/// The person at the front end whose cell it is.
#[derive(Clone)]
struct Person {
    desk: Desk,
    request: RawMessage,
    questions: Arc<Questions>,
    present: bool,
}

impl Person {
    async fn answer(&self, prompt: &str, password: bool) -> Option<String> {
        self.questions
            .ask(&self.desk, &self.request, clean(prompt), password)
            .await
    }
}

impl Input for Person {
    fn is_present(&self) -> bool {
        self.present
    }

    fn read(&mut self, prompt: String, password: bool) -> BoxFuture<'_, Option<String>> {
        Box::pin(async move { self.answer(&prompt, password).await })
    }
}

/// Asks that person for leave.
struct Approval {
    person: Person,
    page: Arc<Page>,
}

impl Approver for Approval {
    fn approve(&mut self, question: Question) -> BoxFuture<'_, Decision> {
        Box::pin(async move {
            let no = |reason: &str| Decision::Rejected {
                reason: reason.to_owned(),
            };
            if !self.person.present {
                return no("this front end cannot ask the User, so it is not allowed");
            }
            self.page.catch_up();
            let (what, details) = (escape_line(&question.what), escape(&question.details));
            self.page.print("stdout", &format!("{what}\n\n{details}\n"));
            loop {
                let prompt = "Allow it? [y] once  [s] for this session  [n] no, with a reason: ";
                let Some(answer) = self.person.answer(prompt, false).await else {
                    return no("");
                };
                if let Some(decision) = decision(&answer) {
                    return decision;
                }
            }
        })
    }
}
