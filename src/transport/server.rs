//! The kernel's end of the five channels: what front ends connect to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::gate::{DRAIN, Limits};
use super::guests::{Acquaintances, Guest, Guests, Seats};
use super::log::{Log, Membership};
use super::queue::{ByteQueue, Popped};
use super::stream::{Listener, SocketName, Stream};
use super::zmtp::{self, Role};
use super::{Frames, TransportError};
use crate::protocol::Address;

/// Connections that a channel serves at a time; further ones are closed at once. Together they leave descriptors to a
/// process that may have 1024.
const SEATS: Seats = Seats {
    strangers: 96,
    known: 256,
};
/// Nothing that a subscriber can send shows who it is.
const SUBSCRIBERS: Seats = Seats {
    strangers: 96,
    known: 384,
};
/// How long a channel takes no connections when the process has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// Messages of one channel that wait for us, and their KiB; beyond that no sender's next one is taken.
const INBOX: usize = 256;
const INBOX_KIB: u32 = 64 << 10;
/// The largest message of a stranger, in bytes, and its frames.
const INTRODUCTION: u64 = 1 << 20;
const INTRODUCTION_FRAMES: u64 = 64;
/// Bytes that a stranger's message may hold at once, and KiB of what goes beyond that for all strangers of a channel.
const FREE: u64 = 20 << 10;
const LOBBY_KIB: usize = 4 << 10;
/// Messages that a stranger may send and that show nothing.
const STRAYS: u32 = 16;
/// Bytes that wait for one slow client; beyond that it is disconnected.
const BACKLOG: usize = 64 << 20;
/// Bytes that wait for slow subscribers; beyond that they miss some.
const PUBLISHED: usize = 32 << 20;
/// Bytes that a subscriber may be behind before the source is asked to wait, too.
const CALM: u64 = 4 << 20;
/// How long a subscriber may take nothing and still be waited for.
const STALL: Duration = Duration::from_secs(1);
/// How long a peer may take nothing of what is sent to it and still be connected. A front end that is stopped for a while
/// finds what waits for it.
const GIVEN_UP: Duration = Duration::from_secs(300);
/// Subscriptions that one connection may make, and the longest.
const SUBSCRIPTIONS: usize = 1024;
const TOPIC: u64 = 1024;
/// The longest heartbeat, in bytes.
const BEAT: u64 = 64 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every update below is a single insert or remove, so a panic elsewhere leaves the data whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends an accept loop, its connections and its socket's name with its owner.
struct Serving {
    task: tokio::task::AbortHandle,
    _name: Option<SocketName>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts connections for as long as the result is owned and runs `serve` for each.
fn accept<F, Fut>(
    mut listener: Listener,
    seats: Seats,
    acquaintances: Acquaintances,
    serve: F,
) -> Serving
where
    F: Fn(Box<dyn Stream>, Arc<Guest>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let name = listener.name.take();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        let mut guests = Guests::new(seats, acquaintances);
        loop {
            tokio::select! {
                stream = listener.accept() => match stream {
                    Ok(stream) => {
                        if let Some(guest) = guests.seat() {
                            let task = connections.spawn(serve(stream, guest.clone()));
                            guests.add(guest, task);
                        }
                    }
                    Err(_) => tokio::time::sleep(EXHAUSTED).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    });
    Serving {
        task: task.abort_handle(),
        _name: name,
    }
}

/// Who counts as a client of a [`Router`]: a connection on which a message came that is admitted. Until then it is a
/// stranger. Shared by the channels of one kernel.
#[derive(Clone)]
pub struct Guard {
    admits: Arc<dyn Fn(&Frames) -> bool + Send + Sync>,
    acquaintances: Acquaintances,
}

impl Guard {
    /// `admits` is asked once for each message of every connection, the identity first, on the connection's own task.
    pub fn new(admits: impl Fn(&Frames) -> bool + Send + Sync + 'static) -> Guard {
        Guard {
            admits: Arc::new(admits),
            acquaintances: Acquaintances::default(),
        }
    }
}

type Outbox = Arc<ByteQueue<Frames>>;

/// The connections, by the identities that they go by. The last that was shown to be a client's is the one that is sent
/// to: a client that comes back under its identity takes it over, as with ROUTER_HANDOVER, and nobody else does.
#[derive(Default)]
struct Clients {
    claims: Mutex<HashMap<Bytes, Vec<Claim>>>,
    any: watch::Sender<bool>,
    acquaintances: Acquaintances,
    /// Whether strangers are asked where no client is known: on stdin a client says nothing before it is.
    asks: bool,
}

struct Claim {
    outbox: Outbox,
    known: bool,
}

impl Clients {
    /// Whom a message to this identity goes to.
    fn find(&self, identity: &Bytes) -> Vec<Outbox> {
        let claims = lock(&self.claims);
        let claims = claims.get(identity).map_or(&[][..], Vec::as_slice);
        match claims.iter().rev().find(|claim| claim.known) {
            Some(client) => vec![client.outbox.clone()],
            None if self.asks => claims.iter().map(|claim| claim.outbox.clone()).collect(),
            None => Vec::new(),
        }
    }

    fn all(&self) -> Vec<Outbox> {
        let claims = lock(&self.claims);
        let all = claims.values().flatten();
        all.map(|claim| claim.outbox.clone()).collect()
    }

    /// Changes the claims to an identity, and notices what comes of it.
    fn change(&self, identity: &Bytes, change: impl FnOnce(&mut Vec<Claim>)) {
        let mut all = lock(&self.claims);
        let claims = all.entry(identity.clone()).or_default();
        change(claims);
        if claims.is_empty() {
            all.remove(identity);
        }
        let any = all.values().flatten().any(|claim| claim.known);
        self.any
            .send_if_modified(|before| std::mem::replace(before, any) != any);
    }
}

/// A connection's claim to its identity, given up when it is dropped.
struct Presence {
    clients: Arc<Clients>,
    identity: Bytes,
    outbox: Outbox,
    known: bool,
}

impl Presence {
    fn new(clients: Arc<Clients>, identity: Bytes) -> Presence {
        let outbox = Outbox::new(ByteQueue::new(BACKLOG));
        let claim = Claim {
            outbox: outbox.clone(),
            known: false,
        };
        clients.change(&identity, |claims| claims.push(claim));
        Presence {
            clients,
            identity,
            outbox,
            known: false,
        }
    }

    /// It is a client's.
    fn know(&mut self) {
        self.known = true;
        self.clients.acquaintances.add(&self.identity);
        let outbox = self.outbox.clone();
        self.clients.change(&self.identity, |claims| {
            claims.retain(|claim| !Arc::ptr_eq(&claim.outbox, &outbox));
            claims.push(Claim {
                outbox,
                known: true,
            });
        });
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.known {
            self.clients.acquaintances.remove(&self.identity);
        }
        self.clients.change(&self.identity, |claims| {
            claims.retain(|claim| !Arc::ptr_eq(&claim.outbox, &self.outbox));
        });
    }
}

/// A ROUTER for any number of clients: shell, control or stdin. Messages begin with the client's identity frame,
/// in both directions.
pub struct Router {
    pub sender: RouterSender,
    inbox: mpsc::Receiver<Received>,
    _serving: Serving,
}

/// A message, and its part of the inbox.
type Received = (Frames, OwnedSemaphorePermit);

/// Sends to the clients of a [`Router`]; clones do the same.
#[derive(Clone)]
pub struct RouterSender(Arc<Clients>);

/// What the connections of one [`Router`] have in common.
struct Hall {
    clients: Arc<Clients>,
    guard: Option<Guard>,
    inbox: mpsc::Sender<Received>,
    room: Arc<Semaphore>,
    lobby: Arc<Semaphore>,
}

impl Router {
    /// Whoever connects is a client.
    pub async fn bind(address: Address) -> Result<Router, TransportError> {
        Router::open(address, None, false).await
    }

    /// Only messages that `guard` admits are received, and only those who sent one are clients. With `asks`, a stranger is
    /// sent what is meant for its identity as long as no client is known by it.
    pub async fn guarded(
        address: Address,
        guard: Guard,
        asks: bool,
    ) -> Result<Router, TransportError> {
        Router::open(address, Some(guard), asks).await
    }

    async fn open(
        address: Address,
        guard: Option<Guard>,
        asks: bool,
    ) -> Result<Router, TransportError> {
        let listener = Listener::bind(&address).await?;
        let (inbox_sender, inbox) = mpsc::channel(INBOX);
        let acquaintances = guard.as_ref().map(|guard| guard.acquaintances.clone());
        let acquaintances = acquaintances.unwrap_or_default();
        let clients = Arc::new(Clients {
            acquaintances: acquaintances.clone(),
            asks,
            ..Clients::default()
        });
        let hall = Arc::new(Hall {
            clients: clients.clone(),
            guard,
            inbox: inbox_sender,
            room: Arc::new(Semaphore::new(INBOX_KIB as usize)),
            lobby: Arc::new(Semaphore::new(LOBBY_KIB)),
        });
        let serving = accept(listener, SEATS, acquaintances, move |stream, guest| {
            serve_router(stream, guest, hall.clone())
        });
        Ok(Router {
            sender: RouterSender(clients),
            inbox,
            _serving: serving,
        })
    }

    /// The next message of any client, its identity first. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Frames> {
        self.inbox.recv().await.map(|(frames, _)| frames)
    }
}

impl RouterSender {
    /// Waits until some client is connected, or none.
    pub async fn has_clients(&self, any: bool) {
        // An error would mean that we are gone.
        let _ = self.0.any.subscribe().wait_for(|now| *now == any).await;
    }

