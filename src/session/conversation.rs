//! A session that goes on: its log, its agent and its kernel together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use super::budget::LogBudget;
use super::history;
use super::whereabouts::{Note, Surroundings};
use super::{Session, SessionError, Sessions};
use crate::agent::approval::Approver;
use crate::agent::{Agent, AgentError, Scene, Workbench};
use crate::event::{Event, KernelState, Sink, Status};
use crate::executor::clip::clip;
use crate::executor::{Executor, Input, Interrupts, Limits, Places};
use crate::kernel::packages::Packages;
use crate::kernel::{Choice, KernelError, Launcher, Options};
use crate::llm::Provider;
use crate::open;
use crate::protocol::Transport;

/// Lines and characters of a handed-over file that the Planner is shown.
const PREVIEW_LINES: usize = 5;
const PREVIEW_CHARACTERS: usize = 400;

/// How long the end of a conversation waits for a kernel that is still starting, to end it in an orderly way.
const PATIENCE: Duration = Duration::from_secs(2);

/// What goes wrong in a conversation.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// How a conversation is set up.
#[derive(Clone)]
pub struct Setup {
    /// Those that it is one of.
    pub sessions: Sessions,
    pub llm: Arc<dyn Provider>,
    pub agent: crate::agent::Limits,
    pub cell: Limits,
    pub launcher: Arc<dyn Launcher>,
    pub choice: Choice,
    pub transport: Transport,
    pub env: Vec<(String, String)>,
    pub start_timeout: Duration,
    pub grants: crate::kernel::Grants,
    /// The project's packages; `None` where its kernels can have none.
    pub packages: Option<Packages>,
    /// What the models are told about the place where the code runs.
    pub environment: String,
}

/// What a conversation needs to know, whoever has the kernel.
pub struct Place {
    pub llm: Arc<dyn Provider>,
    pub agent: crate::agent::Limits,
    /// What the models are told about the place where the code runs.
    pub environment: String,
    /// Characters of each text that a model reads about an earlier run.
    pub characters: usize,
    /// The launcher's, as in `--mode`.
    pub mode: String,
    pub kernel: String,
}

impl Place {
    fn of(setup: &Setup) -> Place {
        Place {
            llm: setup.llm.clone(),
            agent: setup.agent.clone(),
            environment: setup.environment.clone(),
            characters: setup.cell.characters,
            mode: setup.launcher.mode().to_owned(),
            kernel: setup.choice.name().to_owned(),
        }
    }
}

/// One conversation, open for requests.
pub struct Conversation {
    session: Session,
    agent: Agent,
    bench: Bench,
    mode: String,
    kernel: String,
    /// Successful cells of earlier, as long as they may still be run again.
    rebuildable: Vec<String>,
    /// Events that the next sink gets first.
    news: Vec<Event>,
}

impl Conversation {
    /// Begins a new session; its kernel starts in the background.
    pub fn begin(setup: Setup) -> Result<Conversation, SessionError> {
        let session = Session::create(&setup.sessions)?;
        Ok(Conversation::open(setup, session))
    }

    /// A conversation about a kernel that somebody else has, and [lends](Self::lend) for each request.
    pub fn about(place: Place, mut session: Session) -> Conversation {
        let events: Vec<Event> = session.earlier().events().cloned().collect();
        let rebuildable = history::successful_cells(&events);
        let mut agent = Agent::new(place.llm, place.agent, &place.environment);
        for round in history::conversation(&events) {
            let cells: Vec<(String, String)> = round
                .cells()
                .map(|cell| (cell.code.clone(), retold(cell, place.characters)))
                .collect();
            agent.remember(&round.message, &cells, round.answer.as_deref());
        }
        let first = match rebuildable.is_empty() {
            true => kernel_event(KernelState::Fresh, "a new kernel"),
            false => kernel_event(
                KernelState::Lost,
                "the session is resumed in a new kernel; files are kept",
            ),
        };
        Conversation {
            news: session.take_notices(),
            bench: Bench {
                seat: Seat::Empty,
                note: None,
                news: vec![first],
            },
            mode: place.mode,
            kernel: place.kernel,
            session,
            agent,
            rebuildable,
        }
    }

    /// Goes on with another model, or other limits.
    pub fn equip(&mut self, place: Place) {
        self.agent.equip(place.llm, place.agent);
    }

