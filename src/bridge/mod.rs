//! The kernel that front ends start: their sockets on one side, the kernel that runs the code on the other.
//!
//! The front ends' sockets are bound at once and `kernel_info` and heartbeats answered, while the backing kernel
//! starts in its own place, with a key of its own. Then every message passes in the form it has: verified once with
//! the sender's key, signed once with the receiver's, its content not looked at. Two things are decided here: what
//! becomes of requests when the backing kernel is not there, or dies; and that a cell which begins with one of the
//! [`magic`]s is the agent's.

mod answers;
mod ask;
mod cell;
mod front;
mod magic;
pub mod parent;
mod questions;
mod relay;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::executor::{Executor, Interrupter, interrupts};
use crate::kernel::{Client, Tap};
use crate::protocol::content::{
    ClearOutput, ExecuteRequest, ExecutionState, KernelInfoReply, ReplyStatus, ShutdownReply,
    Stream,
};
use crate::protocol::{Channel, ConnectionInfo, Content, RawMessage};
use crate::session::Session;
use crate::session::conversation::Place;
use answers::Answers;
pub use answers::place;
use ask::{Ended, Talk};
pub use front::FrontError;
use front::{Desk, FromFront, Front};
pub use magic::Wish;
use questions::Questions;
use relay::Relay;

/// Bytes of requests that wait here for the kernel; beyond that the front ends wait.
const WAITING: usize = 64 << 20;
/// How long a cell waits for the kernel's start before it is told what it waits for, where that can be taken back.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long a kernel may take to say who it is, once it is ready.
const INTRODUCTION: Duration = Duration::from_secs(2);
/// How long the backing kernel may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_millis(1500);

/// What the bridge stands in front of.
pub trait Backing: Send + Sync + 'static {
    /// Starts the kernel, saying in lines what takes time. An error is one text with the next command in it.
    fn start(
        &self,
        tap: Arc<dyn Tap>,
        progress: mpsc::UnboundedSender<String>,
    ) -> BoxFuture<'static, Result<Executor, String>>;

    /// The model and its limits, with what a wish changes of them.
    fn place(&self, wish: &Wish) -> Result<Place, String>;

    /// A change of the settings that does not count for this process, in words; each is told once.
    fn news(&self) -> Option<String> {
        None
    }

    /// The session that the agent's cells belong to: that of an earlier bridge on these addresses, or a new one.
    fn session(&self) -> Result<Session, String>;
}

/// Whose requests are answered, and how the bridge came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A front end asked for it.
    Shutdown,
    /// Whoever waits for us has gone.
    Abandoned,
    /// Nobody asked for anything, or was there, for as long as was allowed.
    Idle,
    /// The kernel has died, and no other can take its place.
    NoKernel,
}

/// How a bridge behaves.
pub struct Conduct {
    /// What the kernel is known to say of itself, until it does.
    pub info: Option<KernelInfoReply>,
    /// In words for people, such as `the sandbox`.
    pub place: String,
    /// Ends the bridge when nothing was asked, and nobody was connected, for so long.
    pub idle: Option<Duration>,
    /// Ends the bridge where its kernel has died and no other can be started.
    pub ends_with_kernel: bool,
}

/// A request of a front end that waits.
struct Waiting {
    channel: Channel,
    message: RawMessage,
    bytes: usize,
    since: Instant,
    /// [`Relay::failures`] when it came: a cell is not run when one before it failed meanwhile.
    failures: u64,
    /// Whether what is said about the wait can be taken back when the wait is over: see [`shows_notices`].
    shows: bool,
    /// Whether it was told that it has begun, and what it waits for.
    told: bool,
    /// What it asks of the agent, where it is one of the agent's cells.
    wish: Option<Result<Wish, String>>,
}

/// Where the backing kernel is.
enum Seat {
    Starting(JoinHandle<Result<Executor, String>>),
    Here(Box<Executor>),
    /// The agent works in it, for this cell.
    Lent(JoinHandle<Ended>, Box<RawMessage>),
    /// It could not be started. The next cell tries again.
    Empty,
}

