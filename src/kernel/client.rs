//! A client of one running kernel: several requests at a time over the five channels, each with its own answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::{KernelError, Tap};
use crate::protocol::content::{ExecutionState, InputReply, KernelInfoReply, KernelInfoRequest};
use crate::protocol::{
    Channel, ConnectionInfo, Content, Header, Message, RawMessage, Signer, Verifier,
};
use crate::transport::{
    ByteQueue, Dealer, DealerReceiver, DealerSender, Frames, Popped, Subscriber, TransportError,
};

/// Bytes of output of one request that wait to be taken; beyond that, output is dropped and a gap marked.
const BACKLOG: usize = 64 << 20;
/// Bytes of messages that belong to no request of ours.
const UNCLAIMED: usize = 1 << 20;
/// Bytes of foreign requests that may wait for the kernel to take them.
const FORWARDED: usize = 16 << 20;
/// How often an older kernel is asked whether our subscription has reached it.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How long nothing may come between a reply and its `idle` before it is looked into whether the `idle` was lost.
const OVERDUE: Duration = Duration::from_secs(1);

/// How long the owner of a kernel's process may take to say how it ended, after its connection closed.
const OBITUARY: Duration = Duration::from_millis(800);

/// What comes back for a request.
#[derive(Debug)]
pub enum Incoming {
    /// A message on iopub whose parent is the request.
    Output(Message),
    /// The running code asks for a line of input; answer with [`Client::answer_input`].
    Input(Message),
    /// The reply on the channel of the request.
    Reply(Message),
    /// The kernel is gone and no reply will come; the text says how it ended.
    Died(String),
}

/// A connected client. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    session: String,
    username: String,
    signer: Signer,
    verifier: Verifier,
    pending: Mutex<HashMap<String, Arc<ByteQueue<Incoming>>>>,
    /// What our requests caused after they ended.
    unclaimed: ByteQueue<Message>,
    /// What the kernel publishes for other clients.
    others: ByteQueue<Message>,
    /// Whether the kernel follows up on a shutdown, that it published, with another life.
    farewell: OnceLock<bool>,
    outgoing: Outgoing,
    /// Set once a kernel's death, or a closed connection, is known.
    dead: watch::Sender<Option<String>>,
    closed: watch::Sender<bool>,
    subscribed: watch::Sender<Subscribed>,
    info: watch::Sender<Option<KernelInfoReply>>,
    unverified: AtomicU64,
    tap: Option<Arc<dyn Tap>>,
    /// Bytes of foreign messages on their way out.
    forwarded: Arc<watch::Sender<usize>>,
    /// Ends the channel tasks with the last client.
    _tasks: Mutex<JoinSet<()>>,
}

struct Outgoing {
    shell: mpsc::UnboundedSender<Sent>,
    control: mpsc::UnboundedSender<Sent>,
    stdin: mpsc::UnboundedSender<Sent>,
}

/// A message on its way out, and the bytes of it that count as forwarded.
type Sent = (Frames, usize);

