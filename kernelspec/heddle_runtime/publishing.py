"""Room for what a cell publishes faster than it is taken.

ipykernel's publisher drops messages without a word once a thousand wait for a
subscriber, the one that says a cell has ended included.
"""

# As many messages may wait; they take the kernel's own memory.
WAITING = 20_000


def make_room():
    """Let more messages wait, in ipykernel; elsewhere do nothing."""
    try:
        import zmq
        from IPython import get_ipython

        thread = get_ipython().kernel.iopub_thread
        # Sockets belong to one thread.
        thread.schedule(lambda: thread.socket.set(zmq.SNDHWM, WAITING))
    except Exception:
        # Another kind of kernel, which may need no help.
        return