/// The bridge at work.
struct Bridge {
    front: Front,
    desk: Desk,
    relay: Arc<Relay>,
    backing: Arc<dyn Backing>,
    answers: Answers,
    seat: Seat,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    progress: mpsc::UnboundedReceiver<String>,
    progress_sender: mpsc::UnboundedSender<String>,
    /// What the start has said and no cell has been told, a line each.
    steps: String,
    talk: Talk,
    /// Why the variables are gone, where no cell has been told yet.
    lost: Option<String>,
    questions: Arc<Questions>,
    interrupter: Interrupter,
    place: String,
    /// Whether the kernel that runs was given anything to do.
    used: bool,
    /// Finds out whether the `idle` of a cell was lost.
    probe: Option<JoinHandle<()>>,
    /// Questions who the kernel is, that came behind the replies of these cells and before their `idle`.
    behind: VecDeque<(Vec<String>, RawMessage)>,
}

/// Serves front ends on the addresses of `info` until one of them shuts the kernel down, or `abandoned` says that
/// nobody is there any more.
///
/// # Errors
/// When the addresses cannot be bound. Everything later is told to the front ends.
pub async fn serve(
    info: &ConnectionInfo,
    backing: Arc<dyn Backing>,
    conduct: Conduct,
    abandoned: impl Future<Output = ()>,
) -> Result<End, FrontError> {
    let (front, desk) = Front::bind(info).await?;
    let (progress_sender, progress) = mpsc::unbounded_channel();
    let (interrupter, _) = interrupts();
    let mut bridge = Bridge {
        relay: Relay::new(desk.clone()),
        answers: Answers::new(info, conduct.info, &conduct.place),
        front,
        desk,
        backing,
        seat: Seat::Empty,
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        progress,
        progress_sender,
        steps: String::new(),
        talk: Talk::default(),
        lost: None,
        questions: Arc::default(),
        interrupter,
        place: conduct.place,
        used: false,
        probe: None,
        behind: VecDeque::new(),
    };
    bridge.start();
    let end = tokio::select! {
        end = bridge.run(conduct.idle, conduct.ends_with_kernel) => end,
        () = abandoned => End::Abandoned,
    };
    bridge.end().await;
    Ok(end)
}

/// What the bridge waits for.
enum Happened {
    Front(FromFront),
    Started(Result<Box<Executor>, String>),
    Progress(String),
    Died(String),
    Asked(Box<Ended>),
    /// The agent's work was cut off by a fault of ours.
    AskFailed,
    /// The first of the waiting requests can go.
    Room,
    Silence,
    /// Some cell may be late with its `idle`.
    Overdue,
    /// The cells before the first question who the kernel is have ended.
    InTurn,
    Idle,
}

impl Bridge {
    fn start(&mut self) {
        self.steps.clear();
        self.used = false;
        let start = self
            .backing
            .start(self.relay.clone(), self.progress_sender.clone());
        self.seat = Seat::Starting(tokio::spawn(async {
            let executor = start.await?;
            // What it says of itself is what is answered from then on.
            let info = executor.kernel().client().info();
            let _ = tokio::time::timeout(INTRODUCTION, info).await;
            Ok(executor)
        }));
    }

    async fn run(&mut self, idle: Option<Duration>, ends_with_kernel: bool) -> End {
        let mut began = false;
        loop {
            let happened = self.next(idle).await;
            match happened {
                Happened::Front(FromFront::Subscribed(subscription)) => {
                    self.desk.welcome(subscription);
                }
                Happened::Front(FromFront::Message(channel, message)) => {
                    if let Some(end) = self.take(channel, message).await {
                        return end;
                    }
                }
                Happened::Started(Ok(executor)) => {
                    began = true;
                    self.begin(*executor);
                }
                Happened::Started(Err(reason)) => {
                    self.cannot_start(&reason);
                    if began && ends_with_kernel {
                        return End::NoKernel;
                    }
                }
                Happened::Progress(step) => {
                    self.steps.push_str(&step);
                    self.steps.push('\n');
                    self.tell(false);
                }
                Happened::Silence => self.tell(true),
                Happened::Died(reason) => self.died(&reason),
                Happened::Asked(ended) => self.asked(*ended),
                Happened::AskFailed => self.ask_failed(),
                Happened::Room => self.pass_on(),
                Happened::Overdue => self.look_for_lost(),
                Happened::InTurn => {
                    if let Some((_, question)) = self.behind.pop_front() {
                        let info = self.answers.kernel_info();
                        self.answer(Channel::Shell, &question, info);
                    }
                }
                Happened::Idle => return End::Idle,
            }
        }
    }

