//! A scope of systemd's user manager: a control group that it makes for a user who may make none, as in a session over
//! SSH. It is asked for over D-Bus (org.freedesktop.systemd1(5), and the D-Bus specification).
//!
//! The little of D-Bus that one call takes, for this user's own bus, whose daemon runs as the user.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::Limits;

/// How long all of it may take; a start goes on without a scope then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of the largest message that is read.
const LARGEST: usize = 1 << 20;

const BUS: [&str; 3] = [
    "org.freedesktop.DBus",
    "/org/freedesktop/DBus",
    "org.freedesktop.DBus",
];
const MANAGER: [&str; 3] = [
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
];
const ENDED_JOBS: &str =
    "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

const CALL: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// The user's bus, where systemd puts it.
pub(super) fn bus() -> PathBuf {
    format!("/run/user/{}/bus", nix::unistd::Uid::effective()).into()
}

/// Has this process moved into a scope of its own with these limits, and waits until it is in there.
///
/// # Errors
/// There is no such bus, or the manager refuses.
pub(super) fn enter(bus: &Path, limits: &Limits) -> io::Result<()> {
    let mut bus = Bus::connect(bus)?;
    bus.call(BUS, "Hello", "", &[])?;
    bus.call(BUS, "AddMatch", "s", &Body::new().text(ENDED_JOBS).0)?;
    bus.call(MANAGER, "Subscribe", "", &[])?;
    let name = format!("heddle-{}.scope", std::process::id());
    let mut start = |goes_on| {
        let body = request(&name, limits, goes_on);
        bus.call(MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body)
    };
    // Before systemd 253 a scope had no such property, and went on by itself.
    start(true).or_else(|_| start(false))?;
    match bus.end_of_job(&name)?.as_str() {
        "done" => Ok(()),
        result => Err(io::Error::other(format!("{name}: {result}"))),
    }
}

/// The body of the call that starts a scope.
fn request(name: &str, limits: &Limits, goes_on: bool) -> Vec<u8> {
    let mut properties = Body::new();
    let mut number = |name: &str, value: u64| {
        properties = std::mem::take(&mut properties)
            .align(8)
            .text(name)
            .signature("t")
            .align(8)
            .bytes(&value.to_le_bytes());
    };
    number("MemoryMax", limits.memory);
    number("MemorySwapMax", 0);
    number("TasksMax", limits.processes);
    if limits.cpus > 0.0 {
        number("CPUQuotaPerSecUSec", (limits.cpus * 1e6) as u64);
    }
    let mut properties = properties
        .align(8)
        .text("PIDs")
        .signature("au")
        .array(4, |pids| pids.word(std::process::id()));
    let words = [
        // One that a process of it was killed in is forgotten like any other.
        ("CollectMode", "inactive-or-failed"),
        ("OOMPolicy", "continue"),
    ];
    for (name, value) in words.into_iter().take(1 + usize::from(goes_on)) {
        properties = properties
            .align(8)
            .text(name)
            .signature("s")
            .align(4)
            .text(value);
    }
    Body::new()
        .text(name)
        .text("fail")
        .array(8, |body| body.bytes(&properties.0))
        .array(8, |body| body)
        .0
}

/// What is put into a message, each value at a multiple of its size from the beginning.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn new() -> Body {
        Body::default()
    }

    fn align(mut self, to: usize) -> Body {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Body {
        self.0.extend(bytes);
        self
    }

    fn word(self, word: u32) -> Body {
        self.align(4).bytes(&word.to_le_bytes())
    }

    fn text(self, text: &str) -> Body {
        self.word(text.len() as u32)
            .bytes(text.as_bytes())
            .bytes(&[0])
    }

    fn signature(self, signature: &str) -> Body {
        self.bytes(&[signature.len() as u8])
            .bytes(signature.as_bytes())
            .bytes(&[0])
    }

    /// Elements at multiples of `to`, from the first on, whose place may not be told otherwise: they are put together
    /// from a multiple of 8.
    fn array(self, to: usize, elements: impl FnOnce(Body) -> Body) -> Body {
        let elements = elements(Body::new());
        self.word(elements.0.len() as u32)
            .align(to)
            .bytes(&elements.0)
    }
}

/// A message that was received.
struct Message {
    kind: u8,
    /// The call that it answers.
    answers: Option<u32>,
    member: String,
    body: Vec<u8>,
}

struct Bus {
    stream: UnixStream,
    until: Instant,
    calls: u32,
}