    /// The kernel that was lent has ended, and another is in its place.
    pub fn lost(&mut self, reason: &str) {
        self.rebuildable.clear();
        // What was to be told of the kernel before it is of no use any more.
        self.bench
            .news
            .retain(|event| !matches!(event, Event::Kernel { .. }));
        let reason = format!("the kernel {reason}");
        self.agent.inform(&format!(
            "A new kernel was started, because {reason}: all variables are lost, files are kept."
        ));
        self.bench
            .news
            .push(kernel_event(KernelState::Lost, &reason));
    }

    /// Takes a kernel for the requests to come.
    pub fn lend(&mut self, executor: Executor) {
        if !executor.kernel().is_ours() && !self.bench.news.is_empty() {
            self.bench.news = vec![kernel_event(
                KernelState::Kept,
                "a running kernel is joined",
            )];
        }
        self.bench.seat = Seat::Ready(Box::new(executor));
    }

    /// Gives the kernel back.
    pub fn take_back(&mut self) -> Option<Executor> {
        match std::mem::replace(&mut self.bench.seat, Seat::Empty) {
            Seat::Ready(executor) => Some(*executor),
            _ => None,
        }
    }

    /// In a kernel that is kept beyond this conversation: one that was just started as `setup` has it, or one that has the
    /// variables of `earlier`, and is what it was then.
    pub fn kept(
        setup: Setup,
        session: Session,
        executor: Executor,
        earlier: Option<Surroundings>,
    ) -> Conversation {
        let mut place = Place::of(&setup);
        let fresh = earlier.is_none();
        if let Some(known) = earlier.filter(|known| !known.mode.is_empty()) {
            place.mode = known.mode;
            place.kernel = known.kernel;
            place.environment = known.environment;
        }
        let mut conversation = Conversation::about(place, session);
        if !fresh {
            conversation.rebuildable.clear();
            conversation.bench.news = vec![kernel_event(
                KernelState::Kept,
                "it was kept running: variables are as they were",
            )];
        }
        conversation.lend(executor);
        conversation
    }

    /// In a kernel of its own, which starts in the background and ends with the conversation. What an earlier session
    /// remembers of its variables is said honestly: they are lost, unless [`rebuild`](Self::rebuild) runs its cells
    /// again.
    pub fn open(setup: Setup, session: Session) -> Conversation {
        let mut conversation = Conversation::about(Place::of(&setup), session);
        let workspace = conversation.session.workspace();
        let places = Places {
            artifacts: Some(workspace.cwd()),
            texts: Some(workspace.outputs()),
            watch: true,
        };
        let mut grants = setup.grants;
        grants.mounts.push(workspace.outputs_mount());
        grants
            .mounts
            .extend(setup.packages.iter().map(Packages::mount));
        let options = Options {
            tap: None,
            launcher: setup.launcher.clone(),
            choice: setup.choice.clone(),
            transport: setup.transport,
            cwd: workspace.cwd(),
            env: setup.env,
            start_timeout: setup.start_timeout,
            grants,
        };
        let (packages, workspace) = (setup.packages, workspace.clone());
        let surroundings = Surroundings {
            mode: conversation.mode.clone(),
            kernel: conversation.kernel.clone(),
            environment: setup.environment,
        };
        let start = async move {
            let executor = Executor::start(options, places, setup.cell).await?;
            // Where it cannot be noted the session goes on, and others do not find its kernel.
            let connection = executor.kernel().connection();
            let note =
                connection.and_then(|it| Note::of_connection(&workspace, it, &surroundings).ok());
            Ok((executor.with_packages(packages), note))
        };
        conversation.bench.seat = Seat::Starting(tokio::spawn(start));
        conversation
    }