    async fn next(&mut self, idle: Option<Duration>) -> Happened {
        let client = self.eligible().and_then(|_| self.relay.client());
        let awaited = matches!(self.seat, Seat::Here(_)) && self.waits_for_cells();
        let shown = self.waiting.iter().find(|waiting| waiting.shows);
        let untold = shown
            .filter(|cell| matches!(self.seat, Seat::Starting(_)) && !cell.told)
            .map(|cell| cell.since + SILENCE);
        let dies = match &self.seat {
            Seat::Here(_) => self.relay.client(),
            _ => None,
        };
        let relay = self.relay.clone();
        // Neither a kernel at work is idle, nor one that is waited for.
        let at_rest = matches!(self.seat, Seat::Here(_) | Seat::Empty) && self.waiting.is_empty();
        let idle = idle.filter(|_| at_rest);
        tokio::select! {
            Some(happened) = self.front.next(self.waiting_bytes < WAITING) => Happened::Front(happened),
            happened = seated(&mut self.seat) => happened,
            Some(reason) = death(dies.as_ref()) => Happened::Died(reason),
            Some(step) = self.progress.recv() => Happened::Progress(step),
            Some(()) = room(client.as_ref()) => Happened::Room,
            () = relay.cells_done(), if awaited => Happened::Room,
            Some(()) = moment(untold) => Happened::Silence,
            Some(()) = in_turn(&relay, self.behind.front()) => Happened::InTurn,
            () = tokio::time::sleep(relay::OVERDUE), if relay.has_unfinished() => Happened::Overdue,
            () = quiet(&relay, &self.desk, idle), if idle.is_some() => Happened::Idle,
        }
    }

    /// The first waiting request that may go to the kernel now. While the agent works, or while its next cell waits for
    /// those before it, cells wait and everything else passes.
    fn eligible(&self) -> Option<usize> {
        let first_other = || self.waiting.iter().position(|waiting| !waiting.is_cell());
        match &self.seat {
            Seat::Here(_) if self.waits_for_cells() => first_other(),
            Seat::Here(_) => (!self.waiting.is_empty()).then_some(0),
            Seat::Lent(..) => first_other(),
            _ => None,
        }
    }

    /// Whether the next request is one of the agent's, and the kernel has cells before it.
    fn waits_for_cells(&self) -> bool {
        let next = self.waiting.front();
        next.is_some_and(|next| next.wish.is_some()) && self.relay.has_cells()
    }

    /// Takes a request of a front end.
    async fn take(&mut self, channel: Channel, message: RawMessage) -> Option<End> {
        let Ok(peek) = message.peek() else {
            return None;
        };
        match (channel, &*peek.msg_type) {
            (Channel::Stdin, "input_reply") => {
                if !self.questions.answer(&message)
                    && let Some(client) = self.relay.client()
                {
                    self.relay.answer_input(&client, message);
                }
            }
            (Channel::Stdin, _) => {}
            // A client that waits for the `idle` of a cell asks this to find out whether it was lost: what a kernel
            // publishes stays in order. So the answer must not overtake what is still on its way.
            (Channel::Shell, "kernel_info_request") if self.relay.has_unfinished() => {
                self.behind.push_back((self.relay.unfinished(), message));
            }
            (_, "kernel_info_request") => {
                let info = self.answers.kernel_info();
                self.answer(channel, &message, info);
            }
            (_, "connect_request") => {
                let ports = self.answers.ports();
                self.answer(channel, &message, ports);
            }
            (Channel::Control, "interrupt_request") => {
                self.interrupt();
                self.answer(
                    channel,
                    &message,
                    crate::protocol::content::InterruptReply::default().into(),
                );
            }
            (Channel::Control | Channel::Shell, "shutdown_request") => {
                return Some(self.shut_down(channel, &message).await);
            }
            (Channel::Control, _) => match self.relay.client() {
                Some(client) => self.relay.forward(&client, channel, message, false),
                None if matches!(self.seat, Seat::Empty) => {
                    let reason = "no kernel runs; the next cell starts one";
                    relay::unanswered(&self.desk, channel, &message, "KernelDied", reason);
                }
                None => self.wait(channel, message),
            },
            _ => {
                if matches!(self.seat, Seat::Empty) {
                    self.start();
                }
                self.wait(channel, message);
            }
        }
        None
    }