/// How sure we are that what the kernel publishes reaches us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subscribed {
    No,
    /// Some message came.
    Heard,
    /// The kernel confirmed it (JEP 65).
    Welcomed,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each critical section is one insert, remove or lookup, so a panic leaves valid data.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Connects to the kernel that `info` describes and waits until it listens and we are subscribed.
    pub async fn connect(info: &ConnectionInfo, deadline: Instant) -> Result<Client, KernelError> {
        Client::connect_tapped(info, deadline, None).await
    }

    /// The same, with somebody who sees what is not for us.
    pub async fn connect_tapped(
        info: &ConnectionInfo,
        deadline: Instant,
        tap: Option<Arc<dyn Tap>>,
    ) -> Result<Client, KernelError> {
        let identity = Uuid::new_v4().to_string();
        let address = |channel| info.address(channel);
        let (iopub, shell, control, stdin) = tokio::try_join!(
            Subscriber::connect(address(Channel::Iopub), deadline),
            Dealer::connect(address(Channel::Shell), &identity, deadline),
            Dealer::connect(address(Channel::Control), &identity, deadline),
            Dealer::connect(address(Channel::Stdin), &identity, deadline),
        )?;

        let (shell_out, shell_queue) = mpsc::unbounded_channel();
        let (control_out, control_queue) = mpsc::unbounded_channel();
        let (stdin_out, stdin_queue) = mpsc::unbounded_channel();
        let signer = info.signer()?;
        let client = Client {
            shared: Arc::new(Shared {
                session: Uuid::new_v4().to_string(),
                username: "heddle".into(),
                verifier: Verifier::new(signer.clone()),
                signer,
                pending: Mutex::default(),
                unclaimed: ByteQueue::new(UNCLAIMED),
                others: ByteQueue::new(UNCLAIMED),
                farewell: OnceLock::new(),
                outgoing: Outgoing {
                    shell: shell_out,
                    control: control_out,
                    stdin: stdin_out,
                },
                dead: watch::Sender::new(None),
                closed: watch::Sender::new(false),
                subscribed: watch::Sender::new(Subscribed::No),
                info: watch::Sender::new(None),
                unverified: AtomicU64::new(0),
                tap,
                forwarded: Arc::new(watch::Sender::new(0)),
                _tasks: Mutex::default(),
            }),
        };
        client.spawn_channels(
            iopub,
            [
                (shell, shell_queue, Channel::Shell),
                (control, control_queue, Channel::Control),
                (stdin, stdin_queue, Channel::Stdin),
            ],
        );
        match tokio::time::timeout_at(deadline, client.ready()).await {
            Ok(ready) => {
                ready?;
                if let Some(tap) = &client.shared.tap {
                    tap.connected(&client);
                }
                Ok(client)
            }
            Err(_) => Err(KernelError::NotReady {
                unverified: client.unverified(),
            }),
        }
    }

    fn spawn_channels(
        &self,
        mut iopub: Subscriber,
        dealers: [(Dealer, mpsc::UnboundedReceiver<Sent>, Channel); 3],
    ) {
        let mut tasks = lock(&self.shared._tasks);
        // The tasks hold no strong reference: with the last client they end, and with them the sockets.
        let weak = Arc::downgrade(&self.shared);
        tasks.spawn({
            let weak = weak.clone();
            async move {
                loop {
                    let received = iopub.recv().await;
                    let Some(shared) = weak.upgrade() else { return };
                    match received {
                        Ok(frames) => {
                            shared.take(Channel::Iopub, frames);
                            if let Some(tap) = &shared.tap {
                                tap.ready().await;
                            }
                        }
                        Err(error) => {
                            shared.closed.send_replace(true);
                            return shared.disconnected(&error).await;
                        }
                    }
                }
            }
        });
        for (dealer, queue, channel) in dealers {
            let Dealer { sender, receiver } = dealer;
            tasks.spawn(send_all(sender, queue, self.shared.forwarded.clone()));
            let weak = weak.clone();
            tasks.spawn(async move {
                let mut receiver: DealerReceiver = receiver;
                loop {
                    let received = receiver.recv().await;
                    let Some(shared) = weak.upgrade() else { return };
                    match received {
                        Ok(frames) => shared.take(channel, frames),
                        Err(error) => return shared.disconnected(&error).await,
                    }
                }
            });
        }
    }

    /// Waits until what the kernel publishes reaches us: for its welcome, or where it sends none until a reply and
    /// something published have both come. (ipykernel welcomes only the first of several clients.)
    async fn ready(&self) -> Result<(), KernelError> {
        let mut subscribed = self.shared.subscribed.subscribe();
        let mut info = self.shared.info.subscribe();
        let mut dead = self.shared.dead.subscribe();
        let mut waits_for_shell = false;
        loop {
            // Control answers while a cell runs, and not every kernel answers there. The answers are kept by `take`; the
            // exchanges themselves are not needed.
            let ask = |channel| drop(self.request(channel, KernelInfoRequest {}.into()));
            ask(Channel::Control);
            if !waits_for_shell || info.borrow().is_some() {
                ask(Channel::Shell);
                waits_for_shell = true;
            }
            let heard = async {
                let welcomed = async {
                    let _ = subscribed.wait_for(|s| *s == Subscribed::Welcomed).await;
                };
                let mut subscribed = self.shared.subscribed.subscribe();
                let both = async {
                    let _ = info.wait_for(Option::is_some).await;
                    let _ = subscribed.wait_for(|s| *s >= Subscribed::Heard).await;
                };
                tokio::select! { () = welcomed => {}, () = both => {} }
            };
            tokio::select! {
                () = heard => return Ok(()),
                Ok(reason) = dead.wait_for(Option::is_some) => {
                    return Err(KernelError::Died(reason.clone().unwrap_or_default()));
                }
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
        }
    }

    /// What the kernel says it is and can do.
    pub async fn info(&self) -> Result<KernelInfoReply, KernelError> {
        let mut info = self.shared.info.subscribe();
        let mut dead = self.shared.dead.subscribe();
        tokio::select! {
            Ok(info) = info.wait_for(Option::is_some) => Ok(info.clone().unwrap_or_default()),
            Ok(reason) = dead.wait_for(Option::is_some) => {
                Err(KernelError::Died(reason.clone().unwrap_or_default()))
            }
            else => Err(KernelError::Died("the client was closed".into())),
        }
    }

    /// The same, where the kernel has said it by now.
    pub fn known_info(&self) -> Option<KernelInfoReply> {
        self.shared.info.borrow().clone()
    }

    /// Sends a request and gives what comes back for it.
    pub fn request(&self, channel: Channel, content: Content) -> Exchange {
        self.request_with(channel, content, Map::new(), Vec::new())
    }

    /// The same, with metadata on the request and binary buffers behind it, as comm messages have them.
    pub fn request_with(
        &self,
        channel: Channel,
        content: Content,
        metadata: Map<String, Value>,
        buffers: Vec<Bytes>,
    ) -> Exchange {
        let mut message = Message::request(content, &self.shared.session, &self.shared.username);
        message.metadata = metadata;
        message.buffers = buffers;
        self.exchange(channel, message)
    }

    /// Sends a request under the header of another client's, so that what it causes is that one's in every front end.
    /// A nonce makes it differ from others under the same header.
    pub fn request_as(&self, header: &Header, channel: Channel, content: Content) -> Exchange {
        let mut message = Message::request(content, &self.shared.session, &self.shared.username);
        message.metadata = Map::from_iter([("heddle".to_owned(), message.header.msg_id.into())]);
        message.header = Header {
            msg_type: message.header.msg_type,
            ..header.clone()
        };
        self.exchange(channel, message)
    }

    fn exchange(&self, channel: Channel, message: Message) -> Exchange {
        let msg_id = message.header.msg_id.clone();
        let queue = Arc::new(ByteQueue::new(BACKLOG));
        lock(&self.shared.pending).insert(msg_id.clone(), queue.clone());
        if let Some(reason) = &*self.shared.dead.borrow() {
            queue.push(Incoming::Died(reason.clone()), 0, true);
        }
        self.shared.send(channel, &message);
        let unanswered = matches!(
            message.content,
            Content::CommOpen(_) | Content::CommMsg(_) | Content::CommClose(_)
        );
        Exchange {
            shared: self.shared.clone(),
            msg_id,
            queue,
            awaits_idle: unanswered || matches!(message.content, Content::ExecuteRequest(_)),
            replied: unanswered,
            ended: false,
            overdue: None,
            probes: Vec::new(),
        }
    }

    /// Sends a request and waits for its reply alone.
    pub async fn ask(&self, channel: Channel, content: Content) -> Result<Message, KernelError> {
        let mut exchange = self.request(channel, content);
        exchange.awaits_idle = false;
        while let Some(incoming) = exchange.next().await {
            match incoming {
                Popped::Item(Incoming::Reply(reply)) => return Ok(reply),
                Popped::Item(Incoming::Died(reason)) => return Err(KernelError::Died(reason)),
                _ => {}
            }
        }
        Err(KernelError::Died("it gave no reply".into()))
    }

    /// Answers the `input_request` of running code.
    pub fn answer_input(&self, request: &Message, value: String) {
        let Shared {
            session, username, ..
        } = &*self.shared;
        let reply = Message::request(InputReply { value }, session, username).as_child_of(request);
        self.shared.send(Channel::Stdin, &reply);
    }

    /// The next message that a request of ours caused after it had ended: late output of threads.
    pub async fn unclaimed(&self) -> Option<Popped<Message>> {
        self.shared.unclaimed.pop().await
    }

    /// Passes another client's message on, under our signature. Its answer goes to the [`Tap`].
    pub fn forward(&self, channel: Channel, mut message: RawMessage) {
        message.identities.clear();
        self.shared.signer.sign(&mut message);
        let frames = message.into_frames();
        let bytes = frames.iter().map(Bytes::len).sum();
        self.shared
            .forwarded
            .send_modify(|waiting| *waiting += bytes);
        self.shared.queue(channel, (frames, bytes));
    }

    /// Waits until the kernel has taken most of what was forwarded to it. Safe to cancel.
    pub async fn room(&self) {
        let mut forwarded = self.shared.forwarded.subscribe();
        // Its sender lives as long as we do.
        let _ = forwarded.wait_for(|waiting| *waiting < FORWARDED).await;
    }

    /// Waits until the kernel, or the connection to it, has ended, and says why.
    pub async fn death(&self) -> String {
        let mut dead = self.shared.dead.subscribe();
        match dead.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the client was closed".into(),
        }
    }

    /// The next message that the kernel published for another client, or for nobody.
    pub async fn others(&self) -> Option<Popped<Message>> {
        self.shared.others.pop().await
    }

    /// Whether the kernel has published that it shuts down, and then whether it is to be started again.
    pub fn farewell(&self) -> Option<bool> {
        self.shared.farewell.get().copied()
    }

    /// Ends every waiting request, now and from now on, with this reason.
    pub fn die(&self, reason: &str) {
        self.shared.die(reason);
    }

    /// Messages that were dropped because their signature did not verify.
    pub fn unverified(&self) -> u64 {
        self.shared.unverified.load(Ordering::Relaxed)
    }

    /// Why the kernel, or the connection to it, has ended, once it has.
    pub fn died(&self) -> Option<String> {
        self.shared.dead.borrow().clone()
    }

    /// Waits until the kernel's end of iopub is closed and all that came through it has been handed on.
    pub async fn closed(&self) {
        let _ = self
            .shared
            .closed
            .subscribe()
            .wait_for(|closed| *closed)
            .await;
    }
}

