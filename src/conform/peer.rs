//! Our end of the wire: raw sockets, so that anything can be sent, and everything that comes is seen.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::Flaw;
use super::heard::{Heard, Log, Request};
use super::observed::Observed;
use crate::kernel::KernelError;
use crate::protocol::{Channel, ConnectionInfo, Header, RawMessage, Signer, Verifier};
use crate::transport::{Dealer, DealerReceiver, DealerSender, Frames, Subscriber, TransportError};

/// How long an answer may take. After each wait in vain the next are shorter, so that a kernel that answers nothing is
/// reported in seconds too.
const PATIENCE: Duration = Duration::from_secs(4);
const LEAST: Duration = Duration::from_millis(400);
/// How long the second of a reply and its `idle` may take after the first.
const GRACE: Duration = Duration::from_secs(1);
/// Messages, and bytes of them, that are kept of one check; what comes beyond is looked at and forgotten.
const KEPT: usize = 5_000;
const KEPT_BYTES: usize = 64 << 20;
/// Messages that wait to be looked at; then the kernel waits.
const INBOX: usize = 256;

/// A client made of bare sockets.
pub(super) struct Peer {
    pub session: String,
    pub signer: Signer,
    pub log: Log,
    pub observed: Observed,
    verifier: Verifier,
    kept_bytes: usize,
    patience: Duration,
    grace: Duration,
    shell: DealerSender,
    control: DealerSender,
    stdin: DealerSender,
    inbox: mpsc::Receiver<(Channel, Result<Frames, TransportError>)>,
    /// Ends the readers with the client.
    _readers: JoinSet<()>,
}

impl Peer {
    /// Connects to the four channels of a kernel that may not listen yet.
    pub async fn connect(info: &ConnectionInfo, deadline: Instant) -> Result<Peer, KernelError> {
        let identity = Uuid::new_v4().to_string();
        let address = |channel| info.address(channel);
        let (mut iopub, shell, control, stdin) = tokio::try_join!(
            Subscriber::connect(address(Channel::Iopub), deadline),
            Dealer::connect(address(Channel::Shell), &identity, deadline),
            Dealer::connect(address(Channel::Control), &identity, deadline),
            Dealer::connect(address(Channel::Stdin), &identity, deadline),
        )?;
        let (sender, inbox) = mpsc::channel(INBOX);
        let mut readers = JoinSet::new();
        let of_iopub = sender.clone();
        readers.spawn(async move {
            loop {
                let received = iopub.recv().await;
                let ended = received.is_err();
                if of_iopub.send((Channel::Iopub, received)).await.is_err() || ended {
                    return;
                }
            }
        });
        let mut read = |channel, mut receiver: DealerReceiver| {
            let sender = sender.clone();
            readers.spawn(async move {
                loop {
                    let received = receiver.recv().await;
                    let ended = received.is_err();
                    if sender.send((channel, received)).await.is_err() || ended {
                        return;
                    }
                }
            });
        };
        read(Channel::Shell, shell.receiver);
        read(Channel::Control, control.receiver);
        read(Channel::Stdin, stdin.receiver);
        let signer = info.signer()?;
        Ok(Peer {
            session: Uuid::new_v4().to_string(),
            verifier: Verifier::new(signer.clone()),
            signer,
            log: Log::default(),
            observed: Observed::default(),
            kept_bytes: 0,
            patience: PATIENCE,
            grace: GRACE,
            shell: shell.sender,
            control: control.sender,
            stdin: stdin.sender,
            inbox,
            _readers: readers,
        })
    }

    /// Forgets what was heard, for the next check.
    pub fn forget(&mut self) {
        self.log = Log::default();
        self.kept_bytes = 0;
    }

    /// A signed request and its frames, not sent yet.
    pub fn make(
        &mut self,
        channel: Channel,
        msg_type: &str,
        content: &Value,
    ) -> (Request, RawMessage) {
        let header = Header::new(msg_type, &self.session, "heddle");
        let header = serde_json::to_value(header).unwrap_or_default();
        let mut raw = RawMessage {
            header: frame(&header),
            parent_header: Bytes::from_static(b"{}"),
            metadata: Bytes::from_static(b"{}"),
            content: frame(content),
            ..RawMessage::default()
        };
        self.signer.sign(&mut raw);
        let request = Request { channel, header };
        self.observed.sent(&request);
        (request, raw)
    }

