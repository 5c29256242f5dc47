# The attack list. Each probe returns what shows that it got through, or raises, or returns nothing.
import array, ctypes, errno, fcntl, glob, json, mmap, os, platform, resource, signal, socket, stat, struct, subprocess, sys, time

HOST = json.loads(__HOST__)
CANARY, HOME = HOST["canary"], HOST["home"]
KEY, DOCUMENT = HOME + "/.ssh/id_ed25519", HOME + "/document.txt"
LIBC = ctypes.CDLL(None, use_errno=True)
# Keeps the interpreter's lock while it calls: a child that comes of the call has no thread that could give it back.
LOCKED = ctypes.PyDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
PROBES = {}


def probe(name):
    return lambda function: PROBES.__setitem__(name, function)


def attack(name):
    "What got through, as text; else why not, behind a minus sign."
    try:
        got = PROBES[name]()
    except BaseException as error:
        return "-" + repr(error)
    return "+" + repr(got)[:200] if got else "-nothing"


def read(path, size=65536):
    with open(path, "rb") as file:
        return file.read(size)


def holds(path):
    return CANARY.encode() in read(path)


def syscall(number, *arguments):
    LIBC.syscall.restype = ctypes.c_long
    result = LIBC.syscall(ctypes.c_long(number), *[a if isinstance(a, (bytes, ctypes.Array)) else ctypes.c_long(a) for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return f"{number} gave {result}"


def in_child(function):
    "What the function says in a process of its own, which its consequences stay in."
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(function() or "").encode())
        except BaseException as error:
            os.write(writing, b"-" + repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    said = os.read(reading, 999).decode()
    os.close(reading)
    if said.startswith("-"):
        raise RuntimeError(said)
    return said


def call(name, number, *arguments, child=False):
    PROBES[name] = lambda: in_child(lambda: syscall(number, *arguments)) if child else syscall(number, *arguments)


def watch(path):
    reading = LIBC.inotify_init1(0)
    try:
        return LIBC.inotify_add_watch(reading, path.encode(), 0x100) >= 0 and "watching"
    finally:
        if reading >= 0:
            os.close(reading)


# Files.
probe("read a key")(lambda: holds(KEY))
probe("read a key through a link")(lambda: (os.path.lexists("link") or os.symlink(KEY, "link"), holds("link"))[1])
probe("read heddle's settings")(lambda: holds(HOME + "/.config/heddle/heddle.toml"))
probe("list the home")(lambda: os.listdir(HOME))
probe("stat a key")(lambda: os.stat(KEY).st_size)
probe("chmod a key")(lambda: os.chmod(KEY, 0o600) or "chmod")
probe("touch a key")(lambda: os.utime(KEY) or "utime")
probe("set an attribute of a document")(lambda: os.setxattr(DOCUMENT, "user.heddle", b"x") or "set")
probe("list the attributes of a document")(lambda: ("listed", os.listxattr(DOCUMENT)))
probe("watch the home")(lambda: watch(HOME))
probe("read /etc/shadow")(lambda: read("/etc/shadow"))
probe("stat /etc/shadow")(lambda: os.stat("/etc/shadow").st_size)
probe("chmod /etc/shadow")(lambda: os.chmod("/etc/shadow", stat.S_IMODE(os.stat("/etc/shadow").st_mode)) or "chmod")
probe("write a document")(lambda: open(DOCUMENT, "a").write(" "))
probe("write through a link")(lambda: (os.path.lexists("link-2") or os.symlink(DOCUMENT, "link-2"), open("link-2", "a").write(" "))[1])
probe("truncate a document")(lambda: os.truncate(DOCUMENT, os.stat(DOCUMENT).st_size) or "truncated")
probe("make a file in the home")(lambda: open(HOME + "/new.txt", "w").write("new"))
probe("make a folder in the home")(lambda: os.mkdir(HOME + "/new") or "made")
probe("rename a document")(lambda: (os.rename(DOCUMENT, DOCUMENT + "2"), os.rename(DOCUMENT + "2", DOCUMENT), "renamed")[2])
probe("link a document into the workspace")(lambda: (os.link(DOCUMENT, "hard"), os.unlink("hard"), "linked")[2])
probe("write beside the workspace")(lambda: (open("../" + CANARY, "w").write("x"), os.unlink("../" + CANARY), "written")[2])
probe("write into the program")(lambda: (open(sys.prefix + "/" + CANARY, "w").write("x"), os.unlink(sys.prefix + "/" + CANARY), "written")[2])
probe("write a system file")(lambda: os.close(os.open("/usr/bin/env", os.O_WRONLY | os.O_APPEND)) or "open")
probe("make a device")(lambda: (os.mknod("device", stat.S_IFBLK | 0o600, os.makedev(254, 0)), os.unlink("device"), "made")[2])
probe("open a disk or the kernel's log")(lambda: [os.close(os.open(path, os.O_RDONLY)) or path for path in ["/dev/kmsg"]])
probe("write a setting of the machine")(lambda: os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)) or "open")
probe("sysrq")(lambda: os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY)) or "open")
probe("read another session's key")(lambda: b"hmac-sha256" in read(HOST["other"]))


