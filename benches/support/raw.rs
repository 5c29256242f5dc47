//! The floor: a client on two blocking sockets that speaks just enough ZMTP and looks into no message.
//!
//! It signs its requests, because kernels demand it, before the clock starts; it verifies, decodes and keeps nothing
//! of what comes back. No client that reads its messages can be faster.
//! Framing and handshake: ZMTP 3.0 (RFC 23), mechanism NULL.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use heddle::protocol::content::ExecuteRequest;
use heddle::protocol::{Address, Channel, ConnectionInfo, Content, Message};

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// A kernel that has not answered by then will not.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a kernel that does not listen yet is tried.
const PROBE: Duration = Duration::from_millis(1);

/// How often a kernel is asked until it is known to publish to us.
const ASK_AGAIN: Duration = Duration::from_millis(200);

pub struct Raw {
    shell: Socket,
    iopub: Socket,
    info: ConnectionInfo,
}

/// A signed request, as it goes over the wire.
pub struct Request(Vec<u8>);

impl Raw {
    /// Connects as soon as the kernel listens, and asks it who it is until both the answer and its `idle` come: then
    /// the subscription has reached it. (A kernel welcomes only the first of its subscribers.)
    pub fn connect(info: &ConnectionInfo) -> io::Result<Raw> {
        let mut iopub = Socket::connect(info, Channel::Iopub, "SUB")?;
        iopub.stream.get_mut().write_all(b"\x00\x01\x01")?;
        let shell = Socket::connect(info, Channel::Shell, "DEALER")?;
        let mut raw = Raw {
            shell,
            iopub,
            info: info.clone(),
        };
        let stream = raw.iopub.stream.get_ref().try_clone()?;
        stream.set_read_timeout(Some(ASK_AGAIN))?;
        loop {
            // Each time a new one: a request that is repeated byte for byte is dropped.
            let asked = request(info, Content::KernelInfoRequest(Default::default()));
            match raw.run(&asked) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    raw.shell.message()?;
                }
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(raw)
    }

    /// A request to run `code`.
    pub fn request(&self, code: &str) -> Request {
        let execute = ExecuteRequest {
            code: code.to_owned(),
            ..ExecuteRequest::default()
        };
        request(&self.info, Content::ExecuteRequest(execute))
    }

    /// Runs a request until its reply and the `idle` have come. Gives the bytes of all contents on iopub.
    pub fn run(&mut self, request: &Request) -> io::Result<u64> {
        self.shell.stream.get_mut().write_all(&request.0)?;
        let mut bytes = 0;
        loop {
            bytes += self.iopub.message()?;
            if self.iopub.is_idle() {
                break;
            }
        }
        self.shell.message()?;
        Ok(bytes)
    }
}

/// Waits for the kernel's reply to a `kernel_info_request`, from before it listens.
pub fn wait_for_info(info: &ConnectionInfo) -> io::Result<()> {
    let mut shell = Socket::connect(info, Channel::Shell, "DEALER")?;
    let asked = request(info, Content::KernelInfoRequest(Default::default()));
    shell.stream.get_mut().write_all(&asked.0)?;
    shell.message().map(drop)
}

fn request(info: &ConnectionInfo, content: Content) -> Request {
    let mut raw = Message::request(content, "bench", "bench").encode();
    let signer = info.signer().expect("the bench's own connection file");
    signer.sign(&mut raw);
    let frames = raw.into_frames();
    let mut wire = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        let more = if n + 1 < frames.len() { MORE } else { 0 };
        put_frame(&mut wire, more, frame);
    }
    Request(wire)
}

fn put_frame(wire: &mut Vec<u8>, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(short) => wire.extend([flags, short]),
        Err(_) => {
            wire.push(flags | LONG);
            wire.extend((body.len() as u64).to_be_bytes());
        }
    }
    wire.extend(body);
}

struct Socket {
    stream: BufReader<UnixStream>,
    /// The last frame received.
    frame: Vec<u8>,
}

impl Socket {
    fn connect(info: &ConnectionInfo, channel: Channel, kind: &str) -> io::Result<Socket> {
        let Address::Ipc(path) = info.address(channel) else {
            return Err(io::Error::other("the raw client knows Unix sockets alone"));
        };
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(PROBE),
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut socket = Socket {
            stream: BufReader::with_capacity(64 << 10, stream),
            frame: Vec::new(),
        };
        socket.handshake(kind)?;
        Ok(socket)
    }

    fn handshake(&mut self, kind: &str) -> io::Result<()> {
        let mut hello = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
        hello.extend(b"NULL");
        hello.resize(64, 0);
        let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
        ready.extend((kind.len() as u32).to_be_bytes());
        ready.extend(kind.as_bytes());
        put_frame(&mut hello, COMMAND, &ready);
        self.stream.get_mut().write_all(&hello)?;
        let mut greeting = [0; 64];
        self.stream.read_exact(&mut greeting)?;
        self.read_frame().map(drop)
    }

    /// Takes one message and gives the length of its last frame, which is the content where there are no buffers.
    fn message(&mut self) -> io::Result<u64> {
        while self.read_frame()? & MORE != 0 {}
        Ok(self.frame.len() as u64)
    }

    /// Whether the last message was a `status` of `idle`, told from its shortness and its last word.
    fn is_idle(&self) -> bool {
        self.frame.len() < 64 && self.frame.windows(6).any(|word| word == b"\"idle\"")
    }

    fn read_frame(&mut self) -> io::Result<u8> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let [flags, first] = head;
        let length = if flags & LONG == 0 {
            u64::from(first)
        } else {
            let mut rest = [0; 8];
            rest[0] = first;
            self.stream.read_exact(&mut rest[1..])?;
            u64::from_be_bytes(rest)
        };
        self.frame.resize(length as usize, 0);
        self.stream.read_exact(&mut self.frame)?;
        Ok(flags)
    }
}
