"""The first process of a kernel's container.

Run as ``python3 -I -S -c TEXT PYTHON CONTAINER OWNER SILENCE FOLDER ARGUMENTS...``.
Starts the kernel (PYTHON -c ARGUMENTS), reaps what it leaves behind and passes
on signals that come from outside the container. The names CONTAINER and OWNER
are there to be read in the list of processes.

Standard input comes from a process of Heddle's that watches the container. When
it ends, or brings nothing for SILENCE seconds (0: for ever), this ends, and with
it everything in the container: the first process of a PID namespace takes all
others with it. Code inside runs as the same user, and cannot hinder that. The
kernel drops signals from inside that would end or stop the first process;
this one blocks the others, and its memory and its files are closed to tracing.
Whatever goes wrong here ends the container.

Where FOLDER is not empty, no socket crosses the border of the container. This
carries connections to the kernel's Unix sockets over its standard input and
output then, and what the kernel prints goes the same way.

What comes and goes are frames: a kind, the number of a connection, the length
of the body (two bytes, big-endian), the body.

- ``HELLO`` comes first, to here, where FOLDER is given: names and a text, with
  a zero byte after each name. The first names the file in FOLDER that gets the
  text (the connection file), the others the sockets in FOLDER.
- ``READY``, from here: all sockets are there.
- ``OPEN``, to here: connect to the socket whose number is the body.
- ``DATA``, both ways. At most WINDOW bytes of a connection are on the way; so
  many more as ``CREDIT`` says (four bytes), once that many have been taken.
- ``CLOSE``, both ways, once each: no more will come from this end.
- ``OUTPUT``, from here: what the kernel prints.
- ``BEAT``, to here: whoever watches the container is alive.

The imports at the top are few, because the kernel waits for them; it starts
while the others are made.
"""

import os
import sys

HELLO, READY, OPEN, DATA, CREDIT, CLOSE, OUTPUT, BEAT = range(8)
WINDOW = 256 * 1024
CHUNK = 32 * 1024
# Seconds between looks at sockets that are not there yet, and for what is on
# the way when the kernel has ended.
TICK = 0.005
LAST_WORDS = 0.5
# The longest sleep, in seconds, and the most that one counts as silence: what
# a paused container or a suspended machine sleeps longer is no silence.
SLEEP = 2.0
# The exit status that tells an end by silence. No shell gives it to an end by a
# signal, and no kernel gets it.
SILENT = 193

python, _container, _owner, silence, folder, *arguments = sys.argv[1:]
command = [python, "-c", *arguments]
silence = float(silence)
incoming, outgoing = bytearray(), bytearray()
connections = {}
child = None
# Seconds without anything on standard input.
quiet = 0.0


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


def end(status):
    if child is not None:
        os.kill(child, 9)
    os._exit(status)


def hear():
    """Read what Heddle sends."""
    global quiet
    data = os.read(0, 2 * CHUNK)
    if not data:
        end(0)
    quiet = 0.0
    incoming.extend(data)


def start(output=None):
    """Start the kernel, leader of a group: an interrupt is for all of it.

    It waits for the end of its standard input before it runs any code but
    Heddle's and the image's.
    """
    gate, opener = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.dup2(gate, 0)
        if output is not None:
            os.dup2(output, 1)
            os.dup2(output, 2)
        try:
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    os.close(gate)
    return child, opener


sockets, printed = [], None
if folder:
    hello = None
    while hello is None:
        hear()
        hello = next((frame for frame in frames() if frame[0] == HELLO), None)
    name, *sockets, text = hello[2].split(b"\0")
    with open(os.open(os.path.join(folder, name.decode()), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(text)
    printed, output = os.pipe()
    child, opener = start(output)
    os.close(output)
else:
    child, opener = start()

import _thread  # noqa: E402
import ctypes  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
WATCHED = (*PASSED_ON, signal.SIGCHLD)
# A handler could be kept running by a flood of signals; blocked ones wait.
signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
SET_DUMPABLE = 4
if ctypes.CDLL(None).prctl(SET_DUMPABLE, 0, 0, 0, 0) != 0:
    sys.exit("the first process cannot be closed to tracing")
os.close(opener)

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
    for file, event in poll.poll(patience * 1000):
        if file == 0:
            hear()
            for frame in frames():
                take(*frame)
        elif file == woken:
            for number in os.read(woken, 64):
                if number != signal.SIGCHLD and child is not None:
                    os.kill(child, number)
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


def watch():
    """Tell the main thread of signals: of the end of a child, and of those from outside, where a sender has no number."""
    try:
        while True:
            caught = signal.sigwaitinfo(WATCHED)
            if caught.si_signo == signal.SIGCHLD or caught.si_pid == 0:
                os.write(waker, bytes((caught.si_signo,)))
    finally:
        end(1)


def reap():
    """Take the status of children that have ended; gives the kernel's, if it is one of them.

    Code that makes children faster than they are reaped does not keep this busy for ever.
    """
    for _ in range(256):
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == child:
            return status


woken, waker = os.pipe()
_thread.start_new_thread(watch, ())
if folder:
    os.set_blocking(1, False)
for frame in frames():
    take(*frame)
ready, ended, status, seen = not folder, None, None, time.monotonic()
while ended is None or time.monotonic() < ended and (connections or printed is not None or outgoing):
    if not ready and all(map(os.path.exists, sockets)):
        ready = True
        put(READY)
    if ended is None:
        status = reap()
        if status is not None:
            child = None
            ended = time.monotonic() + (LAST_WORDS if folder else 0)
    turn(ready or ended is not None, SLEEP if ended is None else TICK)
    # CLOCK_MONOTONIC. What waited on standard input has been read by now.
    now = time.monotonic()
    quiet, seen = quiet + min(now - seen, SLEEP), now
    if silence and quiet > silence:
        end(SILENT)
if os.WIFSIGNALED(status):
    os._exit(128 + os.WTERMSIG(status))
os._exit(1 if os.WEXITSTATUS(status) == SILENT else os.WEXITSTATUS(status))