# Processes.
def process(pid, name):
    return f"/proc/{pid}/{name}"


def memory(pid):
    with open(process(pid, "mem"), "rb", 0) as file:
        file.seek(HOST["address"])
        return CANARY.encode() in file.read(32)


def read_memory():
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

    buffer = ctypes.create_string_buffer(32)
    local, remote = Vector(ctypes.addressof(buffer), 32), Vector(HOST["address"], 32)
    LIBC.process_vm_readv.argtypes = [ctypes.c_long, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    LIBC.process_vm_readv(HOST["heddle"], ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0)
    return CANARY.encode() in buffer.raw


def commands():
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if b"0.000061" in read(path):
                found.append(path)
        except OSError:
            pass
    return found


probe("see command lines")(commands)
probe("see a process")(lambda: os.stat(process(HOST["victim"], "")) and b"sleep" in read(process(HOST["victim"], "stat")))
probe("read a program's environment")(lambda: holds(process(HOST["victim"], "environ")))
probe("signal a program")(lambda: os.kill(HOST["victim"], signal.SIGCONT) or "signalled")
probe("read heddle's memory by file")(lambda: memory(HOST["heddle"]))
probe("read heddle's memory by call")(read_memory)
probe("list heddle's files")(lambda: os.listdir(process(HOST["heddle"], "fd")))
probe("walk through heddle's root")(lambda: holds(process(HOST["heddle"], "root") + KEY))
probe("signal heddle")(lambda: os.kill(HOST["heddle"], signal.SIGCONT) or "signalled")
probe("read the supervisor's environment")(lambda: read(process(os.getppid(), "environ")))
probe("list the supervisor's files")(lambda: os.listdir(process(os.getppid(), "fd")))
probe("open the supervisor's memory")(lambda: os.close(os.open(process(os.getppid(), "mem"), os.O_RDWR)) or "open")
probe("open the supervisor's program")(lambda: read(process(os.getppid(), "exe"), 4))
probe("see the supervisor's root")(lambda: os.listdir(process(os.getppid(), "root")))
probe("read the first process's environment")(lambda: read("/proc/1/environ"))
probe("see the first process's root")(lambda: os.listdir("/proc/1/root"))
probe("stop the supervisor")(lambda: frozen())
probe("limit the supervisor")(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)) and "set")
probe("slow the supervisor")(lambda: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(os.getppid())) or "set")
probe("steal the supervisor's descriptor")(lambda: syscall(438, os.pidfd_open(os.getppid()), 0, 0))


def frozen():
    "Whether a stop would stop the supervisor: process 1 of a namespace ignores it."
    try:
        os.kill(os.getppid(), signal.SIGSTOP)
    except OSError:
        return False
    state = lambda: open(process(os.getppid(), "stat")).read().rsplit(")", 1)[1].split()[0]
    for _ in range(50):
        if stopped := state() == "T":
            break
        time.sleep(0.02)
    os.kill(os.getppid(), signal.SIGCONT)
    return stopped


def setuid_helper():
    said = subprocess.run([sys.prefix + "/bin/setuid-id"], capture_output=True, text=True).stdout
    return said if "uid=0(" in said else None


probe("become root by a setuid program")(setuid_helper)


# Network and sockets. Whoever was reached tells.
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as client:
        client.settimeout(5)
        client.connect(address)
        return "connected"