    fn wait(&mut self, channel: Channel, message: RawMessage) {
        let bytes = message
            .signed_frames()
            .iter()
            .map(|frame| frame.len())
            .sum::<usize>()
            + message.buffers.iter().map(bytes::Bytes::len).sum::<usize>();
        self.waiting_bytes += bytes;
        self.waiting.push_back(Waiting {
            channel,
            wish: magic::of(&message),
            shows: shows_notices(&message),
            message,
            bytes,
            since: Instant::now(),
            failures: self.relay.failures(),
            told: false,
        });
    }

    /// Answers a request ourselves, between its two states.
    fn answer(&self, channel: Channel, request: &RawMessage, content: Content) {
        self.desk.publish_state(request, ExecutionState::Busy);
        self.desk.reply(channel, request, content);
        self.desk.publish_state(request, ExecutionState::Idle);
    }

    /// Passes the first of the waiting requests on, or gives it to the agent.
    fn pass_on(&mut self) {
        let Some(waiting) = self.eligible().and_then(|at| self.waiting.remove(at)) else {
            return;
        };
        self.waiting_bytes -= waiting.bytes;
        let shown = waiting.is_cell() && !is_quiet(&waiting.message);
        let (failures, mut told) = (waiting.failures, waiting.told);
        let Waiting {
            channel,
            message,
            wish,
            ..
        } = waiting;
        if failures < self.relay.failures() && is_cell(&message) {
            self.relay.abort(&message, told);
            return;
        }
        self.used = true;
        if told {
            self.desk.publish(&message, ClearOutput { wait: false });
        }
        if shown && let Some(news) = self.backing.news() {
            self.tell_first(&message, told, format!("[{news}]\n"));
            told = true;
        }
        match (wish, std::mem::replace(&mut self.seat, Seat::Empty)) {
            (Some(wish), Seat::Here(executor)) => {
                let (interrupter, interrupts) = interrupts();
                self.interrupter = interrupter;
                let work = ask::run(ask::Scene {
                    wish,
                    request: message.clone(),
                    begun: told,
                    executor: Some(*executor),
                    talk: std::mem::take(&mut self.talk),
                    backing: self.backing.clone(),
                    desk: self.desk.clone(),
                    relay: self.relay.clone(),
                    questions: self.questions.clone(),
                    interrupts,
                });
                self.seat = Seat::Lent(tokio::spawn(work), Box::new(message));
            }
            (_, seat) => {
                self.seat = seat;
                if let Some(client) = self.relay.client() {
                    if let Some(reason) = self.lost.take_if(|_| shown) {
                        let text = format!(
                            "[the kernel {reason} while nothing ran in it; variables are lost, files are kept]\n"
                        );
                        self.tell_first(&message, told, text);
                        told = true;
                    }
                    // Of the cells before it, which have no place to tell it any more.
                    if let Seat::Here(executor) = &mut self.seat
                        && shown
                    {
                        for text in executor.changed_files() {
                            self.tell_first(&message, told, format!("{text}\n"));
                            told = true;
                        }
                    }
                    self.relay.forward(&client, channel, message, told);
                }
            }
        }
    }

    /// Tells a cell something before it runs.
    fn tell_first(&self, cell: &RawMessage, begun: bool, text: String) {
        if !begun {
            self.desk.publish_state(cell, ExecutionState::Busy);
        }
        let name = "stderr".into();
        self.desk.publish(cell, Stream { name, text });
    }

    fn begin(&mut self, executor: Executor) {
        let kernel = executor.kernel();
        if let Some(place) = place(kernel.mode()) {
            self.place = place.to_owned();
        }
        if let Some(info) = kernel.client().known_info() {
            self.answers.learn(info, &self.place);
        }
        self.seat = Seat::Here(Box::new(executor));
    }