async fn send_all(
    mut sender: DealerSender,
    mut queue: mpsc::UnboundedReceiver<Sent>,
    forwarded: Arc<watch::Sender<usize>>,
) {
    while let Some((frames, bytes)) = queue.recv().await {
        if sender.send(frames).await.is_err() {
            return;
        }
        if bytes > 0 {
            forwarded.send_modify(|waiting| *waiting -= bytes);
        }
    }
}

impl Shared {
    fn send(&self, channel: Channel, message: &Message) {
        let mut raw = message.encode();
        self.signer.sign(&mut raw);
        self.queue(channel, (raw.into_frames(), 0));
    }

    fn queue(&self, channel: Channel, sent: Sent) {
        let outgoing = &self.outgoing;
        let queue = match channel {
            Channel::Control => &outgoing.control,
            Channel::Stdin => &outgoing.stdin,
            _ => &outgoing.shell,
        };
        // A closed queue means a closed connection, which every waiting request is told anyway.
        let _ = queue.send(sent);
    }

    /// Shows a message to the tap, and gives it back where it is ours as well.
    fn tapped(&self, channel: Channel, message: RawMessage) -> Option<RawMessage> {
        let Some(tap) = &self.tap else {
            return Some(message);
        };
        let parent = message.parent();
        // Without a parent it is about the kernel: a welcome, a state.
        let (own, claimed) = parent.as_ref().map_or((false, true), |parent| {
            (
                parent.session == self.session,
                lock(&self.pending).contains_key(&*parent.msg_id),
            )
        });
        if own {
            return Some(message);
        }
        if claimed {
            tap.take(channel, message.clone());
            return Some(message);
        }
        drop(parent);
        tap.take(channel, message);
        None
    }