    /// Whether a client with this identity is connected.
    pub fn reaches(&self, identity: &Bytes) -> bool {
        !self.0.find(identity).is_empty()
    }

    /// Waits until the clients have been sent what waits for them.
    pub async fn drained(&self) {
        for outbox in self.0.all() {
            outbox.drained().await;
        }
    }

    /// Sends to the client that the first frame names. A client that has gone is no error: it asked, and left. One that
    /// takes nothing for too long is disconnected; nobody waits for it.
    pub fn send(&self, frames: Frames) {
        let Some(identity) = frames.first() else {
            return;
        };
        let bytes = frames.iter().map(Bytes::len).sum();
        for outbox in self.0.find(identity) {
            outbox.push(frames.clone(), bytes, true);
        }
    }
}

/// What a stranger's message takes of the room that all of them share.
struct Lobby<'a> {
    room: &'a Arc<Semaphore>,
    taken: Vec<OwnedSemaphorePermit>,
    kib: u64,
}

impl Lobby<'_> {
    /// Whether a message may come to hold so many bytes.
    fn admits(&mut self, held: u64) -> bool {
        let more = (held.saturating_sub(FREE).div_ceil(1 << 10)).saturating_sub(self.kib);
        let Ok(permit) = self.room.clone().try_acquire_many_owned(more as u32) else {
            return false;
        };
        self.kib += more;
        self.taken.push(permit);
        true
    }
}