    /// Fails the first waiting cell with the reason, and does not run those after it.
    fn cannot_start(&mut self, reason: &str) {
        let mut first = true;
        self.waiting_bytes = 0;
        for waiting in std::mem::take(&mut self.waiting) {
            if !waiting.is_cell() {
                relay::unanswered(
                    &self.desk,
                    waiting.channel,
                    &waiting.message,
                    "KernelStartError",
                    reason,
                );
            } else if is_quiet(&waiting.message) || std::mem::take(&mut first) {
                self.relay
                    .refuse(&waiting.message, waiting.told, "KernelStartError", reason);
            } else {
                self.relay.abort(&waiting.message, waiting.told);
            }
        }
        self.seat = Seat::Empty;
    }

    /// Tells the first cell that can show it what it waits for: from the `first` time on, whatever there is to tell.
    fn tell(&mut self, first: bool) {
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.shows) else {
            return;
        };
        let mut text = String::new();
        if !waiting.told {
            if !first {
                return;
            }
            self.desk
                .publish_state(&waiting.message, ExecutionState::Busy);
            waiting.told = true;
            text = format!("Heddle starts a kernel in {} …\n", self.place);
        }
        text.push_str(&std::mem::take(&mut self.steps));
        if !text.is_empty() {
            let name = "stderr".into();
            self.desk.publish(&waiting.message, Stream { name, text });
        }
    }

    /// The backing kernel has ended by itself: whoever waited for it is told, and another takes its place.
    fn died(&mut self, reason: &str) {
        self.relay.disconnect();
        let told = self.relay.abandon(
            "KernelDied",
            &format!(
                "the kernel {reason}. A new one is starting: variables are lost, files are kept"
            ),
        );
        self.talk.lost(reason);
        if self.used && !told {
            self.lost = Some(reason.to_owned());
        }
        let dead = std::mem::replace(&mut self.seat, Seat::Empty);
        // One that dies of itself would die again, and again; the next cell tries.
        if self.used || !self.waiting.is_empty() {
            self.start();
        }
        // What is left of the old one ends with its handle, while the new one starts.
        drop(dead);
    }

    fn asked(&mut self, ended: Ended) {
        self.talk = ended.talk;
        // The agent's cell has told it, to the model and to the person.
        if !self.talk.is_to_tell() {
            self.lost = None;
        }
        match ended.executor {
            Some(executor) => self.seat = Seat::Here(Box::new(executor)),
            None => {
                self.died("ended while the agent worked in it");
                self.lost = None;
            }
        }
    }

    fn ask_failed(&mut self) {
        let seat = std::mem::replace(&mut self.seat, Seat::Empty);
        self.relay.speak_for(None);
        if let Seat::Lent(_, request) = seat {
            let reason = "the agent's work was cut off by a fault of Heddle's own";
            self.relay.refuse(&request, true, "AskError", reason);
        }
        self.died("ended with the agent's work");
        self.lost = None;
    }

    /// Asks the kernel for nothing. What it publishes stays in order: when the `idle` of that has come, those of the
    /// cells before it have come, or never will.
    fn look_for_lost(&mut self) {
        let late = self.relay.overdue();
        let running = self
            .probe
            .as_ref()
            .is_some_and(|probe| !probe.is_finished());
        let Some(client) = self.relay.client().filter(|_| !late.is_empty() && !running) else {
            return;
        };
        let relay = self.relay.clone();
        self.probe = Some(tokio::spawn(async move {
            let nothing = ExecuteRequest {
                silent: true,
                store_history: false,
                allow_stdin: false,
                ..ExecuteRequest::default()
            };
            let mut exchange = client.request(Channel::Shell, nothing.into());
            while exchange.next().await.is_some() {}
            relay.end_in_place(&late);
        }));
    }

    fn interrupt(&mut self) {
        match &self.seat {
            Seat::Here(executor) => executor.kernel().interrupt(),
            Seat::Lent(..) => self.interrupter.press(),
            // A kernel that starts runs nothing yet; what waits for it is not wanted any more.
            _ => self.cannot_run_waiting(),
        }
    }

    fn cannot_run_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.is_cell() {
                self.waiting_bytes -= waiting.bytes;
                self.relay.refuse(
                    &waiting.message,
                    waiting.told,
                    "KeyboardInterrupt",
                    "interrupted before the kernel was ready",
                );
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Ends the kernel and tells every front end. They start a new one themselves where they want one.
    async fn shut_down(&mut self, channel: Channel, request: &RawMessage) -> End {
        let restart = matches!(
            Content::decode("shutdown_request", &request.content),
            Content::ShutdownRequest(asked) if asked.restart
        );
        let reply = ShutdownReply {
            status: ReplyStatus::Ok,
            restart,
            ..ShutdownReply::default()
        };
        self.desk.publish_state(request, ExecutionState::Busy);
        self.end().await;
        self.desk.publish(request, reply.clone());
        self.desk.reply(channel, request, reply);
        self.desk.publish_state(request, ExecutionState::Idle);
        self.desk.last_words().await;
        End::Shutdown
    }

    /// Ends whatever runs.
    async fn end(&mut self) {
        if let Some(probe) = self.probe.take() {
            cut_off(probe).await;
        }
        self.relay.disconnect();
        match std::mem::replace(&mut self.seat, Seat::Empty) {
            Seat::Here(executor) => {
                // Code that runs is stopped, and what it has to tidy up has its moment. In a kernel that is only left,
                // it may be somebody else's.
                if executor.kernel().is_ours() || self.relay.has_cells() {
                    executor.kernel().interrupt();
                }
                let _ = tokio::time::timeout(FAREWELL, executor.shutdown()).await;
            }
            Seat::Starting(start) => cut_off(start).await,
            Seat::Lent(ask, _) => cut_off(ask).await,
            Seat::Empty => {}
        }
    }
}

