# Closes for the kernel, and all that it starts, what the engine's own filter of system calls leaves open, and becomes it.
# Before that it compares what is mounted with what was opened for it outside.
import sys

# Code that ran before may have left modules in the working directory.
sys.path[:] = [path for path in sys.path if path]
import ctypes, json, os

shown = json.loads(sys.argv.pop(2))


def differs(mount):
    try:
        found = os.stat(mount["path"])
        if boot == shown["boot"] and not mount["mark"]:
            return (found.st_dev, found.st_ino) != (mount["device"], mount["inode"])
        return bool(mount["mark"]) and not os.path.lexists(os.path.join(mount["path"], mount["mark"]))
    except PermissionError:
        return is_ours(os.path.dirname(mount["path"]))
    except OSError:
        return True


# Whether code could open the folder that is closed here. One of the image's own stays closed, and what is in it unseen.
def is_ours(folder):
    try:
        return os.stat(folder).st_uid == os.getuid()
    except PermissionError:
        return is_ours(os.path.dirname(folder))


try:
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
except OSError:
    boot = None
for mount in filter(differs, shown["mounts"]):
    sys.exit(
        "the container shows something else at " + ascii(mount["path"])[1:-1] + " than what was opened for it: "
        "something was put in its place meanwhile. Look what is there, then start again"
    )
del shown, boot, differs, is_ours

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
if sys.argv[2] != "-c":
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
# Without the time that another Python takes to start.
code = sys.argv[3]
sys.argv[:4] = ["-c"]
exec(compile(code, "<string>", "exec"))
