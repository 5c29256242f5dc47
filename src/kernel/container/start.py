# Closes for the kernel, and all that it starts, what the engine's own filter of system calls leaves open, and becomes it.
import ctypes, os, runpy, sys

# The container's first process ends standard input once code cannot hinder it.
os.read(0, 1)
program = bytes.fromhex(sys.argv[1])


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


if program:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
    SET_SECCOMP, FILTER = 22, 2
    pointed = Program(len(program) // 8, program)
    if prctl(SET_SECCOMP, FILTER, ctypes.byref(pointed)) != 0:
        sys.exit("the filter of system calls is refused in the container: " + os.strerror(ctypes.get_errno()))
    del prctl, pointed
if sys.argv[2] != "-m":
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
# Without the time that another Python takes to start.
module = sys.argv[3]
sys.argv[:4] = [module]
runpy.run_module(module, run_name="__main__", alter_sys=True)