/// Serves one connection.
async fn serve_router(stream: Box<dyn Stream>, guest: Arc<Guest>, hall: Arc<Hall>) {
    let limits = Limits::default();
    let stranger = Limits {
        message: INTRODUCTION,
        frames: INTRODUCTION_FRAMES,
        ..limits
    };
    let shaken = zmtp::accept(stream, Role::Router, &limits, GIVEN_UP).await;
    let Ok((mut identity, mut reader, mut writer)) = shaken else {
        return;
    };
    if identity.is_empty() {
        identity = uuid::Uuid::new_v4().to_string().into();
    }
    guest.calls_itself(identity.clone());
    guest.touch();
    let mut presence = Presence::new(hall.clients.clone(), identity.clone());
    let outbox = presence.outbox.clone();
    if hall.guard.is_none() {
        guest.know();
        presence.know();
    }
    let receive = async {
        let mut strays = 0;
        loop {
            let frames = match guest.is_known() {
                true => reader.message(&limits, |_| true).await,
                false => {
                    let mut lobby = Lobby {
                        room: &hall.lobby,
                        taken: Vec::new(),
                        kib: 0,
                    };
                    reader.message(&stranger, |held| lobby.admits(held)).await
                }
            };
            let Ok(mut frames) = frames else { return };
            frames.insert(0, identity.clone());
            if let Some(guard) = &hall.guard {
                if !(guard.admits)(&frames) {
                    strays += 1;
                    match guest.is_known() || strays <= STRAYS {
                        true => continue,
                        false => return,
                    }
                }
                if !guest.is_known() {
                    guest.know();
                    presence.know();
                }
            }
            let bytes: usize = frames.iter().map(Bytes::len).sum();
            // One of any size has room when it is alone.
            let share = u32::try_from(bytes >> 10).map_or(INBOX_KIB, |kib| kib.clamp(1, INBOX_KIB));
            let Ok(permit) = hall.room.clone().acquire_many_owned(share).await else {
                return;
            };
            if hall.inbox.send((frames, permit)).await.is_err() {
                return;
            }
        }
    };
    let send = async {
        // A gap among replies is worse than a new connection.
        while let Some(Popped::Item(frames)) = outbox.pop().await {
            // The peer knows its own name.
            if writer.message(&frames[1..]).await.is_err() {
                // It takes no more, and what it sent before is still there to be read.
                return true;
            }
        }
        false
    };
    let mut receive = std::pin::pin!(receive);
    tokio::select! {
        () = &mut receive => {}
        gone = send => if gone {
            // What takes longer is not waited for.
            let _ = tokio::time::timeout(DRAIN, receive).await;
        }
    }
}