def send(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.sendto(b"!", address)


def fast_open():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        return client.sendto(b"!", socket.MSG_FASTOPEN, ("127.0.0.1", HOST["tcp"]))


probe("the internet")(lambda: connect(socket.AF_INET, ("192.0.2.1", 53), socket.SOCK_DGRAM))
probe("loopback tcp")(lambda: connect(socket.AF_INET, ("127.0.0.1", HOST["tcp"])))
probe("loopback tcp by fast open")(fast_open)
probe("loopback udp")(lambda: send(socket.AF_INET, ("127.0.0.1", HOST["udp"])))
probe("unix socket")(lambda: connect(socket.AF_UNIX, HOME + "/docker.sock"))
probe("unix datagram")(lambda: send(socket.AF_UNIX, HOME + "/log.sock"))
probe("abstract socket")(lambda: connect(socket.AF_UNIX, "\0" + HOST["abstract"]))
probe("raw packets")(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).fileno())

# System calls. Those that a machine may refuse by itself are marked in the test.
if X86:
    call("namespaces by unshare", 272, 0x10000000, child=True)
    call("a mount namespace by unshare", 272, 0x00020000, child=True)
    call("chroot", 161, b"/", child=True)
    call("io_uring", 425, 1, ctypes.create_string_buffer(120))
    call("bpf", 321, 0, ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1), 128), 128)
    call("userfaultfd", 323, 1)
    call("perf events", 298, ctypes.create_string_buffer(struct.pack("IIQQQQQ", 1, 112, 9, 0, 0, 0, 0x63), 112), 0, -1, -1, 0)
    call("keyrings", 248, b"user", b"heddle-probe", b"x", 1, -2)
    call("memory by memfd", 319, b"x", 0)
    call("secret memory", 447, 0)
    call("ptrace", 101, 0, 0, 0, 0, child=True)
    call("file handles", 303, -100, b".", ctypes.create_string_buffer(struct.pack("I", 128), 256), ctypes.create_string_buffer(8), 0)
    call("compare processes", 312, os.getpid(), os.getpid(), 0, 0, 0)
    call("x32", 0x40000000 + 39)

    def mount():
        os.makedirs("mounted", exist_ok=True)
        said = syscall(165, b"none", b"mounted", b"tmpfs", 0, 0)
        syscall(166, b"mounted", 0)
        return said

    def make_and_remove(make, remove, *arguments):
        number = int(syscall(make, 0, *arguments).split()[-1])
        return syscall(remove, number, 0)

    probe("mount")(mount)
    probe("shared memory of system v")(lambda: make_and_remove(29, 31, 1 << 20, 0o1600))
    probe("messages of system v")(lambda: make_and_remove(68, 71, 0o1600))

    def clone():
        pid = LOCKED.syscall(ctypes.c_long(56), ctypes.c_long(0x10000000 | signal.SIGCHLD), 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        if pid < 0:
            raise OSError(ctypes.get_errno(), "clone")
        os.waitpid(pid, 0)
        return "cloned"

    def clone3():
        arguments = ctypes.create_string_buffer(struct.pack("8Q", 0x10000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0))
        pid = LOCKED.syscall(ctypes.c_long(435), arguments, ctypes.c_long(64))
        if pid == 0:
            os._exit(0)
        if pid < 0:
            raise OSError(ctypes.get_errno(), "clone3")
        os.waitpid(pid, 0)
        return "cloned"

    def by_32_bits():
        "getpid by int 0x80, which a filter of 64-bit numbers would take for something else."
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        return ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid() and "called"

    probe("namespaces by clone")(clone)
    probe("namespaces by clone3")(clone3)
    probe("calls of 32 bits")(lambda: in_child(by_32_bits))


def type_into_terminal(request=0x5412):
    leader, follower = os.openpty()
    os.setsid()
    fcntl.ioctl(follower, 0x540E, 0)
    return LIBC.ioctl(follower, ctypes.c_ulong(request), b"x") == 0 and "typed"


probe("type into a terminal")(lambda: in_child(type_into_terminal))
probe("type into a terminal with a wide number")(lambda: in_child(lambda: type_into_terminal(0x1_0000_5412)))
probe("message queues")(lambda: LIBC.mq_open(b"/heddle-probe", os.O_CREAT | os.O_RDWR, 0o600, None) >= 0 and (LIBC.mq_unlink(b"/heddle-probe"), "opened")[1])
