//! What sockets hold in their buffers, which is nobody's memory, as the machine's own list of sockets tells it
//! (sock_diag(7)).

use std::collections::HashSet;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Sockets of which kernels are asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All of this network namespace.
    Namespace,
    /// Those that are open in the processes, of a network namespace that is everybody's.
    Open,
    /// The same, where there are none but Unix sockets.
    OpenUnix,
}

/// Bytes that a sender can leave with another socket and be gone, after which they are in no account but the queue's,
/// which tells of the text and not of what it takes: twice the default of `net.core.wmem_max`.
const LEFT_BEHIND: u64 = 2 * 212_992;
/// Datagrams that wait in one Unix socket, each from another sender (`net.unix.max_dgram_qlen`).
const DATAGRAMS: u64 = 10;

/// Bytes that one answer of the machine may be.
const ANSWER: usize = 64 << 10;

const HEADER: usize = 16;
const DUMP: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// The same number for all kinds of sockets.
const EVERY_STATE: u32 = u32::MAX;
const LISTENING: u8 = 10;

/// A kind of sockets: how they are asked for, and where in an answer is what.
struct Kind {
    family: libc::c_int,
    request: Vec<u8>,
    /// Of the message, before its attributes.
    length: usize,
    inode: usize,
    /// The attribute with the memory.
    memory: u16,
}

fn internet(family: libc::c_int, protocol: libc::c_int) -> Kind {
    const MEMORY: u16 = 7;
    let mut request = vec![family as u8, protocol as u8, 1 << (MEMORY - 1), 0];
    request.extend(EVERY_STATE.to_ne_bytes());
    // Any address.
    request.extend([0; 48]);
    Kind {
        family,
        request,
        length: 72,
        inode: 68,
        memory: MEMORY,
    }
}

const QUEUE: u16 = 4;
const SHUTDOWN: u16 = 6;

fn unix() -> Kind {
    const MEMORY: u16 = 5;
    let mut request = vec![libc::AF_UNIX as u8, 0, 0, 0];
    let show: u32 = 1 << QUEUE | 1 << MEMORY;
    for word in [EVERY_STATE, 0, show, 0, 0] {
        request.extend(word.to_ne_bytes());
    }
    Kind {
        family: libc::AF_UNIX,
        request,
        length: 16,
        inode: 4,
        memory: MEMORY,
    }
}

fn netlink() -> Kind {
    const EVERY_PROTOCOL: u8 = 255;
    let mut request = vec![libc::AF_NETLINK as u8, EVERY_PROTOCOL, 0, 0];
    let show: u32 = 1;
    for word in [0, show, 0, 0] {
        request.extend(word.to_ne_bytes());
    }
    Kind {
        family: libc::AF_NETLINK,
        request,
        length: 28,
        inode: 16,
        memory: 0,
    }
}

impl Scope {
    fn kinds(self) -> Vec<Kind> {
        let mut kinds = vec![unix()];
        if self != Scope::OpenUnix {
            kinds.push(netlink());
            for family in [libc::AF_INET, libc::AF_INET6] {
                for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
                    kinds.push(internet(family, protocol));
                }
            }
        }
        kinds
    }

    /// Bytes in the buffers of these sockets. `open` are the inodes of those that the processes have open. What the
    /// machine does not tell counts nothing.
    pub(super) fn held(self, open: &HashSet<u64>) -> u64 {
        let kinds = self.kinds();
        let held = kinds.iter().map(|kind| {
            let mut held = 0;
            ask(kind, &mut |message| {
                let inode = word(message, kind.inode).map_or(0, u64::from);
                if self == Scope::Namespace || open.contains(&inode) {
                    held += kind.held(message);
                }
            });
            held
        });
        held.sum()
    }
}

impl Kind {
    fn held(&self, message: &[u8]) -> u64 {
        let attributes = message.get(self.length..).unwrap_or_default();
        let Some(memory) = attribute(attributes, self.memory) else {
            return 0;
        };
        let figure = |n: usize| word(memory, 4 * n).map_or(0, u64::from);
        let (received, sent, queued, options, backlog) =
            (figure(0), figure(2), figure(5), figure(6), figure(7));
        // What is queued is sent in part: some of it is in both.
        let held = received + sent.max(queued) + options + backlog;
        match self.family {
            libc::AF_UNIX => held + left_behind(message, attributes),
            _ => held,
        }
    }
}