impl Waiting {
    fn is_cell(&self) -> bool {
        is_cell(&self.message)
    }
}

/// Whether it is a cell that a front end runs for itself.
fn is_quiet(cell: &RawMessage) -> bool {
    matches!(
        Content::decode("execute_request", &cell.content),
        Content::ExecuteRequest(cell) if cell.silent || !cell.store_history
    )
}

/// Whether what is said in a cell about its wait is gone when the wait is over, however long that was. A front end that
/// names the cell keeps it on the screen and clears it when it is told to; to any other, a terminal or a program that
/// collects text, what was said once is a part of the output for ever.
fn shows_notices(cell: &RawMessage) -> bool {
    let metadata: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&cell.metadata).unwrap_or_default();
    is_cell(cell) && metadata.contains_key("cellId") && !is_quiet(cell)
}

/// Ends a task, and with it the kernel that it holds.
async fn cut_off<T>(task: JoinHandle<T>) {
    task.abort();
    // Ended, or cut off: either way it is over.
    let _ = task.await;
}

fn is_cell(message: &RawMessage) -> bool {
    message
        .peek()
        .is_ok_and(|peek| peek.msg_type == "execute_request")
}

/// Waits for what the seat's task brings.
async fn seated(seat: &mut Seat) -> Happened {
    match seat {
        Seat::Starting(start) => Happened::Started(
            start
                .await
                .unwrap_or_else(|error| Err(format!("the start was cut off: {error}")))
                .map(Box::new),
        ),
        Seat::Lent(ask, _) => match ask.await {
            Ok(ended) => Happened::Asked(Box::new(ended)),
            Err(_) => Happened::AskFailed,
        },
        _ => std::future::pending().await,
    }
}

/// Waits until a kernel can take more; none without a kernel.
async fn room(client: Option<&Client>) -> Option<()> {
    client?.room().await;
    Some(())
}

/// Waits until the cells before a question have ended; none without a question.
async fn in_turn(relay: &Relay, question: Option<&(Vec<String>, RawMessage)>) -> Option<()> {
    let (cells, _) = question?;
    relay.ended(cells).await;
    Some(())
}

/// Waits for a moment; none where there is none.
async fn moment(moment: Option<Instant>) -> Option<()> {
    tokio::time::sleep_until(moment?).await;
    Some(())
}

/// Waits for a kernel's end; none without a kernel.
async fn death(client: Option<&Client>) -> Option<String> {
    Some(client?.death().await)
}

/// Waits until the kernel has had nothing to do, and nobody was connected, for so long.
async fn quiet(relay: &Relay, desk: &Desk, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    relay.cells_done().await;
    loop {
        desk.has_clients(false).await;
        tokio::select! {
            () = tokio::time::sleep(idle) => return,
            () = desk.has_clients(true) => {}
        }
    }
}
