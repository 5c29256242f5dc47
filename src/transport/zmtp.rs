//! ZMTP 3.0 with the NULL mechanism (RFC 23), as the side that is connected to: the handshake, and whole messages.
//!
//! Whoever connects to us may be anybody. Here a peer costs one descriptor and the bytes that it has sent, whatever it
//! announces, until it has shown who it is.

use std::io::{self, ErrorKind};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};

use super::Frames;
use super::gate::{COMMAND, FLAG_COMMAND, FLAG_LONG, FLAG_MORE, GREETING, Limits};
use super::stream::Stream;

/// Bytes that are read at once, where a frame is not larger.
const READ: usize = 8 << 10;
/// Bytes of a frame that are made room for before any have come; then as much again as has come.
const FIRST: usize = 16 << 10;
/// Frames up to this size are copied together into one write.
const SMALL: usize = 16 << 10;
/// What a frame costs beside its bytes.
const FRAME: u64 = 64;

/// What we are on a connection.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Router,
    Publisher,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Router => "ROUTER",
            Role::Publisher => "XPUB",
        }
    }

    fn takes(self, peer: &[u8]) -> bool {
        match self {
            Role::Router => matches!(peer, b"DEALER" | b"REQ" | b"ROUTER"),
            Role::Publisher => matches!(peer, b"SUB" | b"XSUB"),
        }
    }
}

/// Reads the messages of a peer.
pub(super) struct Reader(BufReader<ReadHalf<Box<dyn Stream>>>);

/// Writes messages to a peer.
pub(super) struct Writer {
    stream: WriteHalf<Box<dyn Stream>>,
    /// How long the peer may take nothing at all.
    stall: Duration,
    small: Vec<u8>,
}

/// Shakes hands, and gives the identity that the peer wants to have; empty where it has none.
pub(super) async fn accept(
    stream: Box<dyn Stream>,
    role: Role,
    limits: &Limits,
    stall: Duration,
) -> io::Result<(Bytes, Reader, Writer)> {
    let (read, stream) = tokio::io::split(stream);
    let mut reader = Reader(BufReader::with_capacity(READ, read));
    let mut writer = Writer {
        stream,
        stall,
        small: Vec::new(),
    };
    let handshake = async {
        writer.write(&greeting()).await?;
        reader.greeting().await?;
        writer.write(&ready(role)).await?;
        reader.ready(role).await
    };
    let identity = tokio::time::timeout(limits.handshake, handshake).await??;
    Ok((identity, reader, writer))
}

fn greeting() -> [u8; GREETING as usize] {
    let mut greeting = [0; GREETING as usize];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

fn ready(role: Role) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", role.name()), ("Identity", "")] {
        body.push(name.len() as u8);
        body.extend(name.as_bytes());
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(value.as_bytes());
    }
    let mut frame = vec![FLAG_COMMAND, body.len() as u8];
    frame.extend(body);
    frame
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

impl Reader {
    async fn greeting(&mut self) -> io::Result<()> {
        let mut greeting = [0; GREETING as usize];
        self.0.read_exact(&mut greeting).await?;
        let mechanism = greeting[12..32].split(|byte| *byte == 0).next();
        match greeting[0] == 0xff
            && greeting[9] & 1 == 1
            && greeting[10] >= 3
            && mechanism == Some(b"NULL")
        {
            true => Ok(()),
            false => Err(wrong("it does not speak ZMTP 3")),
        }
    }

    async fn ready(&mut self, role: Role) -> io::Result<Bytes> {
        let (flags, length) = self.header().await?;
        if flags & FLAG_COMMAND == 0 || length > COMMAND {
            return Err(wrong("it does not say what it is"));
        }
        let mut command = vec![0; length as usize];
        self.0.read_exact(&mut command).await?;
        let mut rest = command
            .strip_prefix(b"\x05READY")
            .ok_or_else(|| wrong("it does not say what it is"))?;
        let (mut identity, mut fits) = (Bytes::new(), false);
        while !rest.is_empty() {
            let (name, value);
            (name, value, rest) = property(rest).ok_or_else(|| wrong("its READY is cut off"))?;
            if name.eq_ignore_ascii_case(b"Socket-Type") {
                fits = role.takes(value);
            } else if name.eq_ignore_ascii_case(b"Identity") {
                identity = Bytes::copy_from_slice(value);
            }
        }
        match fits && identity.len() <= 255 {
            true => Ok(identity),
            false => Err(wrong("it is no peer of ours")),
        }
    }

    async fn header(&mut self) -> io::Result<(u8, u64)> {
        let flags = self.0.read_u8().await?;
        let length = match flags & FLAG_LONG {
            0 => u64::from(self.0.read_u8().await?),
            _ => self.0.read_u64().await?,
        };
        Ok((flags, length))
    }

