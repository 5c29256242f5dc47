//! What passes from the kernel to the front ends, and which of their requests it still owes an answer.

use std::borrow::Cow;
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

/// A request that the kernel has: until its reply, and a cell until its `idle` as well, in whichever order they come.
struct Request {
    channel: Channel,
    msg_type: String,
    /// Without its buffers, and for other requests than cells without its content.
    request: RawMessage,
    number: u64,
    /// Whether its `busy` was told, by the kernel or by us.
    begun: bool,
    /// When its reply came, where its `idle` has not.
    replied: Option<Instant>,
    /// Whether its `idle` has come, before its reply.
    idle: bool,
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
    requests: Mutex<HashMap<String, Request>>,
    /// Changes when a cell ends whose reply came before.
    ends: watch::Sender<()>,
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
            requests: Mutex::default(),
            ends: watch::Sender::new(()),
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
            let request = Request {
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
                replied: None,
                idle: false,
            };
            self.remember(peek.msg_id.into_owned(), request);
        }
        client.forward(channel, message);
    }

    /// Passes an answer on to the code that asked, where it comes from the client whose cell that is.
    pub fn answer_input(&self, client: &Client, reply: RawMessage) {
        if *lock(&self.questioned) == reply.identities {
            client.forward(Channel::Stdin, reply);
        }
    }

    fn remember(&self, msg_id: String, request: Request) {
        let mut all = lock(&self.requests);
        if all.len() >= MOST_OPEN {
            let oldest = all.iter().min_by_key(|(_, request)| request.number);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.gone(all.remove(&oldest));
            }
        }
        if request.is_cell() {
            self.cells.send_modify(|cells| *cells += 1);
        }
        self.gone(all.insert(msg_id, request));
    }

    /// A request is forgotten: what was counted of it no longer counts.
    fn gone(&self, request: Option<Request>) {
        match request {
            Some(Request {
                replied: Some(_), ..
            }) => self.ends.send_modify(|()| ()),
            Some(request) if request.is_cell() => self.cells.send_modify(|cells| *cells -= 1),
            _ => {}
        }
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
        let all = std::mem::take(&mut *lock(&self.requests)).into_values();
        let (unfinished, mut all): (Vec<_>, Vec<_>) =
            all.partition(|request| request.replied.is_some());
        for cell in unfinished {
            self.desk.publish_state(&cell.request, ExecutionState::Idle);
        }
        self.ends.send_modify(|()| ());
        self.cells.send_replace(0);
        all.sort_by_key(|request| request.number);
        let mut running = all.iter().position(Request::is_cell);
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
        let Some(id) = reply.parent_msg_id().map(Cow::into_owned) else {
            return;
        };
        let asked = {
            let mut all = lock(&self.requests);
            let request = all.get_mut(&id).filter(|asked| asked.replied.is_none());
            let Some(request) = request else { return };
            if request.is_cell() && !request.idle {
                request.replied = Some(Instant::now());
                self.cells.send_modify(|cells| *cells -= 1);
                request.request.clone()
            } else {
                let request = all.remove(&id);
                let asked = request.as_ref().map(|request| request.request.clone());
                self.gone(request);
                asked.unwrap_or_default()
            }
        };
        self.look_at(&asked, &reply);
        reply.identities = asked.identities;
        self.desk.send(channel, reply);
    }

    /// The kernel has begun with a request; whether that is news. The reply may have been faster.
    fn is_busy(&self, msg_id: &str) -> bool {
        self.at_work.store(true, Ordering::Relaxed);
        let mut all = lock(&self.requests);
        let request = all.get_mut(msg_id);
        request.is_none_or(|request| !std::mem::replace(&mut request.begun, true))
    }

    /// The `idle` of a request has been told.
    fn is_idle(&self, msg_id: &str) {
        let mut all = lock(&self.requests);
        let Some(request) = all.get_mut(msg_id) else {
            return;
        };
        request.idle = true;
        if request.replied.is_some() {
            self.gone(all.remove(msg_id));
        }
    }

    /// Cells whose `idle` is late. A kernel whose subscriber is slow drops what it publishes, and says nothing.
    pub fn overdue(&self) -> Vec<String> {
        self.replied(|replied| replied.elapsed() >= OVERDUE)
    }

    /// Cells that wait for their `idle`, after their reply.
    pub fn unfinished(&self) -> Vec<String> {
        self.replied(|_| true)
    }

    /// Whether some cell waits for its `idle`.
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished().is_empty()
    }

    fn replied(&self, at: impl Fn(Instant) -> bool) -> Vec<String> {
        let all = lock(&self.requests);
        let such = all
            .iter()
            .filter(|(_, request)| request.replied.is_some_and(&at));
        such.map(|(id, _)| id.clone()).collect()
    }

    /// Waits until none of these cells waits for its `idle` any more. Safe to cancel.
    pub async fn ended(&self, cells: &[String]) {
        let waits = |id: &String| {
            let all = lock(&self.requests);
            all.get(id).is_some_and(|request| request.replied.is_some())
        };
        // Its sender lives as long as we do.
        let _ = self
            .ends
            .subscribe()
            .wait_for(|()| !cells.iter().any(waits))
            .await;
    }

    /// Ends these cells in place of the kernel, where their `idle` has still not come.
    pub fn end_in_place(&self, cells: &[String]) {
        for id in cells {
            let cell = {
                let all = lock(&self.requests);
                let late = all.get(id).filter(|cell| cell.replied.is_some());
                late.map(|cell| cell.request.clone())
            };
            let Some(cell) = cell else { continue };
            let text = "\n[the kernel dropped some of this cell's output]\n".to_owned();
            let name = "stderr".into();
            self.desk.publish(&cell, Stream { name, text });
            self.desk.publish_state(&cell, ExecutionState::Idle);
            self.is_idle(id);
        }
    }

    /// Keeps what a failed cell is known by.
    fn look_at(&self, asked: &RawMessage, reply: &RawMessage) {
        // Few replies hold the word at all, and requests other than cells are kept without a content.
        if asked.content.is_empty() || !contains(&reply.content, b"\"error\"") {
            return;
        }
        let (Content::ExecuteReply(reply), Content::ExecuteRequest(request)) = (
            Content::decode("execute_reply", &reply.content),
            Content::decode("execute_request", &asked.content),
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
            let all = lock(&self.requests);
            let asking = question.parent_msg_id().and_then(|id| all.get(&*id));
            let asking = asking.filter(|asking| asking.replied.is_none());
            asking.map(|asking| asking.request.identities.clone())
        };
        if let Some(identities) = identities {
            lock(&self.questioned).clone_from(&identities);
            question.identities = identities;
            self.desk.send(Channel::Stdin, question);
        }
    }

    fn publication(&self, message: RawMessage) {
        let Ok(peek) = message.peek() else { return };
        let mut ended = None;
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
                        ended = Some(id.into_owned());
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
        // Only now: whoever waits for the cell's end publishes what must come after it.
        if let Some(id) = ended {
            self.is_idle(&id);
        }
    }
}

