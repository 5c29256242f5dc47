"""The inner end of a kernel's connections where no socket crosses the border.

Run in the container as ``python3 -I -S -c TEXT FOLDER COMMAND...``. Starts the
kernel (COMMAND) and carries connections to its Unix sockets over this
process's standard input and output, which Heddle holds the other ends of. What
the kernel prints goes the same way. When standard input ends, so does this, and
with it the container.

Both directions are frames: a kind, the number of a connection, the length of
the body (two bytes, big-endian), the body.

- ``HELLO`` comes first, to here: names and a text, with a zero byte after each
  name. The first names the file in FOLDER that gets the text (the connection
  file), the others the sockets in FOLDER.
- ``READY``, from here: all sockets are there.
- ``OPEN``, to here: connect to the socket whose number is the body.
- ``DATA``, both ways. At most WINDOW bytes of a connection are on the way; so
  many more as ``CREDIT`` says (four bytes), once that many have been taken.
- ``CLOSE``, both ways, once each: no more will come from this end.
- ``OUTPUT``, from here: what the kernel prints.

Pure, and with as few imports as can be: the kernel waits for none of them.
"""

import os
import sys

HELLO, READY, OPEN, DATA, CREDIT, CLOSE, OUTPUT = range(7)
WINDOW = 256 * 1024
CHUNK = 32 * 1024
# Seconds between looks at sockets that are not there yet, and for what is on
# the way when the kernel has ended.
TICK = 0.005
LAST_WORDS = 0.5

folder, *command = sys.argv[1:]
incoming, outgoing = bytearray(), bytearray()
connections = {}
child = None


def frames():
    """Take whole frames off what has come in."""
    while len(incoming) >= 4:
        end = 4 + int.from_bytes(incoming[2:4], "big")
        if len(incoming) < end:
            return
        kind, number, body = incoming[0], incoming[1], bytes(incoming[4:end])
        del incoming[:end]
        yield kind, number, body


def put(kind, number=0, body=b""):
    outgoing.extend(bytes((kind, number)) + len(body).to_bytes(2, "big") + body)


def hear():
    """Read what Heddle sends. Its end is ours, and the container's, whose main process this is."""
    data = os.read(0, 2 * CHUNK)
    if not data:
        if child is not None:
            os.kill(child, 9)
        os._exit(0)
    incoming.extend(data)


def start(output):
    """Start the kernel, leader of a group: an interrupt is for all of it."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    os.close(output)
    return child


hello = None
while hello is None:
    hear()
    hello = next(frames(), None)
name, *sockets, text = hello[2].split(b"\0")
with open(os.open(os.path.join(folder, name.decode()), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
    file.write(text)
printed, output = os.pipe()
child = start(output)

import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402

sockets = [os.path.join(folder.encode(), name) for name in sockets]


class Connection:
    def __init__(self, number, path):
        self.number, self.path = number, path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        self.connected = False
        # To the kernel: what waits, and what it has taken since the last credit.
        self.waiting, self.taken = bytearray(), 0
        # From the kernel: how much may be sent.
        self.room = WINDOW
        self.ends = False

    def connect(self):
        try:
            self.socket.connect(self.path)
            self.connected = True
        except OSError:
            # Not listening yet, or its queue is full: at the next tick again.
            pass

    def send(self):
        try:
            count = self.socket.send(self.waiting)
        except BlockingIOError:
            return
        except OSError:
            return self.close()
        del self.waiting[:count]
        self.taken += count
        if self.taken >= WINDOW // 2:
            put(CREDIT, self.number, self.taken.to_bytes(4, "big"))
            self.taken = 0
        if self.ends and not self.waiting:
            self.close()

    def receive(self):
        try:
            data = self.socket.recv(min(CHUNK, self.room))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            return self.close()
        self.room -= len(data)
        put(DATA, self.number, data)

    def end(self):
        """Heddle's end is closed; what it sent before still goes out."""
        self.ends = True
        if not self.waiting or not self.connected:
            self.close()

    def close(self):
        self.socket.close()
        del connections[self.number]
        put(CLOSE, self.number)


def take(kind, number, body):
    connection = connections.get(number)
    if kind == OPEN:
        connections[number] = Connection(number, sockets[body[0]])
        connections[number].connect()
    elif connection is None:
        # Closed here, before that was known there.
        return
    elif kind == DATA:
        connection.waiting.extend(body)
        if connection.connected:
            connection.send()
    elif kind == CREDIT:
        connection.room += int.from_bytes(body, "big")
    elif kind == CLOSE:
        connection.end()


def turn(ready, patience):
    """Wait for something that can be done, and do it."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(woken, select.POLLIN)
    if outgoing:
        poll.register(1, select.POLLOUT)
    # What is slow to be taken is not read, so that it does not pile up here.
    reads = len(outgoing) < WINDOW
    if reads and printed is not None:
        poll.register(printed, select.POLLIN)
    by_file = {}
    late = not ready
    for connection in connections.values():
        late = late or not connection.connected
        wants = select.POLLIN if reads and connection.room else 0
        wants |= select.POLLOUT if connection.waiting else 0
        if wants and connection.connected:
            by_file[connection.socket.fileno()] = connection
            poll.register(connection.socket, wants)
    if late:
        patience = TICK
    for file, event in poll.poll(None if patience is None else patience * 1000):
        if file == 0:
            hear()
            for frame in frames():
                take(*frame)
        elif file == woken:
            os.read(woken, 64)
        elif file == 1:
            flush()
        elif file == printed:
            show()
        else:
            connection = by_file[file]
            if event & select.POLLOUT and connections.get(connection.number) is connection:
                connection.send()
            if event & ~select.POLLOUT and connections.get(connection.number) is connection:
                connection.receive()
    for connection in list(connections.values()):
        if not connection.connected:
            connection.connect()
            if connection.connected and connection.waiting:
                connection.send()
    # Most of it can go at once.
    if outgoing:
        flush()


def flush():
    try:
        del outgoing[: os.write(1, outgoing)]
    except BlockingIOError:
        pass


def show():
    global printed
    data = os.read(printed, CHUNK)
    if data:
        put(OUTPUT, 0, data)
    else:
        os.close(printed)
        printed = None


woken, waker = os.pipe()
os.set_blocking(waker, False)
os.set_blocking(1, False)
signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
signal.signal(signal.SIGCHLD, lambda *_: None)
for passed_on in (signal.SIGINT, signal.SIGTERM):
    signal.signal(passed_on, lambda number, _: os.kill(child, number))
for frame in frames():
    take(*frame)
ready, ended, status = False, None, 0
while ended is None or time.monotonic() < ended and (connections or printed is not None or outgoing):
    if not ready and all(map(os.path.exists, sockets)):
        ready = True
        put(READY)
    if ended is None:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            ended = time.monotonic() + LAST_WORDS
    turn(ready or ended is not None, None if ended is None else TICK)
os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
