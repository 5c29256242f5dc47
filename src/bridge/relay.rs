//! What passes from the kernel to the front ends, and which of their requests it still owes an answer.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::front::Desk;
use super::is_quiet;
use crate::kernel::{Client, Tap};
use crate::protocol::content::{
    CommClose, CommOpen, Error, ExecuteReply, ExecuteRequest, ExecutionState, Failure, ReplyStatus,
    Stream,
};
use crate::protocol::{Channel, Content, RawMessage};

/// Requests that may wait for their answers at a time. Whoever sends more of them loses the way back of the oldest.
const MOST_OPEN: usize = 16_384;

/// Comms that are known at a time, to be closed when the kernel ends.
const MOST_COMMS: usize = 16_384;
/// Bytes of a comm's id; all that exist are far shorter.
const COMM_ID: usize = 256;

/// How long an `idle` may come after its reply before it is looked into whether it was lost.
pub const OVERDUE: Duration = Duration::from_secs(1);

/// A request that the kernel has and has not replied to.
struct Open {
    channel: Channel,
    msg_type: String,
    /// Without its buffers, and for other requests than cells without its content.
    request: RawMessage,
    number: u64,
    /// Whether its `busy` was told, by the kernel or by us.
    begun: bool,
    /// Whether its `idle` has come, before its reply.
    idle: bool,
}

/// A cell whose reply has come and whose `idle` has not.
struct Unfinished {
    /// When its reply came.
    since: Instant,
    /// What its outputs name.
    request: RawMessage,
    begun: bool,
}

/// A cell that failed, for who wants to mend it.
#[derive(Clone, Debug)]
pub struct Failed {
    pub code: String,
    pub failure: Failure,
}

/// Stands in the stream of the kernel's messages.
pub struct Relay {
    desk: Desk,
    open: Mutex<HashMap<String, Open>>,
    unfinished: Mutex<HashMap<String, Unfinished>>,
    /// Comms that are open between this kernel and the front ends.
    comms: Mutex<HashSet<String>>,
    /// Whether this kernel has begun with anything that it was asked.
    at_work: AtomicBool,
    /// Cells that the kernel has.
    cells: watch::Sender<usize>,
    numbers: AtomicU64,
    /// The cell of an agent at work: what it begins and ends is told by the agent's side.
    asked: Mutex<Option<String>>,
    failures: AtomicU64,
    last_failed: Mutex<Option<Failed>>,
    client: Mutex<Option<Client>>,
    /// The number of the latest cell. Front ends reckon with it, so that no reply may lack one.
    count: AtomicU64,
    /// Whose cell asked for input last.
    questioned: Mutex<Vec<Bytes>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section is one insert, remove or replacement, so a panic leaves valid data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    pub fn new(desk: Desk) -> Arc<Relay> {
        Arc::new(Relay {
            desk,
            open: Mutex::default(),
            unfinished: Mutex::default(),
            comms: Mutex::default(),
            at_work: AtomicBool::new(false),
            cells: watch::Sender::new(0),
            numbers: AtomicU64::new(0),
            asked: Mutex::default(),
            failures: AtomicU64::new(0),
            last_failed: Mutex::default(),
            client: Mutex::default(),
            count: AtomicU64::new(0),
            questioned: Mutex::default(),
        })
    }

    /// Passes a front end's request on to the kernel, and remembers whose it is; where it was told that it has `begun`,
    /// the kernel's own word for that is dropped.
    pub fn forward(&self, client: &Client, channel: Channel, message: RawMessage, begun: bool) {
        let Ok(peek) = message.peek() else { return };
        let is_cell = peek.msg_type == "execute_request";
        self.notice_comm(&peek.msg_type, &message.content);
        let answered = !peek.msg_type.starts_with("comm_");
        if answered || peek.msg_type == "comm_info_request" {
            let open = Open {
                channel,
                msg_type: peek.msg_type.clone().into_owned(),
                request: RawMessage {
                    identities: message.identities.clone(),
                    header: message.header.clone(),
                    content: match is_cell {
                        true => message.content.clone(),
                        false => Bytes::new(),
                    },
                    ..RawMessage::default()
                },
                number: self.numbers.fetch_add(1, Ordering::Relaxed),
                begun,
                idle: false,
            };
            self.remember(peek.msg_id.into_owned(), open);
        }
        client.forward(channel, message);
    }

