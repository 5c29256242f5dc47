//! The gate between a peer and our ZeroMQ socket: passes bytes through, follows their ZMTP framing, and shuts when a
//! peer claims more than it may or goes away.
//!
//! The crate behind it reserves what a frame header announces before anything is authenticated, and does not tell a
//! waiting receiver that its peer has gone. Both are decided here, on the bytes.
//! Framing: ZMTP 3.0 (RFC 23), section "Framing".

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::stream::Stream;

pub(super) const GREETING: u64 = 64;
pub(super) const FLAG_MORE: u8 = 1;
pub(super) const FLAG_LONG: u8 = 2;
pub(super) const FLAG_COMMAND: u8 = 4;
/// What a Unix socket holds at most. Pages of it that no peer fills are never there.
const CHUNK: usize = 256 * 1024;
/// Largest command, in bytes; a handshake needs a few dozen.
pub(super) const COMMAND: u64 = 4096;
/// How long a closed link may go on to deliver what was sent before.
const LINGER: Duration = Duration::from_secs(1);

/// How long what a peer sent before it closed may take to be read.
pub(super) const DRAIN: Duration = Duration::from_secs(5);

/// What a peer may claim.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest message, all frames together, in bytes.
    pub message: u64,
    /// Largest number of frames in a message.
    pub frames: u64,
    /// Longest time for the greeting and the handshake.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message: 1 << 30,
            frames: 1024,
            handshake: Duration::from_secs(5),
        }
    }
}

/// Follows the framing of one direction.
struct Framing {
    limits: Limits,
    state: State,
    /// Whole messages that have passed.
    messages: u64,
    message_bytes: u64,
    message_frames: u64,
}

#[derive(Clone, Copy)]
enum State {
    Greeting { left: u64 },
    Flags,
    Length { flags: u8, left: u8, value: u64 },
    Body { flags: u8, left: u64 },
}

impl Framing {
    fn new(limits: Limits) -> Self {
        Framing {
            limits,
            state: State::Greeting { left: GREETING },
            messages: 0,
            message_bytes: 0,
            message_frames: 0,
        }
    }

    /// Takes the next bytes of the stream; an error names the claim that goes too far.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while let Some(&first) = bytes.first() {
            self.state = match self.state {
                State::Greeting { left } => {
                    let n = skip(&mut bytes, left);
                    match left - n {
                        0 => State::Flags,
                        left => State::Greeting { left },
                    }
                }
                State::Flags => {
                    bytes = &bytes[1..];
                    State::Length {
                        flags: first,
                        left: if first & FLAG_LONG == 0 { 1 } else { 8 },
                        value: 0,
                    }
                }
                State::Length { flags, left, value } => {
                    bytes = &bytes[1..];
                    let value = value << 8 | u64::from(first);
                    match left - 1 {
                        0 => self.begin_body(flags, value)?,
                        left => State::Length { flags, left, value },
                    }
                }
                State::Body { flags, left } => {
                    let n = skip(&mut bytes, left);
                    match left - n {
                        0 => self.end_body(flags),
                        left => State::Body { flags, left },
                    }
                }
            };
        }
        Ok(())
    }

    fn begin_body(&mut self, flags: u8, length: u64) -> Result<State, String> {
        if flags & FLAG_COMMAND != 0 && length > COMMAND {
            return Err(format!("it announced a command of {length} bytes"));
        }
        self.message_frames += 1;
        self.message_bytes = self.message_bytes.saturating_add(length);
        if self.message_bytes > self.limits.message {
            return Err(format!(
                "it announced a message of {} bytes, more than the {} allowed",
                self.message_bytes, self.limits.message
            ));
        }
        if self.message_frames > self.limits.frames {
            return Err(format!(
                "it sent a message of more than {} frames",
                self.limits.frames
            ));
        }
        Ok(match length {
            0 => self.end_body(flags),
            left => State::Body { flags, left },
        })
    }

    fn end_body(&mut self, flags: u8) -> State {
        if flags & FLAG_MORE == 0 {
            self.message_bytes = 0;
            self.message_frames = 0;
            if flags & FLAG_COMMAND == 0 {
                self.messages += 1;
            }
        }
        State::Flags
    }
}

/// Drops up to `left` bytes from the front and says how many.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let n = left.min(bytes.len() as u64);
    *bytes = &bytes[n as usize..];
    n
}

/// Our handle on a running gate. When the last one goes, what was sent is still delivered for a moment, then the
/// connection is closed.
pub(super) struct Gate {
    messages: Arc<AtomicU64>,
    passed: watch::Receiver<u64>,
    closed: watch::Receiver<Option<String>>,
    _open: watch::Sender<()>,
}

impl Gate {
    /// Splices `peer` to `inner`, the private stream that ends in our ZeroMQ socket.
    pub(super) fn open(peer: Box<dyn Stream>, inner: UnixStream, limits: Limits) -> Gate {
        let messages = Arc::new(AtomicU64::new(0));
        let (closed_sender, closed) = watch::channel(None);
        let (open, mut dropped) = watch::channel(());
        let (passed_sender, passed) = watch::channel(0);
        let count = messages.clone();
        tokio::spawn(async move {
            let splice = splice(peer, inner, limits, &count, &passed_sender);
            tokio::pin!(splice);
            let reason = tokio::select! {
                reason = &mut splice => reason,
                _ = dropped.changed() => tokio::time::timeout(LINGER, splice)
                    .await
                    .unwrap_or_else(|_| "we closed it".into()),
            };
            closed_sender.send_replace(Some(reason));
        });
        Gate {
            messages,
            passed,
            closed,
            _open: open,
        }
    }