    /// Sends frames as they are.
    pub async fn send_frames(&mut self, channel: Channel, frames: Frames) -> Result<(), Flaw> {
        let sender = match channel {
            Channel::Control => &mut self.control,
            Channel::Stdin => &mut self.stdin,
            _ => &mut self.shell,
        };
        match tokio::time::timeout(PATIENCE, sender.send(frames)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Flaw::Gone(error.to_string())),
            Err(_) => Err(Flaw::Gone(format!("{} takes nothing", channel.name()))),
        }
    }

    /// Sends a request.
    pub async fn send(
        &mut self,
        channel: Channel,
        msg_type: &str,
        content: Value,
    ) -> Result<Request, Flaw> {
        let (request, raw) = self.make(channel, msg_type, &content);
        self.send_frames(channel, raw.into_frames()).await?;
        Ok(request)
    }

    /// Sends a request and waits for its reply and its `idle`. That one of them is missing is for the caller to find.
    pub async fn ask(
        &mut self,
        channel: Channel,
        msg_type: &str,
        content: Value,
    ) -> Result<Request, Flaw> {
        let request = self.send(channel, msg_type, content).await?;
        self.done(&request).await?;
        Ok(request)
    }

    /// Runs code that takes no input, and waits for its end.
    pub async fn run(&mut self, code: &str) -> Result<Request, Flaw> {
        self.run_with(code, json!({})).await
    }

    /// The same, with other fields in the request.
    pub async fn run_with(&mut self, code: &str, fields: Value) -> Result<Request, Flaw> {
        self.ask(Channel::Shell, "execute_request", execute(code, fields))
            .await
    }

    /// Waits for the reply and the `idle` of a request.
    pub async fn done(&mut self, request: &Request) -> Result<(), Flaw> {
        let either = |log: &Log| log.is_replied(request) || log.is_idle(request);
        let both = |log: &Log| log.is_replied(request) && log.is_idle(request);
        if self.until(either).await? && !self.until_within(self.grace, both).await? {
            self.grace = shorter(self.grace);
        }
        Ok(())
    }

    /// Waits until what was heard is `enough`, and says whether it came to that in time.
    pub async fn until(&mut self, enough: impl Fn(&Log) -> bool) -> Result<bool, Flaw> {
        let enough = self.until_within(self.patience, enough).await?;
        if !enough {
            self.patience = shorter(self.patience);
        }
        Ok(enough)
    }

    /// The first message of a type that is published for a request, which must have come before the request's `idle`.
    pub async fn published(&mut self, request: &Request, msg_type: &str) -> Result<&Heard, Flaw> {
        let come = |log: &Log| log.all(request, msg_type).next().is_some();
        // It may be late, which is another fault than to be missing.
        self.until_within(self.grace, come).await?;
        let told = || self.log.told(request);
        let mut published = self.log.published(request);
        match published.find(|heard| heard.msg_type() == msg_type || heard.state() == Some("idle"))
        {
            Some(heard) if heard.state().is_none() || msg_type == "status" => Ok(heard),
            Some(_) if come(&self.log) => Err(Flaw::seen(format!("{msg_type} came after idle"))),
            _ => Err(Flaw::seen(format!("no {msg_type}: {}", told()))),
        }
    }

    /// The same, with a time of its own.
    pub async fn until_within(
        &mut self,
        patience: Duration,
        enough: impl Fn(&Log) -> bool,
    ) -> Result<bool, Flaw> {
        let deadline = Instant::now() + patience;
        while !enough(&self.log) {
            // Asked first: what always has something to receive never times out.
            if Instant::now() >= deadline {
                return Ok(false);
            }
            match tokio::time::timeout_at(deadline, self.inbox.recv()).await {
                Ok(Some((channel, Ok(frames)))) => self.take(channel, frames),
                Ok(Some((channel, Err(error)))) => {
                    return Err(Flaw::Gone(format!("{}: {error}", channel.name())));
                }
                Ok(None) => return Err(Flaw::Gone("every channel is closed".into())),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Hears all that comes until every channel is closed.
    pub async fn until_closed(&mut self, deadline: Instant) {
        while Instant::now() < deadline
            && let Ok(Some((channel, received))) =
                tokio::time::timeout_at(deadline, self.inbox.recv()).await
        {
            if let Ok(frames) = received {
                self.take(channel, frames);
            }
        }
    }

    /// Takes what has come meanwhile, without waiting.
    pub fn take_waiting(&mut self) {
        // As many as can wait: a kernel that never stops does not keep us here.
        for _ in 0..INBOX {
            let Ok((channel, Ok(frames))) = self.inbox.try_recv() else {
                return;
            };
            self.take(channel, frames);
        }
    }

    /// Whatever was asked before on this channel, and answered, has been heard once this returns.
    pub async fn fence(&mut self, channel: Channel) -> Result<Request, Flaw> {
        let request = self.ask(channel, "kernel_info_request", json!({})).await?;
        match self.log.is_replied(&request) {
            true => Ok(request),
            false => Err(Flaw::seen(format!(
                "the kernel no longer answers on {}",
                channel.name()
            ))),
        }
    }

    fn take(&mut self, channel: Channel, frames: Frames) {
        let size: usize = frames.iter().map(Bytes::len).sum();
        if size > KEPT_BYTES {
            return self.observed.too_large(channel, size);
        }
        let raw = match RawMessage::parse(frames) {
            Ok(raw) => raw,
            Err(error) => return self.observed.no_message(channel, &error),
        };
        let heard = Heard::new(channel, &raw);
        self.observed
            .look(&raw, &heard, &mut self.verifier, &self.session);
        self.kept_bytes = self.kept_bytes.saturating_add(size);
        if self.log.0.len() < KEPT && self.kept_bytes < KEPT_BYTES {
            self.log.0.push(heard);
        }
    }
}

fn shorter(patience: Duration) -> Duration {
    (patience * 2 / 3).max(LEAST)
}

pub(super) fn frame(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// The content of an `execute_request` that expects no input, with some of its fields replaced.
pub(super) fn execute(code: &str, fields: Value) -> Value {
    let mut content = json!({
        "code": code,
        "silent": false,
        "store_history": true,
        "user_expressions": {},
        "allow_stdin": false,
        "stop_on_error": true,
    });
    if let (Some(content), Value::Object(fields)) = (content.as_object_mut(), fields) {
        content.extend(fields);
    }
    content
}