/// What senders that are gone have left in a Unix socket, at most. Those that are there count it themselves.
fn left_behind(message: &[u8], attributes: &[u8]) -> u64 {
    let unread = attribute(attributes, QUEUE).and_then(|queue| word(queue, 0));
    let (kind, state) = (message.get(1), message.get(2));
    if unread.unwrap_or(0) == 0 || state == Some(&LISTENING) {
        return 0;
    }
    if kind == Some(&(libc::SOCK_DGRAM as u8)) {
        return DATAGRAMS * LEFT_BEHIND;
    }
    let closed = attribute(attributes, SHUTDOWN).and_then(|shutdown| shutdown.first().copied());
    match closed.unwrap_or(0) {
        0 => 0,
        _ => LEFT_BEHIND,
    }
}

/// Asks for all sockets of a kind, and gives each message to `each`. Waits for nothing: an answer is there at once.
fn ask(kind: &Kind, each: &mut dyn FnMut(&[u8])) -> Option<()> {
    let socket = connect()?;
    let mut request = Vec::with_capacity(HEADER + kind.request.len());
    request.extend(((HEADER + kind.request.len()) as u32).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(&kind.request);
    send(socket.as_raw_fd(), &request, MsgFlags::empty()).ok()?;
    let mut answer = vec![0; ANSWER];
    loop {
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
        let mut rest = &answer[..length];
        while let Some((length, kind)) = header(rest) {
            if kind != SOCK_DIAG_BY_FAMILY {
                // The end, or an error.
                return Some(());
            }
            each(&rest[HEADER..length]);
            rest = rest.get(aligned(length)..).unwrap_or_default();
        }
    }
}

fn connect() -> Option<OwnedFd> {
    socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )
    .ok()
}

/// The length of the first message, with its header, and its type.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = word(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (HEADER..=bytes.len())
        .contains(&length)
        .then_some((length, kind))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let half = |at: usize| {
            Some(u16::from_ne_bytes(
                attributes.get(at..at + 2)?.try_into().ok()?,
            ))
        };
        let (length, kind) = (usize::from(half(0)?), half(2)?);
        if kind == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(aligned(length.max(4))..)?;
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    /// What the sockets of these descriptors hold.
    fn held(sockets: &[&dyn AsRawFd]) -> u64 {
        let inode = |socket: &&dyn AsRawFd| {
            let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
            std::fs::metadata(path).unwrap().ino()
        };
        Scope::Open.held(&sockets.iter().map(inode).collect())
    }

    fn fill(mut sender: impl Write) {
        while sender.write(&[0; 4096]).is_ok() {}
    }

    #[test]
    fn counts_what_waits_in_sockets_of_each_kind() {
        const MUCH: u64 = 150_000;
        let (a, b) = UnixStream::pair().unwrap();
        assert!(held(&[&a, &b]) < 10_000);
        a.set_nonblocking(true).unwrap();
        fill(&a);
        assert!(held(&[&a, &b]) > MUCH);
        // Nor is it lost where the sender has gone.
        drop(a);
        assert!(held(&[&b]) > MUCH);

        let (a, b) = UnixDatagram::pair().unwrap();
        a.send(&[0; 1000]).unwrap();
        drop(a);
        assert!(held(&[&b]) > MUCH);

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        assert!(held(&[&sender, &receiver]) < 10_000);
        sender.set_nonblocking(true).unwrap();
        fill(&sender);
        assert!(held(&[&sender, &receiver]) > MUCH);

        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..30 {
            sender.send_to(&[0; 8192], to).unwrap();
        }
        assert!(held(&[&receiver]) > MUCH);
    }

    #[test]
    fn reads_attributes_and_their_ends() {
        let one = [8, 0, 5, 0, 1, 2, 3, 4];
        let other = [5, 0, 6, 0, 9, 0, 0, 0];
        let both = [one, other].concat();
        assert_eq!(attribute(&both, 6), Some(&[9][..]));
        assert_eq!(attribute(&both, 5), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&both, 7), None);
        assert_eq!(attribute(&[0, 0, 1], 7), None);
        assert_eq!(attribute(&[255, 0, 7, 0], 7), None);
    }
}