    /// Verifies a received message and hands it to the request that it answers.
    fn take(&self, channel: Channel, frames: Frames) {
        let size = frames.iter().map(|frame| frame.len()).sum();
        let verified = RawMessage::parse(frames).and_then(|raw| {
            self.verifier.verify(&raw)?;
            Ok(raw)
        });
        let message = match verified {
            Ok(raw) => self.tapped(channel, raw).map(Message::decode),
            Err(error) => Some(Err(error)),
        };
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(_)) => {
                self.unverified.fetch_add(1, Ordering::Relaxed);
                return;
            }
            None => return,
        };
        if channel == Channel::Iopub {
            let heard = match message.content {
                Content::IopubWelcome(_) => Subscribed::Welcomed,
                _ => Subscribed::Heard,
            };
            self.subscribed.send_if_modified(|s| {
                let newly = heard > *s;
                *s = heard.max(*s);
                newly
            });
        }
        match &message.content {
            Content::KernelInfoReply(info) => {
                self.info.send_replace(Some(info.clone()));
            }
            Content::ShutdownReply(reply) if channel == Channel::Iopub => {
                self.farewell.get_or_init(|| reply.restart);
            }
            _ => {}
        }
        let parent = message.parent_header.as_ref().map(|parent| &parent.msg_id);
        let queue = parent.and_then(|id| lock(&self.pending).get(id).cloned());
        let keep = !matches!(
            message.content,
            Content::Stream(_)
                | Content::DisplayData(_)
                | Content::UpdateDisplayData(_)
                | Content::CommMsg(_)
        );
        let Some(queue) = queue else {
            if channel == Channel::Iopub {
                let parent = message.parent_header.as_ref();
                let ours = parent.is_some_and(|parent| parent.session == self.session);
                let queue = if ours { &self.unclaimed } else { &self.others };
                queue.push(message, size, false);
            }
            return;
        };
        let incoming = match channel {
            Channel::Iopub => Incoming::Output(message),
            Channel::Stdin => Incoming::Input(message),
            _ => Incoming::Reply(message),
        };
        queue.push(incoming, size, keep);
    }

    /// A closed connection is a death, unless the owner of the process knows better first: how it ended.
    async fn disconnected(&self, error: &TransportError) {
        let mut dead = self.dead.subscribe();
        let known = dead.wait_for(Option::is_some);
        if tokio::time::timeout(OBITUARY, known).await.is_err() {
            self.die(&format!("went away: {error}"));
        }
    }

    fn die(&self, reason: &str) {
        let first = self.dead.send_if_modified(|dead| {
            let first = dead.is_none();
            dead.get_or_insert_with(|| reason.to_owned());
            first
        });
        if first {
            for queue in lock(&self.pending).values() {
                queue.push(Incoming::Died(reason.to_owned()), 0, true);
            }
        }
    }
}