    /// Passes an answer on to the code that asked, where it comes from the client whose cell that is.
    pub fn answer_input(&self, client: &Client, reply: RawMessage) {
        if *lock(&self.questioned) == reply.identities {
            client.forward(Channel::Stdin, reply);
        }
    }

    fn remember(&self, msg_id: String, open: Open) {
        let mut all = lock(&self.open);
        if all.len() >= MOST_OPEN {
            let oldest = all.iter().min_by_key(|(_, open)| open.number);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.gone(all.remove(&oldest));
            }
        }
        if open.is_cell() {
            self.cells.send_modify(|cells| *cells += 1);
        }
        self.gone(all.insert(msg_id, open));
    }

    fn forget(&self, msg_id: &str) -> Option<Open> {
        self.gone(lock(&self.open).remove(msg_id))
    }

    fn gone(&self, open: Option<Open>) -> Option<Open> {
        if open.as_ref().is_some_and(Open::is_cell) {
            self.cells.send_modify(|cells| *cells -= 1);
        }
        open
    }

    /// Whether the kernel has a cell that it has not answered.
    pub fn has_cells(&self) -> bool {
        *self.cells.borrow() > 0
    }

    /// Waits until the kernel has answered every cell that it was given.
    pub async fn cells_done(&self) {
        let _ = self.cells.subscribe().wait_for(|cells| *cells == 0).await;
    }

    /// How often a cell has failed that stops those after it.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// A cell has failed that stops those after it.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub fn last_failed(&self) -> Option<Failed> {
        lock(&self.last_failed).clone()
    }

    /// From now on the agent's side tells the states of this cell; `None`: of no cell.
    pub fn speak_for(&self, msg_id: Option<String>) {
        *lock(&self.asked) = msg_id;
    }

    /// The client of the kernel that runs now.
    pub fn client(&self) -> Option<Client> {
        lock(&self.client).clone()
    }

    /// Forgets the kernel, and with it the one connection to it.
    pub fn disconnect(&self) {
        *lock(&self.client) = None;
    }

    /// Remembers a comm for as long as it is open.
    fn notice_comm(&self, msg_type: &str, content: &Bytes) {
        if msg_type != "comm_open" && msg_type != "comm_close" {
            return;
        }
        match Content::decode(msg_type, content) {
            Content::CommOpen(CommOpen { comm_id, .. }) if comm_id.len() <= COMM_ID => {
                let mut comms = lock(&self.comms);
                if comms.len() < MOST_COMMS {
                    comms.insert(comm_id);
                }
            }
            Content::CommClose(close) => {
                lock(&self.comms).remove(&close.comm_id);
            }
            _ => {}
        }
    }

    /// Answers everything that a kernel that has ended still owed: an error to the cell that ran, `aborted` to the rest.
    /// Its comms are closed, so that no widget waits for it. Gives whether the reason is in a cell of a person's.
    pub fn abandon(&self, ename: &str, reason: &str) -> bool {
        let nobody = RawMessage {
            header: Bytes::from_static(b"{}"),
            ..RawMessage::default()
        };
        for comm_id in std::mem::take(&mut *lock(&self.comms)) {
            let data = serde_json::Map::new();
            self.desk.publish(&nobody, CommClose { comm_id, data });
        }
        let unfinished: Vec<_> = lock(&self.unfinished).drain().collect();
        for (_, cell) in unfinished {
            self.desk.publish_state(&cell.request, ExecutionState::Idle);
        }
        let mut all: Vec<Open> = lock(&self.open).drain().map(|(_, open)| open).collect();
        self.cells.send_replace(0);
        all.sort_by_key(|open| open.number);
        let mut running = all.iter().position(Open::is_cell);
        let told = running.is_some_and(|at| !is_quiet(&all[at].request));
        for (at, open) in all.iter().enumerate() {
            if running == Some(at) {
                running = None;
                self.refuse(&open.request, open.begun, ename, reason);
            } else if open.is_cell() {
                self.abort(&open.request, open.begun);
            } else {
                unanswered(&self.desk, open.channel, &open.request, ename, reason);
            }
        }
        told
    }

    /// Gives a reply back to the client that asked.
    fn answer(&self, channel: Channel, mut reply: RawMessage) {
        let open = reply.parent_msg_id().and_then(|id| self.forget(&id));
        let Some(open) = open else { return };
        if open.is_cell() {
            self.look_at(&open, &reply);
            if !open.idle
                && let Some(id) = reply.parent_msg_id()
            {
                let cell = Unfinished {
                    since: Instant::now(),
                    request: open.request.clone(),
                    begun: open.begun,
                };
                lock(&self.unfinished).insert(id.into_owned(), cell);
            }
        }
        reply.identities = open.request.identities;
        self.desk.send(channel, reply);
    }

    /// The kernel has begun with a request; whether that is news.
    fn is_busy(&self, msg_id: &str) -> bool {
        self.at_work.store(true, Ordering::Relaxed);
        if let Some(open) = lock(&self.open).get_mut(msg_id) {
            return !std::mem::replace(&mut open.begun, true);
        }
        // The reply may have been faster.
        let mut unfinished = lock(&self.unfinished);
        let cell = unfinished.get_mut(msg_id);
        cell.is_none_or(|cell| !std::mem::replace(&mut cell.begun, true))
    }

    /// A cell has reached its end.
    fn is_idle(&self, msg_id: &str) {
        if lock(&self.unfinished).remove(msg_id).is_none()
            && let Some(open) = lock(&self.open).get_mut(msg_id)
        {
            open.idle = true;
        }
    }

    /// Cells whose `idle` is late. A kernel whose subscriber is slow drops what it publishes, and says nothing.
    pub fn overdue(&self) -> Vec<String> {
        let all = lock(&self.unfinished);
        let late = all
            .iter()
            .filter(|(_, cell)| cell.since.elapsed() >= OVERDUE);
        late.map(|(id, _)| id.clone()).collect()
    }

    /// Whether some cell waits for its `idle`.
    pub fn has_unfinished(&self) -> bool {
        !lock(&self.unfinished).is_empty()
    }

    /// Ends these cells in place of the kernel, where their `idle` has still not come.
    pub fn end_in_place(&self, cells: &[String]) {
        for id in cells {
            let Some(Unfinished { request, .. }) = lock(&self.unfinished).remove(id) else {
                continue;
            };
            let text = "\n[the kernel dropped some of this cell's output]\n".to_owned();
            let name = "stderr".into();
            self.desk.publish(&request, Stream { name, text });
            self.desk.publish_state(&request, ExecutionState::Idle);
        }
    }

    /// Keeps what a failed cell is known by.
    fn look_at(&self, open: &Open, reply: &RawMessage) {
        // Few replies hold the word at all.
        if !contains(&reply.content, b"\"error\"") {
            return;
        }
        let (Content::ExecuteReply(reply), Content::ExecuteRequest(request)) = (
            Content::decode("execute_reply", &reply.content),
            Content::decode("execute_request", &open.request.content),
        ) else {
            return;
        };
        if reply.status == ReplyStatus::Error {
            if request.stop_on_error {
                self.failed();
            }
            *lock(&self.last_failed) = Some(Failed {
                code: request.code,
                failure: Failure {
                    ename: reply.ename,
                    evalue: reply.evalue,
                    traceback: reply.traceback,
                },
            });
        }
    }

    /// Passes on a question of running code to the client whose cell it is.
    fn question(&self, mut question: RawMessage) {
        let identities = {
            let all = lock(&self.open);
            let open = question.parent_msg_id().and_then(|id| all.get(&*id));
            open.map(|open| open.request.identities.clone())
        };
        if let Some(identities) = identities {
            lock(&self.questioned).clone_from(&identities);
            question.identities = identities;
            self.desk.send(Channel::Stdin, question);
        }
    }

    fn publication(&self, message: RawMessage) {
        let Ok(peek) = message.peek() else { return };
        let keep = match &*peek.msg_type {
            // Each subscriber is welcomed by us; a shutdown is ours to tell.
            "iopub_welcome" | "shutdown_reply" => return,
            // The front ends' kernel has long been there.
            "status" if contains(&message.content, b"starting") => return,
            kind @ ("status" | "execute_input") => {
                if kind == "execute_input" {
                    self.desk.latest(message.parent_header.clone());
                    if let Content::ExecuteInput(input) = Content::decode(kind, &message.content) {
                        self.counted(input.execution_count);
                    }
                }
                if kind == "status"
                    && let Some(id) = message.parent_msg_id()
                {
                    if contains(&message.content, b"idle") {
                        self.is_idle(&id);
                    } else if contains(&message.content, b"busy") && !self.is_busy(&id) {
                        return;
                    }
                }
                let asked = lock(&self.asked);
                if asked.is_some() && message.parent_msg_id().as_deref() == asked.as_deref() {
                    return;
                }
                true
            }
            // What a kernel prints while it starts is no cell's. A front end that waits for its first cell's states would
            // take it for one of them.
            "stream" if !self.at_work.load(Ordering::Relaxed) => return,
            "stream" | "display_data" | "update_display_data" | "comm_msg" => false,
            kind @ ("comm_open" | "comm_close") => {
                self.notice_comm(kind, &message.content);
                true
            }
            _ => true,
        };
        self.desk.pass(message, keep);
    }
}