    /// Whole messages that the peer has sent so far.
    pub(super) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Acquire)
    }

    /// Waits until all but the last `window` of the first `sent` bytes have passed to the peer.
    pub(super) async fn passed(&self, sent: u64, window: u64) {
        // An error means that the connection has ended, which is told by `closed`.
        let _ = self
            .passed
            .clone()
            .wait_for(|passed| sent.saturating_sub(*passed) <= window)
            .await;
    }

    /// How many bytes have passed to the peer so far.
    pub(super) fn passed_so_far(&self) -> u64 {
        *self.passed.borrow()
    }

    /// Waits for the end of the connection and says why it ended.
    pub(super) async fn closed(&self) -> String {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the program is ending".into(),
        }
    }

    /// The reason, when the connection has ended already.
    pub(super) fn is_closed(&self) -> Option<String> {
        self.closed.borrow().clone()
    }
}

async fn splice(
    peer: Box<dyn Stream>,
    inner: UnixStream,
    limits: Limits,
    messages: &AtomicU64,
    passed: &watch::Sender<u64>,
) -> String {
    let (mut peer_read, mut peer_write) = tokio::io::split(peer);
    let (mut inner_read, mut inner_write) = inner.into_split();
    let inbound = async {
        let mut framing = Framing::new(limits);
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = match peer_read.read(&mut chunk).await {
                Ok(0) => return "the peer closed it".to_owned(),
                Ok(n) => n,
                Err(error) => return error.to_string(),
            };
            if let Err(claim) = framing.feed(&chunk[..n]) {
                return format!("the peer was refused: {claim}");
            }
            if inner_write.write_all(&chunk[..n]).await.is_err() {
                return "we closed it".to_owned();
            }
            messages.store(framing.messages, Ordering::Release);
        }
    };
    let outbound = async {
        let mut chunk = vec![0; CHUNK];
        loop {
            match inner_read.read(&mut chunk).await? {
                0 => return peer_write.shutdown().await,
                n => {
                    peer_write.write_all(&chunk[..n]).await?;
                    passed.send_modify(|passed| *passed += n as u64);
                }
            }
        }
    };
    let (mut inbound, mut outbound) = (std::pin::pin!(inbound), std::pin::pin!(outbound));
    tokio::select! {
        reason = &mut inbound => reason,
        outcome = &mut outbound => match outcome {
            Ok(()) => "we closed it".to_owned(),
            // It takes no more, and what it sent before is still there to be read.
            Err(error) => match tokio::time::timeout(DRAIN, inbound).await {
                Ok(reason) => reason,
                Err(_) => error.to_string(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if body.len() > 255 {
            bytes.push(flags | FLAG_LONG);
            bytes.extend((body.len() as u64).to_be_bytes());
        } else {
            bytes.push(flags);
            bytes.push(body.len() as u8);
        }
        bytes.extend(body);
        bytes
    }

    #[test]
    fn counts_whole_messages_and_leaves_out_commands() {
        let mut framing = Framing::new(Limits::default());
        let mut bytes = vec![0xff; GREETING as usize];
        bytes.extend(frame(FLAG_COMMAND, b"\x05READY"));
        bytes.extend(frame(FLAG_MORE, b"a"));
        bytes.extend(frame(0, &[7; 300]));
        bytes.extend(frame(0, b""));
        framing.feed(&bytes).unwrap();
        assert_eq!(framing.messages, 2);
    }

    #[test]
    fn refuses_a_header_that_claims_terabytes() {
        let mut framing = Framing::new(Limits::default());
        let mut bytes = vec![0xff; GREETING as usize];
        bytes.push(FLAG_LONG);
        bytes.extend((5u64 << 40).to_be_bytes());
        assert!(framing.feed(&bytes).unwrap_err().contains("5497558138880"));
    }

    #[test]
    fn refuses_a_command_that_no_handshake_needs() {
        let mut framing = Framing::new(Limits::default());
        framing.feed(&[0xff; GREETING as usize]).unwrap();
        let fed = framing.feed(&frame(FLAG_COMMAND, &[0; 5000]));
        assert!(fed.unwrap_err().contains("5000"));
    }

    #[test]
    fn refuses_a_message_that_grows_frame_by_frame() {
        let mut framing = Framing::new(Limits {
            message: 1000,
            ..Limits::default()
        });
        framing.feed(&[0xff; GREETING as usize]).unwrap();
        let part = frame(FLAG_MORE, &[1; 300]);
        let fed: Result<Vec<()>, String> = (0..4).map(|_| framing.feed(&part)).collect();
        assert!(fed.is_err());
    }

    proptest! {
        #[test]
        fn any_cut_of_a_stream_counts_the_same(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..8), cut in 1usize..50) {
            let mut bytes = vec![0xff; GREETING as usize];
            for body in &bodies {
                bytes.extend(frame(0, body));
            }
            let mut framing = Framing::new(Limits::default());
            for piece in bytes.chunks(cut) {
                framing.feed(piece).unwrap();
            }
            prop_assert_eq!(framing.messages, bodies.len() as u64);
        }

        #[test]
        fn no_stream_of_bytes_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = Framing::new(Limits::default()).feed(&bytes);
        }
    }
}
