//! The side of the front ends: five bound sockets, one key, and what we say ourselves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::protocol::content::{ExecutionState, IopubWelcome, Status, Stream};
use crate::protocol::{
    Channel, ConnectionInfo, Content, Message, ProtocolError, RawMessage, Signer, Verifier,
};
use crate::transport::{
    Guard, Publisher, PublisherSender, Router, RouterSender, Subscription, TransportError,
    bind_heartbeat,
};

/// How long front ends may take to take the last messages.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// What has left the queues takes a moment through the sockets, which nothing tells the end of.
const WAY_OUT: Duration = Duration::from_millis(30);

/// Why the front ends' sockets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

/// The bound sockets, heartbeat included: it is answered for as long as this is kept.
pub struct Front {
    shell: Router,
    control: Router,
    stdin: Router,
    iopub: Publisher,
    _heartbeat: Box<dyn Send>,
}

/// What happens on the sockets.
pub enum FromFront {
    /// A message of a holder of the key, for the first time.
    Message(Channel, RawMessage),
    Subscribed(Subscription),
}

impl Front {
    /// Listens where the connection file says.
    pub async fn bind(info: &ConnectionInfo) -> Result<(Front, Desk), FrontError> {
        let signer = info.signer()?;
        let session = uuid::Uuid::new_v4().to_string();
        let latest = Arc::new(Mutex::new(Bytes::from_static(b"{}")));
        let gap = {
            let (signer, session, latest) = (signer.clone(), session.clone(), latest.clone());
            move |messages, bytes| {
                let parent = lock(&latest).clone();
                let text = format!(
                    "\n[{messages} outputs ({bytes} bytes) came faster than they were taken and are left out]\n"
                );
                let name = "stderr".into();
                sign(
                    &signer,
                    published(&session, Stream { name, text }.into(), parent),
                )
                .into_frames()
            }
        };
        let verifier = Verifier::new(signer.clone());
        // Of a holder of the key, for the first time.
        let guard = Guard::new(move |frames| {
            let message = RawMessage::parse(frames.clone());
            message.is_ok_and(|message| verifier.verify(&message).is_ok())
        });
        let router = |channel, asks| Router::guarded(info.address(channel), guard.clone(), asks);
        let shell = router(Channel::Shell, false).await?;
        let control = router(Channel::Control, false).await?;
        let stdin = router(Channel::Stdin, true).await?;
        let iopub = Publisher::bind(info.address(Channel::Iopub), gap).await?;
        let heartbeat = bind_heartbeat(info.address(Channel::Heartbeat)).await?;
        let desk = Desk {
            shell: shell.sender.clone(),
            control: control.sender.clone(),
            stdin: stdin.sender.clone(),
            iopub: iopub.sender.clone(),
            signer,
            session,
            latest,
        };
        let front = Front {
            shell,
            control,
            stdin,
            iopub,
            _heartbeat: Box::new(heartbeat),
        };
        Ok((front, desk))
    }

    /// The next thing that happens; shell is left alone unless `shell`. Forged, repeated and broken messages are
    /// dropped. `None` never comes while the sockets are bound. Safe to cancel.
    pub async fn next(&mut self, shell: bool) -> Option<FromFront> {
        loop {
            let (channel, frames) = tokio::select! {
                biased;
                Some(subscription) = self.iopub.subscription() => {
                    return Some(FromFront::Subscribed(subscription));
                }
                frames = self.control.recv() => (Channel::Control, frames?),
                frames = self.stdin.recv() => (Channel::Stdin, frames?),
                frames = self.shell.recv(), if shell => (Channel::Shell, frames?),
            };
            if let Ok(message) = RawMessage::parse(frames) {
                return Some(FromFront::Message(channel, message));
            }
        }
    }
}

/// Sends to the front ends, under their key; clones do the same.
#[derive(Clone)]
pub struct Desk {
    shell: RouterSender,
    control: RouterSender,
    stdin: RouterSender,
    iopub: PublisherSender,
    signer: Signer,
    session: String,
    /// The header of the latest cell, whose output a gap is shown in.
    latest: Arc<Mutex<Bytes>>,
}

impl Desk {
    /// Passes a message on to the client that its identities name.
    pub fn send(&self, channel: Channel, message: RawMessage) {
        let frames = sign(&self.signer, message).into_frames();
        match channel {
            Channel::Control => self.control.send(frames),
            Channel::Stdin => self.stdin.send(frames),
            _ => self.shell.send(frames),
        }
    }

    /// Passes a message on to every subscriber. Those not to `keep` are dropped first where one is slow.
    pub fn pass(&self, message: RawMessage, keep: bool) {
        self.iopub
            .publish(&sign(&self.signer, message).into_frames(), keep);
    }

    /// Waits for subscribers that are slow, for as long as they take something.
    pub async fn ready(&self) {
        self.iopub.ready().await;
    }

    /// Replies to a request, or asks its sender something; gives the `msg_id`.
    pub fn reply(
        &self,
        channel: Channel,
        request: &RawMessage,
        content: impl Into<Content>,
    ) -> String {
        let message = Message::request(content, &self.session, "kernel");
        let mut reply = message.encode();
        reply.identities = request.identities.clone();
        reply.parent_header = request.header.clone();
        self.send(channel, reply);
        message.header.msg_id
    }

    /// Whether the client of these identities can be asked anything.
    pub fn is_there(&self, identities: &[Bytes]) -> bool {
        identities
            .first()
            .is_some_and(|identity| self.stdin.reaches(identity))
    }

    /// Waits until some front end is connected, or none.
    pub async fn has_clients(&self, any: bool) {
        self.shell.has_clients(any).await;
    }

    /// Publishes something that `request` caused.
    pub fn publish(&self, request: &RawMessage, content: impl Into<Content>) {
        self.pass(
            published(&self.session, content.into(), request.header.clone()),
            true,
        );
    }

    pub fn publish_state(&self, request: &RawMessage, execution_state: ExecutionState) {
        self.publish(request, Status { execution_state });
    }

    /// Confirms a subscription (JEP 65).
    pub fn welcome(&self, subscription: Subscription) {
        let topic = String::from_utf8_lossy(&subscription.topic).into_owned();
        let welcome = IopubWelcome {
            subscription: topic,
        };
        let mut message = published(&self.session, welcome.into(), Bytes::from_static(b"{}"));
        // A subscriber of one topic gets what begins with it.
        message.identities = vec![subscription.topic];
        let frames = sign(&self.signer, message).into_frames();
        self.iopub.send_to(subscription.subscriber, frames);
    }

    /// Waits until what was said is on its way, however slow those are who listen.
    pub async fn last_words(&self) {
        let drained = async {
            self.iopub.drained().await;
            self.control.drained().await;
            self.shell.drained().await;
        };
        // A front end that takes nothing does not keep us.
        let _ = tokio::time::timeout(LAST_WORDS, drained).await;
        tokio::time::sleep(WAY_OUT).await;
    }

    /// The cell that a gap in the output is shown in from now on.
    pub fn latest(&self, header: Bytes) {
        *lock(&self.latest) = header;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // It holds one value, replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn published(session: &str, content: Content, parent: Bytes) -> RawMessage {
    let topic = format!("kernel.{session}.{}", content.msg_type());
    let mut message = Message::request(content, session, "kernel").encode();
    message.identities = vec![Bytes::from(topic)];
    message.parent_header = parent;
    message
}

fn sign(signer: &Signer, mut message: RawMessage) -> RawMessage {
    signer.sign(&mut message);
    message
}