    /// The launcher's, as in `--mode`.
    pub fn mode(&self) -> &str {
        &self.mode
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The first event, and what else is to be told of the opening.
    pub fn announce(&mut self, sink: &mut dyn Sink) {
        let mut both = Both::new(&mut self.session, sink);
        let (id, folder) = (both.log.id().to_string(), both.log.workspace().folder());
        let workspace = folder.to_string_lossy().into_owned();
        both.emit(Event::Session {
            id,
            workspace,
            mode: self.mode.clone(),
            kernel: self.kernel.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        for event in self.news.drain(..) {
            both.emit(event);
        }
    }

    /// How many cells a rebuild would run again; 0 when there is nothing to rebuild.
    pub fn rebuildable(&self) -> usize {
        self.rebuildable.len()
    }

    /// Runs the successful cells of earlier again, to have their variables back. Not logged as cells: they are in the
    /// log already. An interrupt leaves out the rest of them.
    pub async fn rebuild(
        &mut self,
        sink: &mut dyn Sink,
        interrupts: &mut Interrupts,
    ) -> Result<Status, ConversationError> {
        let (executor, _) = tokio::select! {
            ready = self.bench.executor() => ready?,
            () = interrupts.pressed() => return Ok(Status::Interrupted),
        };
        let cells = std::mem::take(&mut self.rebuildable);
        let mut status = Status::Ok;
        let mut failed = 0;
        for code in &cells {
            let outcome = executor
                .run(code, &mut |_| {}, &mut crate::executor::NoInput, interrupts)
                .await?;
            if outcome.status != Status::Ok {
                status = outcome.status;
                failed += 1;
            }
            if status == Status::Interrupted || outcome.died.is_some() {
                break;
            }
        }
        let (state, reason) = match failed {
            0 => (
                KernelState::Rebuilt,
                format!("{} cells were run again", cells.len()),
            ),
            _ if status == Status::Interrupted => (
                KernelState::Lost,
                "running its cells again was interrupted".to_owned(),
            ),
            n => (
                KernelState::Lost,
                format!("{n} of {} cells failed when run again", cells.len()),
            ),
        };
        self.agent.inform(&format!(
            "The session was resumed in a new kernel: {reason}. Check variables before you rely on them."
        ));
        Both::new(&mut self.session, sink).emit(kernel_event(state, &reason));
        Ok(status)
    }

    /// Hands a file to the session; gives its name in the working directory.
    pub fn add_file(&mut self, path: &Path) -> Result<String, SessionError> {
        self.session.workspace().add_file(path)
    }

    /// Works on a request until it is answered.
    pub async fn ask(
        &mut self,
        message: &str,
        files: Vec<String>,
        sink: &mut dyn Sink,
        input: &mut dyn Input,
        approver: &mut dyn Approver,
        interrupts: &mut Interrupts,
    ) -> Result<Status, ConversationError> {
        // Whoever goes on without a rebuild has let the variables go, and the models must know.
        if !std::mem::take(&mut self.rebuildable).is_empty() {
            self.agent
                .inform("The session was resumed in a new kernel: earlier variables are lost, files are kept.");
        }
        let mut notes = notes(&self.session.workspace().cwd(), &files);
        if let Seat::Ready(executor) = &self.bench.seat
            && !executor.kernel().is_ours()
        {
            // The Planner may have never been told of what others have put there.
            let state = tokio::select! {
                state = crate::agent::state_of(executor) => state,
                () = interrupts.pressed() => return Ok(Status::Interrupted),
            };
            notes.push_str(&format!(
                "\n\nNow in the kernel, which the User works in too:\n{state}"
            ));
        }
        let mut both = Both::new(&mut self.session, sink);
        both.emit(Event::User {
            message: message.to_owned(),
            files,
        });
        let scene = Scene {
            request: message.to_owned(),
            workbench: &mut self.bench,
            sink: &mut both,
            input,
            approver,
            interrupts,
        };
        let status = self.agent.ask(scene, &notes).await;
        if let Some(error) = self.session.log().take_error() {
            return Err(error.into());
        }
        Ok(status?)
    }

    /// The executor, for what a person asks of the kernel directly.
    pub async fn executor(&mut self) -> Result<&mut Executor, ConversationError> {
        Ok(self.bench.ready().await?)
    }

    /// Starts the kernel anew, at the person's wish.
    pub async fn restart(&mut self, sink: &mut dyn Sink) -> Result<(), ConversationError> {
        let (executor, _) = self.bench.executor().await?;
        executor.restart().await?;
        self.rebuildable.clear();
        self.agent
            .inform("The User restarted the kernel: all variables are lost, files are kept.");
        Both::new(&mut self.session, sink).emit(kernel_event(
            KernelState::Lost,
            "it was restarted on request",
        ));
        Ok(())
    }

    /// Writes the session so far as a notebook beside its log and gives the path.
    pub fn save_notebook(&self) -> Result<PathBuf, crate::notebook::NotebookError> {
        let workspace = self.session.workspace();
        let path = workspace.state().join("session.ipynb");
        let events = super::log::read(&workspace.log()).unwrap_or_default();
        super::export::notebook(events.events()).save(&path)?;
        Ok(path)
    }

    /// Ends the kernel and waits until it is gone. Gives what a person should know of what code has left.
    pub async fn close(self) -> Vec<String> {
        match self.bench.seat {
            Seat::Ready(executor) => executor.shutdown().await,
            Seat::Starting(mut start) => match tokio::time::timeout(PATIENCE, &mut start).await {
                Ok(Ok(Ok((executor, _note)))) => executor.shutdown().await,
                Ok(_) => Vec::new(),
                // The process ends with its handle.
                Err(_) => {
                    start.abort();
                    Vec::new()
                }
            },
            Seat::Empty => Vec::new(),
        }
    }
}

fn kernel_event(state: KernelState, reason: &str) -> Event {
    Event::Kernel {
        state,
        reason: reason.to_owned(),
    }
}

/// An earlier cell's outcome as its report would have said.
fn retold(cell: &history::Cell, budget: usize) -> String {
    let how = match cell.status {
        Some(Status::Ok) => "The code ran without an error.",
        Some(Status::Error) => "The code failed.",
        Some(Status::Interrupted) => "The User interrupted the code.",
        None => "The code never ran to its end.",
    };
    let outputs: Vec<String> = cell.outputs.iter().map(|output| output.text()).collect();
    format!("{how}\n{}", clip(&outputs.join("\n"), budget))
}

/// What the Planner is told about the files that came with a request.
fn notes(cwd: &Path, files: &[String]) -> String {
    let mut notes = String::new();
    for name in files {
        notes.push_str(&format!("\n\nFile given: {name}"));
        if let Some(preview) = preview(cwd, Path::new(name)) {
            notes.push_str(&format!(", which begins:\n{preview}"));
        }
    }
    notes
}

/// The first lines of a text file.
fn preview(cwd: &Path, name: &Path) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    // Code may have put something else there by now.
    let file = open::beneath(cwd, name).ok()?;
    file.take(4096).read_to_end(&mut bytes).ok()?;
    if bytes.contains(&0) {
        return None;
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().take(PREVIEW_LINES).collect();
    let head: String = lines.join("\n").chars().take(PREVIEW_CHARACTERS).collect();
    (!head.trim().is_empty()).then_some(head)
}

/// The place of the executor, which comes a moment after the conversation has begun.
struct Bench {
    seat: Seat,
    /// Where others find a kernel that ends with the conversation.
    note: Option<Note>,
    news: Vec<Event>,
}

enum Seat {
    Starting(JoinHandle<Result<(Executor, Option<Note>), KernelError>>),
    Ready(Box<Executor>),
    /// The start failed, and said why.
    Empty,
}

impl Workbench for Bench {
    fn executor(&mut self) -> BoxFuture<'_, Result<(&mut Executor, Vec<Event>), KernelError>> {
        Box::pin(async {
            self.ready().await?;
            let news = std::mem::take(&mut self.news);
            Ok((self.seat.executor()?, news))
        })
    }
}

impl Bench {
    /// The executor with a living kernel; what there is to tell of that stays in `news`. Safe to cancel.
    async fn ready(&mut self) -> Result<&mut Executor, KernelError> {
        if let Seat::Starting(start) = &mut self.seat {
            let started = start.await;
            self.seat = Seat::Empty;
            let (executor, note) = started.map_err(|error| {
                KernelError::Launch(format!("its start was cut off: {error}"))
            })??;
            self.note = note;
            self.seat = Seat::Ready(Box::new(executor));
        }
        let executor = self.seat.executor()?;
        self.news.extend(executor.revive().await?);
        Ok(executor)
    }
}

impl Seat {
    fn executor(&mut self) -> Result<&mut Executor, KernelError> {
        match self {
            Seat::Ready(executor) => Ok(executor),
            _ => Err(KernelError::Launch("an earlier start failed".into())),
        }
    }
}

/// Events to the log, as far as they have a place there, and to whoever watches.
struct Both<'a> {
    log: &'a mut Session,
    watcher: &'a mut dyn Sink,
    budget: LogBudget,
}

impl<'a> Both<'a> {
    fn new(log: &'a mut Session, watcher: &'a mut dyn Sink) -> Self {
        Both {
            budget: LogBudget::new(log.workspace().outputs()),
            log,
            watcher,
        }
    }
}

impl Sink for Both<'_> {
    fn emit(&mut self, event: Event) {
        if let Some(event) = self.budget.logged(&event) {
            self.log.emit(event);
        }
        self.watcher.emit(event);
    }
}