/// A subscriber of a [`Publisher`] has subscribed to `topic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Names the connection, for [`Publisher::send_to`].
    pub subscriber: u64,
    pub topic: Bytes,
}

/// A PUB for any number of subscribers: iopub. A slow one misses messages, and neither delays the others nor fills
/// the memory.
pub struct Publisher {
    pub sender: PublisherSender,
    subscriptions: mpsc::Receiver<Subscription>,
    _serving: Serving,
}

/// Sends to the subscribers of a [`Publisher`]; clones do the same.
#[derive(Clone)]
pub struct PublisherSender(Arc<Log>);

impl Publisher {
    /// `gap` makes the message that a subscriber gets in place of those it missed (their number, their bytes).
    pub async fn bind<G>(address: Address, gap: G) -> Result<Publisher, TransportError>
    where
        G: Fn(u64, u64) -> Frames + Send + Sync + 'static,
    {
        let listener = Listener::bind(&address).await?;
        let (subscribed, subscriptions) = mpsc::channel(INBOX);
        let log = Arc::new(Log::new(PUBLISHED));
        let numbers = AtomicU64::new(0);
        let gap = Arc::new(gap);
        let strangers = Acquaintances::default();
        let serving = accept(listener, SUBSCRIBERS, strangers, {
            let log = log.clone();
            move |stream, guest| {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let (log, subscribed, gap) = (log.clone(), subscribed.clone(), gap.clone());
                async move {
                    serve_subscriber(stream, guest, number, log, subscribed, &*gap).await;
                }
            }
        });
        Ok(Publisher {
            sender: PublisherSender(log),
            subscriptions,
            _serving: serving,
        })
    }

    /// The next subscription that a front end makes, which `iopub_welcome` answers (JEP 65). Those that nobody asks for
    /// are forgotten after a while. Safe to cancel.
    pub async fn subscription(&mut self) -> Option<Subscription> {
        self.subscriptions.recv().await
    }
}

