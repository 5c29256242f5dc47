"""What a kernel without namespaces of its own is refused, done another way.

At the lower level of the sandbox /dev/shm and terminals are the whole
machine's, and closed. Each mend tries the usual way first.
"""

import os
import subprocess
import sys

from .imports import harmless


@harmless
def keep_semaphores_in_memory(synchronize):
    """Let `multiprocessing` have its locks in shared memory, where it may not have them as files.

    Only processes made by a fork find them there, so that is how they are made.
    """
    import _multiprocessing

    try:
        _multiprocessing.SemLock(1, 1, 1, "/heddle-%d" % os.getpid(), True)
        return
    except PermissionError:
        pass
    import ctypes
    import mmap
    from multiprocessing import context

    library = ctypes.CDLL(None, use_errno=True)

    class SemLock(_multiprocessing.SemLock):
        def __new__(cls, kind, value, maxvalue, name, unlink):
            if not unlink:  # it is to be found by its name, from a process that is no fork
                return super().__new__(cls, kind, value, maxvalue, name, unlink)
            memory = mmap.mmap(-1, mmap.PAGESIZE)
            address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            if library.sem_init(ctypes.c_void_p(address), 1, ctypes.c_uint(value)) != 0:
                raise OSError(ctypes.get_errno(), "no semaphore")
            lock = cls._rebuild(address, kind, maxvalue, None)
            lock.memory = memory  # lives as long
            return lock

    _multiprocessing.SemLock = SemLock
    if sys.version_info >= (3, 14):
        context._default_context._default_context = context._concrete_contexts["fork"]


@harmless
def run_commands_without_a_terminal(zmqshell):
    """Let `!command` print through a pipe, where no terminal can be had."""
    try:
        for end in os.openpty():
            os.close(end)
        return
    except OSError:
        pass

    def system(command):
        with subprocess.Popen(
            command, shell=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:
            for line in process.stdout:
                sys.stdout.write(line)
                sys.stdout.flush()
        return process.returncode

    zmqshell.system = system


ACTIONS = {
    "multiprocessing.synchronize": keep_semaphores_in_memory,
    "ipykernel.zmqshell": run_commands_without_a_terminal,
}