    /// The next message; an error once the peer has gone, or claims more than `limits`. `room` is asked for every number
    /// of bytes that the message comes to hold before they are made room for. Not safe to cancel.
    pub(super) async fn message(
        &mut self,
        limits: &Limits,
        mut room: impl FnMut(u64) -> bool,
    ) -> io::Result<Frames> {
        let mut frames = Frames::new();
        let (mut announced, mut held) = (0u64, 0);
        loop {
            let (flags, length) = self.header().await?;
            if flags & FLAG_COMMAND != 0 {
                // None that concerns us comes after the handshake.
                if length > COMMAND {
                    return Err(wrong("its command is too long"));
                }
                self.body(length, &mut 0, |_| true).await?;
                continue;
            }
            announced = announced.saturating_add(length);
            if announced > limits.message || frames.len() as u64 >= limits.frames {
                return Err(wrong("its message is too long"));
            }
            held += FRAME;
            frames.push(self.body(length, &mut held, &mut room).await?);
            if flags & FLAG_MORE == 0 {
                return Ok(frames);
            }
        }
    }

    async fn body(
        &mut self,
        length: u64,
        held: &mut u64,
        mut room: impl FnMut(u64) -> bool,
    ) -> io::Result<Bytes> {
        let mut body = BytesMut::new();
        while (body.len() as u64) < length {
            let step = (length - body.len() as u64).min(body.len().max(FIRST) as u64);
            *held += step;
            if !room(*held) {
                return Err(wrong("there is no room for its message"));
            }
            body.reserve(step as usize);
            let mut part = (&mut self.0).take(step);
            while part.limit() > 0 {
                if part.read_buf(&mut body).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(body.freeze())
    }
}

impl Writer {
    /// Hands a message to the system; an error once the peer has gone, or takes nothing for too long. Not safe to cancel.
    pub(super) async fn message(&mut self, frames: &[Bytes]) -> io::Result<()> {
        let mut small = std::mem::take(&mut self.small);
        small.clear();
        for (at, frame) in frames.iter().enumerate() {
            let more = if at + 1 < frames.len() { FLAG_MORE } else { 0 };
            match u8::try_from(frame.len()) {
                Ok(length) => small.extend([more, length]),
                Err(_) => {
                    small.push(more | FLAG_LONG);
                    small.extend((frame.len() as u64).to_be_bytes());
                }
            }
            if frame.len() <= SMALL {
                small.extend_from_slice(frame);
            } else {
                self.write(&small).await?;
                small.clear();
                self.write(frame).await?;
            }
            if small.len() > SMALL {
                self.write(&small).await?;
                small.clear();
            }
        }
        self.write(&small).await?;
        self.small = small;
        Ok(())
    }

    async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match tokio::time::timeout(self.stall, self.stream.write(bytes)).await?? {
                0 => return Err(ErrorKind::WriteZero.into()),
                taken => bytes = &bytes[taken..],
            }
        }
        Ok(())
    }
}

/// Takes a property of a READY apart: its name, its value, and what follows it.
fn property(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((name, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A peer of ours that has shaken hands under this name.
    async fn shaken(room: usize, stall: Duration) -> (DuplexStream, Bytes, Reader, Writer) {
        let (mut peer, ours) = tokio::io::duplex(room);
        let accepted = tokio::spawn(async move {
            let limits = Limits::default();
            accept(Box::new(ours), Role::Router, &limits, stall).await
        });
        peer.write_all(&greeting()).await.unwrap();
        let body = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02me";
        let mut ready = vec![FLAG_COMMAND, body.len() as u8];
        ready.extend(body);
        peer.write_all(&ready).await.unwrap();
        let mut answer = vec![0; GREETING as usize + super::ready(Role::Router).len()];
        peer.read_exact(&mut answer).await.unwrap();
        let (identity, reader, writer) = accepted.await.unwrap().unwrap();
        (peer, identity, reader, writer)
    }

    #[tokio::test]
    async fn what_is_written_is_read_again() {
        let (peer, identity, mut reader, _writer) = shaken(1 << 20, PATIENCE).await;
        assert_eq!(identity, "me");
        let sent: Frames = vec![
            Bytes::new(),
            Bytes::from(vec![1; 255]),
            Bytes::from(vec![2; 256]),
            Bytes::from(vec![3; 100_000]),
            Bytes::from_static(b"end"),
        ];
        let mut writer = Writer {
            stream: tokio::io::split(Box::new(peer) as Box<dyn Stream>).1,
            stall: PATIENCE,
            small: Vec::new(),
        };
        writer.message(&sent).await.unwrap();
        let read = reader.message(&Limits::default(), |_| true).await;
        assert_eq!(read.unwrap(), sent);
    }

    #[tokio::test]
    async fn room_is_made_for_what_comes_and_not_for_what_is_announced() {
        let (mut peer, _, mut reader, _writer) = shaken(1 << 20, PATIENCE).await;
        peer.write_all(&[FLAG_LONG, 0, 0, 0, 0, 0x3f, 0, 0, 0])
            .await
            .unwrap();
        peer.write_all(&[7; 20_000]).await.unwrap();
        drop(peer);
        let (limits, mut most) = (Limits::default(), 0);
        let read = reader.message(&limits, |held| {
            most = most.max(held);
            true
        });
        assert!(read.await.is_err());
        assert!(most < 100_000, "{most}");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (_peer, _, _reader, mut writer) = shaken(1 << 10, Duration::from_millis(50)).await;
        let large = [Bytes::from(vec![1; 1 << 20])];
        let written = writer.message(&large).await;
        assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