impl Open {
    fn is_cell(&self) -> bool {
        self.msg_type == "execute_request"
    }
}

impl Tap for Relay {
    fn take(&self, channel: Channel, message: RawMessage) {
        match channel {
            Channel::Iopub => self.publication(message),
            Channel::Stdin => self.question(message),
            _ => self.answer(channel, message),
        }
    }

    fn ready(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.desk.ready())
    }

    fn connected(&self, client: &Client) {
        let before = lock(&self.client).replace(client.clone());
        self.at_work.store(false, Ordering::Relaxed);
        // What the one before was asked while an agent worked in it, nobody else will answer.
        if before.is_some() {
            self.abandon(
                "KernelDied",
                "the kernel ended, and another is in its place",
            );
        }
    }
}

impl Relay {
    /// The number of the latest cell; 0 before the first.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn counted(&self, count: Option<u64>) {
        if let Some(count) = count {
            self.count.store(count, Ordering::Relaxed);
        }
    }

    /// Fails a cell that cannot be run, whether it has `begun` or not.
    pub fn refuse(&self, request: &RawMessage, begun: bool, ename: &str, reason: &str) {
        let desk = &self.desk;
        let content = Content::decode("execute_request", &request.content);
        let shown = !matches!(
            content,
            Content::ExecuteRequest(ExecuteRequest { silent: true, .. })
        );
        let traceback = vec![format!("\u{1b}[31m{ename}\u{1b}[0m: {reason}")];
        if !begun {
            desk.publish_state(request, ExecutionState::Busy);
        }
        if shown {
            desk.publish(
                request,
                Error {
                    ename: ename.to_owned(),
                    evalue: reason.to_owned(),
                    traceback: traceback.clone(),
                },
            );
        }
        desk.reply(
            Channel::Shell,
            request,
            ExecuteReply {
                status: ReplyStatus::Error,
                execution_count: Some(self.count()),
                ename: ename.to_owned(),
                evalue: reason.to_owned(),
                traceback,
                ..ExecuteReply::default()
            },
        );
        desk.publish_state(request, ExecutionState::Idle);
    }

    /// Tells a cell that it is not run, because one before it failed.
    pub fn abort(&self, request: &RawMessage, begun: bool) {
        let desk = &self.desk;
        if !begun {
            desk.publish_state(request, ExecutionState::Busy);
        }
        desk.reply(
            Channel::Shell,
            request,
            ExecuteReply {
                status: ReplyStatus::Aborted,
                execution_count: Some(self.count()),
                ..ExecuteReply::default()
            },
        );
        desk.publish_state(request, ExecutionState::Idle);
    }
}

/// Replies to a request of any type that it will not be answered.
pub fn unanswered(desk: &Desk, channel: Channel, request: &RawMessage, ename: &str, reason: &str) {
    let Ok(peek) = request.peek() else { return };
    let Some(name) = peek.msg_type.strip_suffix("_request") else {
        return;
    };
    let raw = serde_json::json!({
        "status": "error", "ename": ename, "evalue": reason, "traceback": [],
    });
    let reply = Content::Unknown {
        msg_type: format!("{name}_reply"),
        raw: Bytes::from(raw.to_string()),
    };
    desk.reply(channel, request, reply);
    desk.publish_state(request, ExecutionState::Idle);
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