impl Bus {
    fn connect(path: &Path) -> io::Result<Bus> {
        let mut bus = Bus {
            stream: UnixStream::connect(path)?,
            until: Instant::now() + PATIENCE,
            calls: 0,
        };
        bus.stream.set_write_timeout(Some(PATIENCE))?;
        let user = nix::unistd::Uid::effective().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        bus.stream
            .write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            bus.read(&mut byte)?;
            line.push(byte[0]);
            if line.len() > 1024 {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        if !line.starts_with(b"OK ") {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        bus.stream.write_all(b"BEGIN\r\n")?;
        Ok(bus)
    }

    /// Calls a method and waits for what it gives.
    fn call(
        &mut self,
        [destination, path, interface]: [&str; 3],
        member: &str,
        signature: &str,
        body: &[u8],
    ) -> io::Result<()> {
        self.calls += 1;
        let serial = self.calls;
        let header = message(CALL, serial, body, |mut fields| {
            for (field, kind, value) in [
                (1, "o", path),
                (2, "s", interface),
                (3, "s", member),
                (6, "s", destination),
            ] {
                fields = fields.align(8).bytes(&[field]).signature(kind).text(value);
            }
            match signature {
                "" => fields,
                _ => fields
                    .align(8)
                    .bytes(&[8])
                    .signature("g")
                    .signature(signature),
            }
        });
        self.stream.write_all(&header)?;
        loop {
            let message = self.receive()?;
            match (message.kind, message.answers == Some(serial)) {
                (REPLY, true) => return Ok(()),
                (ERROR, true) => return Err(io::Error::other(format!("{member} is refused"))),
                _ => {}
            }
        }
    }

    /// Waits until the manager has done what this unit is for, and gives the result.
    fn end_of_job(&mut self, unit: &str) -> io::Result<String> {
        loop {
            let message = self.receive()?;
            if message.kind != SIGNAL || message.member != "JobRemoved" {
                continue;
            }
            let mut body = Reader::new(&message.body);
            let (_, _, of, result) = (body.word()?, body.text()?, body.text()?, body.text()?);
            if of == unit {
                return Ok(result);
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut start = [0; 16];
        self.read(&mut start)?;
        let mut words = Reader::new(&start[4..]);
        let (length, _, fields) = (
            words.word()? as usize,
            words.word()?,
            words.word()? as usize,
        );
        if start[0] != b'l' || length.max(fields) > LARGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut header = vec![0; fields.next_multiple_of(8)];
        self.read(&mut header)?;
        let mut message = Message {
            kind: start[1],
            answers: None,
            member: String::new(),
            body: vec![0; length],
        };
        self.read(&mut message.body)?;
        let mut header = Reader::new(&header[..fields]);
        while header.align(8) {
            let field = header.bytes(1)?[0];
            match (field, header.signature()?) {
                (5, "u") => message.answers = Some(header.word()?),
                (3, "s") => message.member = header.text()?,
                (_, "s" | "o") => drop(header.text()?),
                (_, "u") => drop(header.word()?),
                (_, "g") => drop(header.signature()?),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(message)
    }

    /// Fills all of `bytes`, within the time that is left.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A message with its header.
fn message(kind: u8, serial: u32, body: &[u8], fields: impl FnOnce(Body) -> Body) -> Vec<u8> {
    Body::new()
        .bytes(&[b'l', kind, 0, 1])
        .word(body.len() as u32)
        .word(serial)
        .array(8, fields)
        .align(8)
        .bytes(body)
        .0
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Whether there is more.
    fn align(&mut self, to: usize) -> bool {
        self.at = self.at.next_multiple_of(to);
        self.at < self.bytes.len()
    }

    fn bytes(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let end = self.at.saturating_add(length);
        let bytes = self.bytes.get(self.at..end);
        self.at = end;
        bytes.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn word(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.bytes(4)?.try_into();
        bytes
            .map(u32::from_le_bytes)
            .map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn text(&mut self) -> io::Result<String> {
        let length = self.word()? as usize;
        let text = String::from_utf8_lossy(self.bytes(length)?).into_owned();
        self.bytes(1)?;
        Ok(text)
    }

    fn signature(&mut self) -> io::Result<&'a str> {
        let length = usize::from(self.bytes(1)?[0]);
        let text = std::str::from_utf8(self.bytes(length)?);
        self.bytes(1)?;
        text.map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const LIMITS: Limits = Limits {
        memory: 200 << 20,
        processes: 60,
        cpus: 0.5,
    };

    fn read_line(bus: &mut Bus) -> String {
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            let mut byte = [0];
            bus.read(&mut byte).unwrap();
            line.push(byte[0].into());
        }
        line
    }

    /// A bus with a manager on it, as far as these calls go: gives the members that were called, and the bodies of the
    /// calls that start a unit. It refuses the first of these, as a manager does that does not know all properties.
    fn serve(listener: UnixListener, result: &str) -> (Vec<String>, Vec<Vec<u8>>) {
        let mut bus = Bus {
            stream: listener.accept().unwrap().0,
            until: Instant::now() + Duration::from_secs(60),
            calls: 0,
        };
        let hello = read_line(&mut bus);
        let user: String = nix::unistd::Uid::effective()
            .to_string()
            .bytes()
            .map(|byte| format!("{byte:x}"))
            .collect();
        assert_eq!(hello, format!("\0AUTH EXTERNAL {user}\r\n"));
        bus.stream.write_all(b"OK 0123456789abcdef\r\n").unwrap();
        assert_eq!(read_line(&mut bus), "BEGIN\r\n");
        let (mut members, mut bodies) = (Vec::new(), Vec::new());
        while let Ok(call) = bus.receive() {
            let serial = members.len() as u32 + 1;
            let starts = call.member == "StartTransientUnit";
            let refused = starts && bodies.is_empty();
            let answer = |fields: Body| {
                let fields = fields.align(8).bytes(&[5]).signature("u").word(serial);
                fields.align(8).bytes(&[6]).signature("s").text(":1.7")
            };
            let kind = if refused { ERROR } else { REPLY };
            let mut said = message(kind, serial, &[], answer);
            if starts && !refused {
                for (unit, result) in [("other.scope", "failed"), (&*name(), result)] {
                    let body = Body::new().word(7).text("/job/7").text(unit).text(result);
                    said.extend(message(SIGNAL, 99, &body.0, |fields| {
                        fields.bytes(&[3]).signature("s").text("JobRemoved")
                    }));
                }
            }
            bus.stream.write_all(&said).unwrap();
            members.push(call.member);
            if starts {
                bodies.push(call.body);
            }
        }
        (members, bodies)
    }

    fn name() -> String {
        format!("heddle-{}.scope", std::process::id())
    }

    fn entered(result: &'static str) -> (io::Result<()>, Vec<String>, Vec<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || serve(listener, result));
        let outcome = enter(&path, &LIMITS);
        let (members, bodies) = server.join().unwrap();
        (outcome, members, bodies)
    }

    #[test]
    fn a_scope_is_asked_for_with_the_limits_and_waited_for() {
        let (outcome, members, bodies) = entered("done");
        outcome.unwrap();
        let start = "StartTransientUnit";
        assert_eq!(members, ["Hello", "AddMatch", "Subscribe", start, start]);
        let mut body = Reader::new(&bodies[1]);
        assert_eq!(body.text().unwrap(), name());
        assert_eq!(body.text().unwrap(), "fail");
        let end = body.word().unwrap() as usize;
        body.align(8);
        let end = body.at + end;
        let mut properties = Vec::new();
        while body.at < end {
            body.align(8);
            let name = body.text().unwrap();
            let value = match body.signature().unwrap() {
                "t" => {
                    body.align(8);
                    u64::from_le_bytes(body.bytes(8).unwrap().try_into().unwrap()).to_string()
                }
                "s" => body.text().unwrap(),
                "au" => {
                    assert_eq!(body.word().unwrap(), 4);
                    body.word().unwrap().to_string()
                }
                other => panic!("{other}"),
            };
            properties.push(format!("{name}={value}"));
        }
        let pid = format!("PIDs={}", std::process::id());
        let wanted = [
            "MemoryMax=209715200",
            "MemorySwapMax=0",
            "TasksMax=60",
            "CPUQuotaPerSecUSec=500000",
            &pid,
            "CollectMode=inactive-or-failed",
        ];
        assert_eq!(properties, wanted);
        // Nothing more about other units.
        assert_eq!((body.word().unwrap(), body.align(8)), (0, false));
        // What the first call asks for in addition.
        assert!(bodies[0].windows(9).any(|part| part == b"OOMPolicy"));
    }

    #[test]
    fn a_manager_that_fails_or_is_not_there_is_no_scope() {
        let (outcome, ..) = entered("failed");
        assert!(outcome.unwrap_err().to_string().contains("failed"));
        assert!(enter(Path::new("/nowhere"), &LIMITS).is_err());
    }
}
