"""A front end made of jupyter_client and pyzmq, against the kernel whose connection file is given."""

import sys
import time

import zmq
from jupyter_client import BlockingKernelClient
from jupyter_client.session import Session

TIMEOUT = 8


def client(file):
    kc = BlockingKernelClient()
    kc.load_connection_file(file)
    kc.start_channels()
    return kc


def sockets(kc):
    """The session and the addresses of a connection, for sockets by hand."""
    session = Session(key=kc.session.key)
    return session, {name: kc._make_url(name) for name in ("shell", "iopub", "stdin")}


def receive(session, socket):
    assert socket.poll(TIMEOUT * 1000), "nothing came"
    _, frames = session.feed_identities(socket.recv_multipart())
    return session.deserialize(frames)


def execute(file):
    kc = client(file)
    kc.wait_for_ready(timeout=TIMEOUT)
    for number in range(20):
        outputs = []
        reply = kc.execute_interactive(f"say hello {number}", timeout=TIMEOUT, output_hook=outputs.append)
        kinds = [message["msg_type"] for message in outputs]
        assert kinds == ["status", "stream", "status"], kinds
        assert outputs[1]["content"]["text"] == f"hello {number}", outputs
        assert outputs[1]["parent_header"]["msg_id"] == reply["parent_header"]["msg_id"]
        assert reply["content"]["status"] == "ok", reply
    outputs = []
    kc.execute_interactive("value 42", timeout=TIMEOUT, output_hook=outputs.append)
    assert outputs[1]["content"]["data"] == {"text/plain": "42"}, outputs
    time.sleep(1.5)
    assert kc.is_alive(), "the heartbeat is echoed"
    kc.shutdown()
    assert kc.get_control_msg(timeout=TIMEOUT)["msg_type"] == "shutdown_reply"


def stdin(file):
    kc = client(file)
    kc.wait_for_ready(timeout=TIMEOUT)
    outputs, prompts = [], []

    def type_it(message):
        prompts.append(message["content"]["prompt"])
        kc.input("forty-two")

    kc.execute_interactive(
        "ask How many?", timeout=TIMEOUT, allow_stdin=True, output_hook=outputs.append, stdin_hook=type_it
    )
    assert prompts == ["How many?"], prompts
    assert [m["content"].get("text") for m in outputs if m["msg_type"] == "stream"] == ["you typed forty-two"]


def welcome(file):
    kc = client(file)
    session, urls = sockets(kc)
    for topic in ("", "kernel"):
        iopub = zmq.Context.instance().socket(zmq.SUB)
        iopub.subscribe(topic)
        iopub.connect(urls["iopub"])
        if topic == "":
            message = receive(session, iopub)
            assert message["msg_type"] == "iopub_welcome", message
            assert message["content"] == {"subscription": topic}, message
        iopub.close()


def handover(file):
    kc = client(file)
    session, urls = sockets(kc)

    def shell():
        socket = zmq.Context.instance().socket(zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, b"the same")
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(urls["shell"])
        return socket

    def ask(socket, code):
        sent = session.send(socket, "execute_request", {"code": code})
        reply = receive(session, socket)
        assert reply["parent_header"]["msg_id"] == sent["header"]["msg_id"]

    first = shell()
    ask(first, "say one")
    second = shell()
    ask(second, "say two")
    first.close()
    time.sleep(0.1)
    ask(second, "say three")
    # One that comes back again and again, as after a network's hiccup.
    for number in range(100):
        second.close()
        second = shell()
        ask(second, f"say {number}")


{f.__name__: f for f in (execute, stdin, welcome, handover)}[sys.argv[1]](sys.argv[2])