impl PublisherSender {
    /// Waits until the subscribers have been sent what waits for them.
    pub async fn drained(&self) {
        self.0.drained().await;
    }

    /// Publishes to every subscriber of the topic that the first frame begins with. `keep` marks what a front end
    /// cannot do without (states, replies to its own cells): it is dropped last.
    pub fn publish(&self, frames: &Frames, keep: bool) {
        self.0.publish(frames.clone(), keep);
    }

    /// Sends to one subscriber only.
    pub fn send_to(&self, subscriber: u64, frames: Frames) {
        self.0.tell(subscriber, frames);
    }

    /// Waits while all subscribers that take anything are slow: one that keeps up is not held back by others, and one
    /// that has taken nothing for a while is not waited for. Safe to cancel.
    pub async fn ready(&self) {
        self.0.ready(CALM, STALL).await;
    }
}

async fn serve_subscriber(
    stream: Box<dyn Stream>,
    guest: Arc<Guest>,
    number: u64,
    log: Arc<Log>,
    subscribed: mpsc::Sender<Subscription>,
    gap: &(dyn Fn(u64, u64) -> Frames + Send + Sync),
) {
    let limits = Limits {
        message: TOPIC,
        ..Limits::default()
    };
    let shaken = zmtp::accept(stream, Role::Publisher, &limits, GIVEN_UP).await;
    let Ok((_, mut reader, mut writer)) = shaken else {
        return;
    };
    let topics = Mutex::new(Vec::<Bytes>::new());
    let membership = Mutex::new(None::<Membership>);
    let (joined, mut joins) = watch::channel(false);
    let receive = async {
        let mut subscriptions = 0;
        while let Ok(message) = reader.message(&limits, |_| true).await {
            let Some((&kind, topic)) = message.first().and_then(|frame| frame.split_first()) else {
                continue;
            };
            let topic = Bytes::copy_from_slice(topic);
            match kind {
                1 => {
                    subscriptions += 1;
                    if subscriptions > SUBSCRIPTIONS {
                        return;
                    }
                    guest.know();
                    lock(&topics).push(topic.clone());
                    lock(&membership).get_or_insert_with(|| log.join(number));
                    joined.send_replace(true);
                    // Full when the owner does not want to know.
                    let _ = subscribed.try_send(Subscription {
                        subscriber: number,
                        topic,
                    });
                }
                0 => {
                    let mut topics = lock(&topics);
                    if let Some(at) = topics.iter().position(|one| *one == topic) {
                        topics.swap_remove(at);
                    }
                }
                _ => {}
            }
        }
    };
    let send = async {
        // Its sender lives as long as this.
        let _ = joins.wait_for(|joined| *joined).await;
        loop {
            let frames = match log.read(number, CALM).await {
                Popped::Item(frames) => frames,
                Popped::Gap { messages, bytes } => Arc::new(gap(messages, bytes)),
            };
            let topic = frames.first();
            let wanted = topic.is_some_and(|topic| {
                let topics = lock(&topics);
                topics.iter().any(|wanted| topic.starts_with(wanted))
            });
            if wanted && writer.message(&frames).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = receive => {}, () = send => {} }
}

/// Echoes heartbeats for as long as the result is kept.
pub async fn bind_heartbeat(address: Address) -> Result<impl Drop + Send + use<>, TransportError> {
    let listener = Listener::bind(&address).await?;
    let strangers = Acquaintances::default();
    let serving = accept(listener, SEATS, strangers, |stream, guest| async move {
        let limits = Limits {
            message: BEAT,
            frames: INTRODUCTION_FRAMES,
            ..Limits::default()
        };
        let shaken = zmtp::accept(stream, Role::Router, &limits, GIVEN_UP).await;
        let Ok((_, mut reader, mut writer)) = shaken else {
            return;
        };
        while let Ok(frames) = reader.message(&limits, |_| true).await {
            guest.touch();
            if writer.message(&frames).await.is_err() {
                return;
            }
        }
    });
    Ok(serving)
}