/// One request and what comes back for it.
pub struct Exchange {
    shared: Arc<Shared>,
    msg_id: String,
    queue: Arc<ByteQueue<Incoming>>,
    /// Whether the `idle` of this request is still to come. Cells and comm messages end with it, others with their reply.
    awaits_idle: bool,
    /// Whether the reply has come. Comm messages have none.
    replied: bool,
    ended: bool,
    /// When to ask for an `idle` that is late.
    overdue: Option<Instant>,
    /// Later requests whose answers come through our queue.
    probes: Vec<String>,
}

impl Exchange {
    /// The next message; `None` once both the reply and the `idle` have come, in either order, or the kernel died.
    /// A kernel that publishes faster than it is read drops messages, maybe the `idle` too; then a gap stands for it.
    /// Safe to cancel.
    pub async fn next(&mut self) -> Option<Popped<Incoming>> {
        if self.ended || (self.replied && !self.awaits_idle) {
            return None;
        }
        let popped = loop {
            tokio::select! {
                biased;
                popped = self.queue.pop() => break popped?,
                () = at(self.overdue) => self.probe(),
            }
        };
        let mut lost = false;
        match &popped {
            Popped::Item(Incoming::Reply(_)) => self.replied = true,
            Popped::Item(Incoming::Output(message)) => {
                if let Content::Status(status) = &message.content
                    && status.execution_state == ExecutionState::Idle
                {
                    self.awaits_idle = false;
                    let parent = message.parent_header.as_ref();
                    lost = parent.is_some_and(|parent| self.probes.contains(&parent.msg_id));
                }
            }
            Popped::Item(Incoming::Died(_)) => self.ended = true,
            _ => {}
        }
        self.expect_idle();
        if lost {
            return Some(Popped::Gap {
                messages: 1,
                bytes: 0,
            });
        }
        Some(popped)
    }

    /// Waits until something has come for the request: the kernel has begun with it, will never, or is gone. Takes
    /// nothing away. Safe to cancel.
    pub async fn begun(&self) {
        self.queue.filled().await;
    }

    /// Sends a request that the kernel works off after ours. What a kernel publishes stays in order, so the `idle` of
    /// the probe comes after ours, or instead of it.
    fn probe(&mut self) {
        let content = Content::KernelInfoRequest(Default::default());
        let message = Message::request(content, &self.shared.session, &self.shared.username);
        let msg_id = message.header.msg_id.clone();
        lock(&self.shared.pending).insert(msg_id.clone(), self.queue.clone());
        self.probes.push(msg_id);
        self.shared.send(Channel::Shell, &message);
        self.expect_idle();
    }

    /// Each probe is waited for longer than the one before: a long cell of another client may be in its way.
    fn expect_idle(&mut self) {
        let patience = OVERDUE * (1 << self.probes.len().min(6));
        let late = self.replied && self.awaits_idle;
        self.overdue = late.then(|| Instant::now() + patience);
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut pending = lock(&self.shared.pending);
        for msg_id in self.probes.iter().chain([&self.msg_id]) {
            pending.remove(msg_id);
        }
    }
}

#[cfg(test)]
mod tests;