impl Request {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::front::Front;
    use crate::protocol::content::Status;
    use crate::protocol::{ConnectionInfo, Message};
    use futures_util::FutureExt;

    /// What a client asks next must come behind the `idle` of a cell, whose reply it has: see [`Relay::ended`].
    #[tokio::test]
    async fn a_cell_ends_with_its_idle_whichever_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("k");
        let info = ConnectionInfo::ipc(&place.to_string_lossy(), "key".into()).unwrap();
        let (_front, desk) = Front::bind(&info).await.unwrap();
        let relay = Relay::new(desk);
        let cell = Message::request(ExecuteRequest::default(), "front", "user");
        let id = cell.header.msg_id.clone();
        let said = |content: Content| {
            let message = Message::request(content, "kernel", "kernel").as_child_of(&cell);
            message.encode()
        };
        let reply = || relay.take(Channel::Shell, said(ExecuteReply::default().into()));
        let state =
            |execution_state| relay.take(Channel::Iopub, said(Status { execution_state }.into()));
        for reply_first in [true, false] {
            relay.remember(
                id.clone(),
                Request {
                    channel: Channel::Shell,
                    msg_type: "execute_request".into(),
                    request: cell.encode(),
                    number: 0,
                    begun: false,
                    replied: None,
                    idle: false,
                },
            );
            state(ExecutionState::Busy);
            assert!(relay.has_cells() && !relay.has_unfinished());
            if reply_first {
                reply();
                // A second one is nobody's.
                reply();
                assert!(!relay.has_cells());
                assert_eq!(relay.unfinished(), std::slice::from_ref(&id));
                assert!(relay.ended(&relay.unfinished()).now_or_never().is_none());
                state(ExecutionState::Idle);
            } else {
                state(ExecutionState::Idle);
                assert!(relay.has_cells());
                reply();
            }
            assert!(
                relay
                    .ended(std::slice::from_ref(&id))
                    .now_or_never()
                    .is_some()
            );
            assert!(!relay.has_cells() && lock(&relay.requests).is_empty());
        }
    }
}
