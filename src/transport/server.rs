//! The kernel's end of the five channels: what front ends connect to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use zeromq::{RouterSocket, Socket, SocketRecv, XPubSocket};

use super::gate::Limits;
use super::link::{self, Receiver, Sender};
use super::queue::{ByteQueue, Popped};
use super::stream::{Listener, SocketName, Stream};
use super::{Frames, TransportError};
use crate::protocol::Address;

/// Connections that one channel serves at a time; further ones are closed at once.
const MAX_CONNECTIONS: usize = 256;
/// How long a channel takes no connections when the process has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// Messages of one channel that wait for us, and their KiB; beyond that no sender's next one is taken.
const INBOX: usize = 256;
const INBOX_KIB: u32 = 64 << 10;
/// Bytes that wait for one slow peer; beyond that a subscriber misses some, and another client is disconnected.
const BACKLOG: usize = 64 << 20;
/// Bytes that may wait for a subscriber before the source is asked to wait, too.
const CALM: usize = 4 << 20;
/// How long a subscriber may take nothing and still be waited for.
const STALL: Duration = Duration::from_millis(250);
/// Subscriptions that one connection may make, and the longest.
const SUBSCRIPTIONS: usize = 1024;
const TOPIC: u64 = 1024;
/// The longest heartbeat, in bytes.
const BEAT: u64 = 64 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every update below is a single insert or remove, so a panic elsewhere leaves the map whole.
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
fn accept<F, Fut>(mut listener: Listener, serve: F) -> Serving
where
    F: Fn(Box<dyn Stream>) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let name = listener.name.take();
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                stream = listener.accept() => match stream {
                    Ok(stream) if connections.len() < MAX_CONNECTIONS => {
                        connections.spawn(serve(stream));
                    }
                    Ok(one_too_many) => drop(one_too_many),
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

type Outbox = Arc<ByteQueue<Frames>>;
type Outboxes = Arc<Clients>;

/// The clients that are connected, by their identities.
#[derive(Default)]
struct Clients {
    outboxes: Mutex<HashMap<Bytes, Outbox>>,
    any: watch::Sender<bool>,
}

impl Clients {
    fn add(&self, identity: Bytes, outbox: Outbox) {
        let mut outboxes = lock(&self.outboxes);
        outboxes.insert(identity, outbox);
        self.any.send_replace(true);
    }

    /// Forgets a client, unless another has come under its identity.
    fn remove(&self, identity: &Bytes, outbox: &Outbox) {
        let mut outboxes = lock(&self.outboxes);
        let is_still = outboxes
            .get(identity)
            .is_some_and(|owner| Arc::ptr_eq(owner, outbox));
        if is_still {
            outboxes.remove(identity);
        }
        self.any.send_replace(!outboxes.is_empty());
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
pub struct RouterSender(Outboxes);

impl Router {
    pub async fn bind(address: Address) -> Result<Router, TransportError> {
        let listener = Listener::bind(&address).await?;
        let (inbox_sender, inbox) = mpsc::channel(INBOX);
        let room = Arc::new(Semaphore::new(INBOX_KIB as usize));
        let outboxes = Outboxes::default();
        let serving = accept(listener, {
            let outboxes = outboxes.clone();
            move |stream| {
                let (outboxes, inbox, room) =
                    (outboxes.clone(), inbox_sender.clone(), room.clone());
                serve_router(stream, outboxes, inbox, room)
            }
        });
        Ok(Router {
            sender: RouterSender(outboxes),
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
        lock(&self.0.outboxes).contains_key(identity)
    }

    /// Waits until the clients have been sent what waits for them.
    pub async fn drained(&self) {
        let all: Vec<Outbox> = lock(&self.0.outboxes).values().cloned().collect();
        for outbox in all {
            outbox.drained().await;
        }
    }

    /// Sends to the client that the first frame names. A client that has gone is no error: it asked, and left. One that
    /// takes nothing for too long is disconnected; nobody waits for it.
    pub fn send(&self, frames: Frames) {
        let outbox = frames
            .first()
            .and_then(|identity| lock(&self.0.outboxes).get(identity).cloned());
        if let Some(outbox) = outbox {
            let bytes = frames.iter().map(Bytes::len).sum();
            outbox.push(frames, bytes, true);
        }
    }
}

/// Serves one connection. A client that comes back under the same identity takes it over, as with ROUTER_HANDOVER.
async fn serve_router(
    stream: Box<dyn Stream>,
    outboxes: Outboxes,
    inbox: mpsc::Sender<Received>,
    room: Arc<Semaphore>,
) {
    let mut socket = RouterSocket::new();
    let Ok((gate, identity)) = link::open(&mut socket, stream, Limits::default()).await else {
        return;
    };
    let (send, receive) = socket.split();
    let mut receiver = Receiver::new(receive, gate.clone());
    let mut sender = Sender::new(send, gate);
    let outbox = Outbox::new(ByteQueue::new(BACKLOG));
    outboxes.add(identity.clone(), outbox.clone());
    let receive = async {
        while let Ok(frames) = receiver.recv().await {
            let bytes: usize = frames.iter().map(Bytes::len).sum();
            // One of any size has room when it is alone.
            let share = u32::try_from(bytes >> 10).map_or(INBOX_KIB, |kib| kib.clamp(1, INBOX_KIB));
            let Ok(permit) = room.clone().acquire_many_owned(share).await else {
                return;
            };
            if inbox.send((frames, permit)).await.is_err() {
                return;
            }
        }
    };
    let send = async {
        // A gap among replies is worse than a new connection.
        while let Some(Popped::Item(frames)) = outbox.pop().await {
            if sender.send(frames).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = receive => {}, () = send => {} }
    outboxes.remove(&identity, &outbox);
}

/// A subscriber of a [`Publisher`] has subscribed to `topic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Names the connection, for [`Publisher::send_to`].
    pub subscriber: u64,
    pub topic: Bytes,
}

/// What waits for one subscriber.
struct Backlog {
    queue: ByteQueue<Frames>,
    /// Nobody waits for it any more.
    stalled: AtomicBool,
}

type Backlogs = Arc<Mutex<HashMap<u64, Arc<Backlog>>>>;

/// A PUB for any number of subscribers: iopub. A slow one misses messages, and neither delays the others nor fills
/// the memory.
pub struct Publisher {
    pub sender: PublisherSender,
    subscriptions: mpsc::Receiver<Subscription>,
    _serving: Serving,
}

/// Sends to the subscribers of a [`Publisher`]; clones do the same.
#[derive(Clone)]
pub struct PublisherSender(Backlogs);

impl Publisher {
    /// `gap` makes the message that a subscriber gets in place of those it missed (their number, their bytes).
    pub async fn bind<G>(address: Address, gap: G) -> Result<Publisher, TransportError>
    where
        G: Fn(u64, u64) -> Frames + Send + Sync + 'static,
    {
        let listener = Listener::bind(&address).await?;
        let (subscribed, subscriptions) = mpsc::channel(INBOX);
        let backlogs = Backlogs::default();
        let numbers = AtomicU64::new(0);
        let gap = Arc::new(gap);
        let serving = accept(listener, {
            let backlogs = backlogs.clone();
            move |stream| {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let backlogs = backlogs.clone();
                let (subscribed, gap) = (subscribed.clone(), gap.clone());
                async move {
                    let backlog = Arc::new(Backlog {
                        queue: ByteQueue::new(BACKLOG),
                        stalled: AtomicBool::new(false),
                    });
                    lock(&backlogs).insert(number, backlog.clone());
                    serve_subscriber(stream, number, &backlog, subscribed, &*gap).await;
                    lock(&backlogs).remove(&number);
                }
            }
        });
        Ok(Publisher {
            sender: PublisherSender(backlogs),
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
        let all: Vec<Arc<Backlog>> = lock(&self.0).values().cloned().collect();
        for backlog in all {
            backlog.queue.drained().await;
        }
    }

    /// Publishes to every subscriber of the topic that the first frame begins with. `keep` marks what a front end
    /// cannot do without (states, replies to its own cells): it is dropped last.
    pub fn publish(&self, frames: &Frames, keep: bool) {
        let bytes = frames.iter().map(Bytes::len).sum();
        for backlog in lock(&self.0).values() {
            backlog.queue.push(frames.clone(), bytes, keep);
        }
    }

    /// Sends to one subscriber only.
    pub fn send_to(&self, subscriber: u64, frames: Frames) {
        let bytes = frames.iter().map(Bytes::len).sum();
        if let Some(backlog) = lock(&self.0).get(&subscriber) {
            backlog.queue.push(frames, bytes, true);
        }
    }

    /// Waits while all subscribers that take anything are slow: one that keeps up is not held back by others, and one
    /// that has taken nothing for a while is not waited for. Safe to cancel.
    pub async fn ready(&self) {
        loop {
            let slow = {
                let all = lock(&self.0);
                let mut awake = all
                    .values()
                    .filter(|backlog| !backlog.stalled.load(Ordering::Relaxed));
                let least = awake.next().map(|first| {
                    awake.fold(first, |least, other| {
                        match other.queue.bytes() < least.queue.bytes() {
                            true => other,
                            false => least,
                        }
                    })
                });
                least.filter(|least| least.queue.bytes() > CALM).cloned()
            };
            let Some(slow) = slow else { return };
            if tokio::time::timeout(STALL, slow.queue.taken())
                .await
                .is_err()
            {
                slow.stalled.store(true, Ordering::Relaxed);
            }
        }
    }
}

async fn serve_subscriber(
    stream: Box<dyn Stream>,
    number: u64,
    backlog: &Backlog,
    subscribed: mpsc::Sender<Subscription>,
    gap: &(dyn Fn(u64, u64) -> Frames + Send + Sync),
) {
    let mut socket = XPubSocket::new();
    let limits = Limits {
        message: TOPIC,
        ..Limits::default()
    };
    let Ok((gate, _)) = link::open(&mut socket, stream, limits).await else {
        return;
    };
    let mut subscriptions = 0;
    loop {
        tokio::select! {
            biased;
            received = socket.recv() => {
                let Ok(message) = received else { return };
                if let Some((1, topic)) = message.get(0).and_then(|frame| frame.split_first()) {
                    subscriptions += 1;
                    if subscriptions > SUBSCRIPTIONS {
                        return;
                    }
                    let topic = Bytes::copy_from_slice(topic);
                    // Full when the owner does not want to know.
                    let _ = subscribed.try_send(Subscription { subscriber: number, topic });
                }
            }
            _ = gate.closed() => return,
            Some(popped) = backlog.queue.pop() => {
                if backlog.queue.bytes() <= CALM {
                    backlog.stalled.store(false, Ordering::Relaxed);
                }
                let frames = match popped {
                    Popped::Item(frames) => frames,
                    Popped::Gap { messages, bytes } => gap(messages, bytes),
                };
                if link::send(&mut socket, &gate, frames).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Echoes heartbeats for as long as the result is kept.
pub async fn bind_heartbeat(address: Address) -> Result<impl Drop + Send + use<>, TransportError> {
    let listener = Listener::bind(&address).await?;
    let serving = accept(listener, |stream| async move {
        let mut socket = RouterSocket::new();
        let limits = Limits {
            message: BEAT,
            ..Limits::default()
        };
        let Ok((gate, _)) = link::open(&mut socket, stream, limits).await else {
            return;
        };
        let (send, receive) = socket.split();
        let mut receiver = Receiver::new(receive, gate.clone());
        let mut sender = Sender::new(send, gate);
        while let Ok(frames) = receiver.recv().await {
            if sender.send(frames).await.is_err() {
                return;
            }
        }
    });
    Ok(serving)
}
