//! What code can take of the machine, and leave on it. Each attempt goes well in local mode, where nothing stops it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heddle::isolation::cgroup::Controller;
use heddle::isolation::level::Level;
use heddle::kernel::container::Reach;
use heddle::kernel::discovery::Installed;
use heddle::kernel::{Choice, Mount};
use heddle::protocol::KernelSpec;

use crate::everywhere;
use crate::place::{Mode, Running};
use crate::victim::Victim;

/// Ways to take 300 MiB and hold them, where 200 are allowed.
const GREED: &[(&str, &str)] = &[
    (
        "memory of children",
        "
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        x = bytearray(b'x') * (100 << 20); time.sleep(KEEP + 2); os._exit(0)
    children.append(child)
for child in children: os.waitpid(child, 0)",
    ),
    (
        "memory of a process that hides",
        "
ctypes.CDLL(None).prctl(4, 0)
x = mmap.mmap(-1, 300 << 20)
for i in range(0, len(x), 4096): x[i] = 1
time.sleep(KEEP)
x.close()
ctypes.CDLL(None).prctl(4, 1)",
    ),
    (
        "memory with a descriptor",
        "
files = [os.memfd_create(str(n)) for n in range(3)]
for file in files:
    for _ in range(100): os.write(file, bytes(1 << 20))
time.sleep(KEEP)
for file in files: os.close(file)",
    ),
    (
        "shared memory",
        "fill(tempfile.NamedTemporaryFile(dir='/dev/shm'))",
    ),
    ("temporary files", "fill(tempfile.NamedTemporaryFile())"),
    ("files without a name", "fill(tempfile.TemporaryFile())"),
    (
        "files at home",
        "fill(tempfile.NamedTemporaryFile(dir=os.path.expanduser('~')))",
    ),
];

const GREEDY: &str = "
import ctypes, mmap, os, tempfile, time
def fill(file):
    with file:
        for _ in range(300): file.write(bytes(1 << 20)); file.flush()
        time.sleep(KEEP)";

#[test]
fn memory_is_limited_wherever_it_is_taken() {
    everywhere(async |mut place| {
        place.grants.memory = 200 << 20;
        let mut kernel = place.start().await;
        // Held long enough to be seen.
        let keep = if place.mode == Mode::Local { 0 } else { 3 };
        for (name, code) in GREED {
            let code = format!("KEEP = {keep}\n{GREEDY}\n{code}");
            let outcome = kernel.run(&code).await;
            let died = outcome.died.clone();
            match (place.mode, died, outcome.raised.as_ref()) {
                (Mode::Local, None, None) => {}
                (Mode::Sandbox(_) | Mode::Container(_), Some(died), _) => {
                    assert!(died.contains("memory"), "{name}: {died}");
                }
                // A file system that is full, or a call that is refused.
                (Mode::Sandbox(_) | Mode::Container(_), None, Some(raised)) => {
                    assert!(
                        raised.evalue.contains("No space left")
                            // At the lower level the host's folder is closed.
                            || raised.ename == "PermissionError",
                        "{name}: {raised:?}"
                    );
                }
                // The limit ended the children, and they alone.
                (Mode::Sandbox(_) | Mode::Container(_), None, None)
                    if *name == "memory of children" => {}
                _ => panic!("{name}: {outcome:?}"),
            }
        }
        kernel.end().await;
    });
}

/// The same of what is no process's memory, so that it is counted apart.
const GREED_BESIDE: &[(&str, &str)] = &[
    (
        "shared memory that is let go of and kept",
        "
x = mmap.mmap(-1, 300 << 20)
for i in range(0, len(x), 4096): x[i] = 1
x.madvise(mmap.MADV_DONTNEED)
time.sleep(KEEP)
x.close()",
    ),
    (
        "socket buffers",
        "
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
pairs = []
for _ in range(1400):
    pair = socket.socketpair()
    pair[0].setblocking(False)
    try:
        while True: pair[0].send(bytes(65536))
    except BlockingIOError: pass
    pairs.append(pair)
time.sleep(KEEP)
for pair in pairs: pair[0].close(); pair[1].close()",
    ),
    (
        "pipes",
        "
children = []
for _ in range(6):
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (8000, 8000))
        ends = []
        try:
            while True:
                reading, writing = os.pipe(); os.set_blocking(writing, False)
                try:
                    while True: os.write(writing, bytes(4096))
                except BlockingIOError: pass
                os.close(writing); ends.append(reading)
        except OSError: pass
        time.sleep(KEEP); os._exit(0)
    children.append(child)
for child in children: os.waitpid(child, 0)",
    ),
    (
        "page tables",
        "
x = mmap.mmap(-1, 160 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)
for i in range(0, len(x), 2 << 20): x[i]
time.sleep(KEEP)
x.close()",
    ),
];

#[test]
fn what_the_machine_keeps_for_code_is_limited_too() {
    everywhere(async |mut place| {
        // There the engine's cgroup counts it.
        if let Mode::Container(_) = place.mode {
            return;
        }
        place.grants.memory = 200 << 20;
        let mut kernel = place.start().await;
        let keep = if place.mode == Mode::Local { 0 } else { 10 };
        for (name, code) in GREED_BESIDE {
            let code = format!("import mmap, os, resource, socket, time\nKEEP = {keep}\n{code}");
            let outcome = kernel.run(&code).await;
            match (place.mode, &outcome.died) {
                (Mode::Local, None) => assert_eq!(outcome.raised, None, "{name}"),
                (Mode::Sandbox(_), Some(died)) => {
                    assert!(died.contains("ran out of memory"), "{name}: {died}");
                }
                _ => panic!("{name}: {outcome:?}"),
            }
        }
        // Of what is only mapped nobody sees whether it is used.
        let code = format!("x = mmap.mmap(-1, 300 << 20); time.sleep({keep}); x.close()");
        let outcome = kernel.run(&format!("import mmap, time; {code}")).await;
        if place.mode != Mode::Local {
            let died = outcome.died.unwrap();
            assert!(
                died.contains("with 300 MiB of shared memory that it has mapped"),
                "{died}"
            );
            assert!(died.contains("execution_service.memory"), "{died}");
        }
        kernel.end().await;
    });
}

#[test]
fn honest_programs_stay_within_what_they_use() {
    everywhere(async |mut place| {
        place.grants.memory = 512 << 20;
        let mut kernel = place.start().await;
        let code = "
import mmap, multiprocessing, numpy, psutil, shutil, socket, subprocess, threading, time
zeros = numpy.zeros(1 << 30, numpy.uint8); zeros[::1 << 26] = 1
sparse = numpy.memmap('sparse', mode='w+', shape=1 << 30); sparse[::1 << 26] = 1
mapped = mmap.mmap(-1, 100 << 20)
def square(n): time.sleep(0.1); return n * n
with multiprocessing.Pool(3) as pool: print(pool.map(square, range(9))[-1])
for _ in range(50): subprocess.run(['true'], check=True)
open('given', 'w').close(); shutil.copy2('given', 'copied')
limits = psutil.Process().rlimit(psutil.RLIMIT_NOFILE); print(limits[0] > 0)
psutil.Process().cpu_affinity(psutil.Process().cpu_affinity())
time.sleep(1); print('done')";
        assert_eq!(kernel.printed(code).await, "64\nTrue\ndone");
        // The lower level has neither.
        if !matches!(place.mode, Mode::Sandbox(Level::Landlock(_))) {
            let code = "
from multiprocessing import shared_memory
block = shared_memory.SharedMemory(create=True, size=48 << 20); block.buf[:] = bytes(48 << 20)
other = shared_memory.SharedMemory(block.name)
listener = socket.create_server(('127.0.0.1', 0), backlog=200)
clients = [socket.create_connection(listener.getsockname()) for _ in range(200)]
served = [listener.accept()[0] for _ in clients]
for s in served: s.sendall(bytes(1000))
time.sleep(1)
print(sum(len(c.recv(1000, socket.MSG_WAITALL)) for c in clients))
other.close(); block.close(); block.unlink()";
            assert_eq!(kernel.printed(code).await, "200000");
        }
        kernel.end().await;
    });
}

#[test]
fn a_kernel_that_outlived_its_child_is_not_said_to_have_run_out_of_memory() {
    everywhere(async |mut place| {
        let available = heddle::isolation::cgroup::available();
        if !matches!(place.mode, Mode::Sandbox(_)) || !available.contains(&Controller::Memory) {
            return;
        }
        place.grants.memory = 200 << 20;
        let mut kernel = place.start().await;
        let child = "
import os, time
child = os.fork()
if child == 0: x = bytearray(b'x') * (300 << 20); os._exit(0)
print(os.waitpid(child, 0)[1]); time.sleep(2)";
        assert_eq!(kernel.printed(child).await, "9");
        let died = kernel.run("os.kill(os.getpid(), 9)").await.died.unwrap();
        assert!(died.contains("SIGKILL"), "{died}");
        let died = kernel.run("x = bytearray(b'x') * (300 << 20)").await.died;
        assert!(died.unwrap().contains("ran out of memory"));
        kernel.end().await;
    });
}

/// They are counted for the user outside as well.
#[test]
fn watches_of_files_are_left_to_the_user() {
    everywhere(async |place| {
        // Root's are not the stranger's; in local mode nothing is limited.
        let Mode::Sandbox(level) = place.mode else {
            return;
        };
        let mut kernel = place.start().await;
        let code = "
import ctypes
taken = 0
while taken < 1000 and ctypes.CDLL(None).inotify_init1(0) >= 0: taken += 1
print(taken)";
        let taken: u32 = kernel.printed(code).await.parse().unwrap();
        match level {
            Level::Namespaces => assert!((1..=1000).contains(&taken), "{taken}"),
            Level::Landlock(_) => assert_eq!(taken, 0),
        }
        // SAFETY: plain system calls on values.
        unsafe {
            let own = nix::libc::inotify_init1(0);
            assert!(own >= 0, "{}", std::io::Error::last_os_error());
            nix::libc::close(own);
        }
        kernel.end().await;
    });
}

/// Heddle holds keys.
#[test]
fn heddle_leaves_no_dump_of_its_memory_and_code_the_one_it_would_leave_anywhere() {
    use std::io::BufRead;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Stdio;
    everywhere(async |place| {
        if let Mode::Container(_) = place.mode {
            return;
        }
        let code = "
import os, resource, subprocess, time
child = subprocess.Popen(['sh', '-c', 'kill -ABRT $$'])
print(resource.getrlimit(resource.RLIMIT_CORE), os.WCOREDUMP(os.waitpid(child.pid, 0)[1]), flush=True)
time.sleep(1000)";
        let mut command = place.command(&["run", "-c", code]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        // SAFETY: system calls alone.
        unsafe {
            command.pre_exec(|| {
                use nix::sys::resource::{Resource, setrlimit};
                Ok(setrlimit(Resource::RLIMIT_CORE, 1 << 20, 1 << 20)?)
            });
        }
        let mut heddle = command.spawn().unwrap();
        let mut said = String::new();
        let mut output = std::io::BufReader::new(heddle.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        let process = nix::unistd::Pid::from_raw(heddle.id() as i32);
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGABRT).unwrap();
        let status = heddle.wait().unwrap();
        assert!(
            status.signal().is_some() && !status.core_dumped(),
            "{status}"
        );
        match place.mode {
            Mode::Local => assert_eq!(said.trim(), "(1048576, 1048576) True"),
            _ => assert_eq!(said.trim(), "(0, 0) False"),
        }
    });
}

/// As a process is started that inherits what its parent wants to know of its own children: nothing.
#[test]
fn children_are_heard_of_whatever_the_parent_hears_of_its_own() {
    use std::os::unix::process::CommandExt;
    everywhere(async |place| {
        if let Mode::Container(_) = place.mode {
            return;
        }
        let code = "import subprocess; print(subprocess.run(['sh', '-c', 'exit 7']).returncode)";
        let mut command = place.command(&["run", "-c", code]);
        // SAFETY: system calls alone.
        unsafe {
            command.pre_exec(|| {
                use nix::sys::signal::{SigHandler, Signal, signal};
                signal(Signal::SIGCHLD, SigHandler::SigIgn)?;
                Ok(())
            });
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), "7", "{output:?}");
    });
}

#[test]
fn a_sandbox_has_a_cgroup_where_one_may_be_made() {
    everywhere(async |mut place| {
        let Mode::Sandbox(_) = place.mode else { return };
        let available = heddle::isolation::cgroup::available();
        if available.is_empty() {
            eprintln!("skipped: this user may make no cgroup on this machine");
            return;
        }
        place.grants.memory = 200 << 20;
        place.grants.processes = 60;
        place.grants.cpus = 0.5;
        let mut kernel = place.start().await;
        let groups = kernel
            .printed("print(open('/proc/self/cgroup').read())")
            .await;
        let supervisor = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        assert!(!supervisor.contains("/heddle-"), "{supervisor}");
        let group = |key: &str| {
            let mut lines = groups.lines().map(|line| line.splitn(3, ':').skip(1));
            let mut found = lines.find_map(|mut fields| {
                let (of, path) = (fields.next()?, fields.next()?);
                let own = of.is_empty() || of.split(',').any(|one| one == key);
                (own && path.contains("/heddle-")).then_some((of, path))
            });
            let (of, path) = found.take().expect(&groups);
            Path::new("/sys/fs/cgroup").join(of).join(&path[1..])
        };
        let value = |key: &str, files: [&str; 2]| {
            let folder = group(key);
            let mut texts = files
                .iter()
                .filter_map(|file| std::fs::read_to_string(folder.join(file)).ok());
            (folder.clone(), texts.next().unwrap().trim().to_owned())
        };
        let mut folders = Vec::new();
        for one in available {
            let (key, files, expected): (_, _, &[&str]) = match one {
                Controller::Memory => (
                    "memory",
                    ["memory.max", "memory.limit_in_bytes"],
                    &["209715200"],
                ),
                Controller::Processes => ("pids", ["pids.max"; 2], &["60"]),
                Controller::Cpus => (
                    "cpu",
                    ["cpu.max", "cpu.cfs_quota_us"],
                    &["50000 100000", "50000"],
                ),
            };
            let (folder, value) = value(key, files);
            assert!(expected.contains(&&*value), "{key}: {value}");
            folders.push(folder);
        }
        kernel.end().await;
        assert!(folders.iter().all(|folder| !folder.exists()), "{folders:?}");
    });
}

/// A small file system in the place of a folder.
struct Small<'a>(&'a Path);

impl Small<'_> {
    fn mount(path: &Path) -> Small<'_> {
        let (kind, data) = (Some("tmpfs"), Some("size=64m,nr_inodes=4000,mode=777"));
        nix::mount::mount(kind, path, kind, nix::mount::MsFlags::empty(), data).unwrap();
        Small(path)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        nix::mount::umount2(self.0, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_disk_is_not_filled_through_the_workspace() {
    everywhere(async |mut place| {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("skipped: only root can mount a small disk");
            return;
        }
        let path = place.workspace.path().to_path_buf();
        let _small = Small::mount(&path);
        // More than there is, so that it is half of that.
        place.grants.disk_free = 1 << 30;
        let mut kernel = place.start().await;
        // All at once, faster than anybody looks.
        if let Mode::Sandbox(_) = place.mode {
            let at_once = "import os\nwith open('big', 'wb') as f: os.posix_fallocate(f.fileno(), 0, 60 << 20)";
            let outcome = kernel.run(at_once).await;
            let raised = outcome.raised.as_ref().map(|raised| &*raised.evalue);
            assert!(
                raised.is_some_and(|it| it.contains("File too large")),
                "{outcome:?}"
            );
        }
        let code = "
import time
for name in ['file', 'other']:
    with open(name, 'wb') as file:
        for _ in range(24): file.write(bytes(1 << 20)); file.flush(); time.sleep(0.05)
time.sleep(2)";
        let died = kernel.run(code).await.died;
        let written = ["file", "other"].map(|name| {
            let meta = std::fs::metadata(path.join(name));
            meta.map_or(0, |meta| meta.len() >> 20)
        });
        let written: u64 = written.iter().sum();
        match place.mode {
            Mode::Local => assert_eq!((died, written), (None, 48)),
            _ => {
                let died = died.unwrap();
                assert!(died.contains("before it filled the disk"), "{died}");
                assert!(died.contains("execution_service.disk_free"), "{died}");
                assert!((33..64).contains(&written), "{written}");
                // Half of what is left is for the next.
                assert_eq!(kernel.printed("print('anew')").await, "anew");
            }
        }
        kernel.end().await;
    });
}

#[test]
fn the_inodes_of_a_disk_are_not_used_up_through_the_workspace() {
    everywhere(async |mut place| {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("skipped: only root can mount a small disk");
            return;
        }
        let path = place.workspace.path().to_path_buf();
        let _small = Small::mount(&path);
        place.grants.disk_free = 1 << 20;
        let mut kernel = place.start().await;
        let code = "
import time
for n in range(3900): open(f'file-{n}', 'w').close()
time.sleep(5)";
        let died = kernel.run(code).await.died;
        match place.mode {
            Mode::Local => assert_eq!(died, None),
            _ => {
                let died = died.unwrap();
                assert!(
                    died.contains("before it used up the disk's inodes"),
                    "{died}"
                );
            }
        }
        kernel.end().await;
    });
}

#[test]
fn what_lies_in_a_granted_folder_is_nobodys_memory() {
    everywhere(async |mut place| {
        // Where else the kernel's own temporary files are, which are its memory.
        let mut file = tempfile::tempfile_in("/tmp").unwrap();
        for _ in 0..256 {
            file.write_all(&[1; 1 << 20]).unwrap();
        }
        place.grants.memory = 200 << 20;
        place.grants.mounts = vec![Mount {
            path: "/tmp".into(),
            writable: false,
        }];
        let mut kernel = place.start().await;
        let long = "import time; time.sleep(2); print('still there')";
        assert_eq!(kernel.printed(long).await, "still there");
        kernel.end().await;
    });
}

#[test]
fn the_folder_of_the_sockets_holds_sockets_alone_and_is_removed() {
    everywhere(async |place| {
        // Only an engine's own user has a folder there that is watched and not owned by root.
        if let Mode::Container(_) = place.mode {
            return;
        }
        let mut kernel = place.start().await;
        let folder = run_folder(&kernel);
        let find = "import json, os, socket, sys, time\nfolder = os.path.dirname(json.load(open(sys.argv[-1]))['ip'])\n";
        for act in [
            "open(folder + '/file', 'wb').write(bytes(1 << 16))",
            "os.mkdir(folder + '/folder')",
            "os.symlink('/', folder + '/link')",
        ] {
            let outcome = kernel.run(&format!("{find}{act}")).await;
            let went_well = outcome.raised.is_none();
            assert_eq!(went_well, place.mode == Mode::Local, "{act}: {outcome:?}");
        }
        // Its owner may close it, and it is removed all the same.
        kernel
            .run(&format!(
                "{find}os.chmod(folder, 0o500); os.chmod(folder, 0o700)"
            ))
            .await;
        let code = format!(
            "{find}
for i in range(2000):
    with socket.socket(socket.AF_UNIX) as s: s.bind(folder + '/' + str(i))
time.sleep({})",
            if place.mode == Mode::Local { 0 } else { 5 }
        );
        let outcome = kernel.run(&code).await;
        match place.mode {
            Mode::Local => assert_eq!(outcome.died, None),
            _ => {
                let died = outcome.died.unwrap();
                assert!(died.contains("nothing but sockets"), "{died}");
            }
        }
        let code = format!(
            "{find}
import tempfile
os.chdir(tempfile.mkdtemp())
for _ in range(200): os.mkdir('x'); open('x/file', 'w'); os.chdir('x')
os.chmod('..', 0); os.chmod('.', 0)
os.chmod(folder, 0)"
        );
        kernel.printed(&code).await;
        let folder_anew = run_folder(&kernel);
        kernel.end().await;
        assert!(!folder.exists() && !folder_anew.exists());
    });
}

#[test]
fn processes_that_multiply_stay_few_and_end_with_their_kernel() {
    everywhere(async |mut place| {
        place.grants.processes = 60;
        let mark = format!("heddle-bomb-{}", place.workspace.path().display());
        let mut kernel = place.start().await;
        let code = "
import os, time
made = 0
while made < 150:
    try: pid = os.fork()
    except OSError: break
    if pid == 0: time.sleep(1000); os._exit(0)
    made += 1
print(made)";
        let made: u64 = kernel.printed(code).await.parse().unwrap();
        match place.mode {
            Mode::Local => assert_eq!(made, 150),
            // There the limit counts all of the user's, of which some end meanwhile.
            Mode::Sandbox(Level::Landlock(_)) => assert!((10..150).contains(&made), "{made}"),
            _ => assert!((10..60).contains(&made), "{made}"),
        }
        kernel.end().await;

        // Each goes on to multiply, in a session of its own, and closes itself to what asks it to end.
        let mut kernel = place.start().await;
        let bomb = format!(
            "
import os, signal, sys, time
mark = {mark:?}
for name in ['SIGTERM', 'SIGHUP', 'SIGINT']: signal.signal(getattr(signal, name), signal.SIG_IGN)
end = time.monotonic() + 30
made = 0
while time.monotonic() < end and made < 500:
    try:
        if os.fork() == 0: os.setsid()
        else: made += 1
    except OSError: pass
    time.sleep(0.02)"
        );
        let code = format!(
            "
import subprocess, sys, time
subprocess.Popen([sys.executable, '-c', {bomb:?}])
time.sleep(1)"
        );
        // In local mode nothing bounds it.
        if place.mode != Mode::Local {
            kernel.printed(&code).await;
            assert!(processes_of(&mark) > 5);
        }
        kernel.end().await;
        gone(&mark, Duration::from_secs(3)).await;
    });
}

#[test]
fn no_process_is_left_behind() {
    everywhere(async |place| {
        let mut kernel = place.start().await;
        let mark = format!("heddle-left-{}", place.workspace.path().display());
        let code = format!(
            "
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir('/')
            os.execlp('sh', {mark:?}, '-c', 'sleep 1000; :')
        os._exit(0)
time.sleep(0.5)"
        );
        kernel.printed(&code).await;
        assert!(processes_of(&mark) >= 3);
        kernel.executor.kernel().kill();
        kernel.end().await;
        gone(&mark, Duration::from_secs(3)).await;
    });
}

#[test]
fn two_kernels_have_a_limit_each() {
    everywhere(async |mut place| {
        // Outside of namespaces the limit is a sum, for all processes of the user.
        if let Mode::Sandbox(Level::Landlock(_)) = place.mode {
            return;
        }
        place.grants.processes = 64;
        let (mut one, mut other) = (place.start().await, place.start().await);
        let code = "
import os, time
for _ in range(30):
    if os.fork() == 0: time.sleep(1000); os._exit(0)";
        one.printed(code).await;
        other.printed(code).await;
        one.end().await;
        other.end().await;
    });
}

#[test]
fn no_file_lends_its_owners_rights() {
    everywhere(async |place| {
        let mut kernel = place.start().await;
        let code = "
import os, stat
def attempt(how):
    try: how()
    except OSError: pass
open('chmod', 'w'); attempt(lambda: os.chmod('chmod', 0o4755))
open('setgid', 'w'); attempt(lambda: os.chmod('setgid', 0o2755))
file = open('fchmod', 'w'); attempt(lambda: os.fchmod(file.fileno(), 0o4755))
attempt(lambda: os.open('open', os.O_CREAT | os.O_WRONLY, 0o4755))
attempt(lambda: os.mknod('mknod', stat.S_IFREG | 0o4755))
os.chmod('chmod', 0o755)
attempt(lambda: os.chmod('chmod', 0o4755))";
        kernel.printed(code).await;
        kernel.end().await;
        let lending = std::fs::read_dir(place.workspace.path()).unwrap().flatten();
        let lending: Vec<_> = lending
            .filter(|entry| entry.metadata().unwrap().permissions().mode() & 0o6000 != 0)
            .map(|entry| entry.file_name())
            .collect();
        match place.mode {
            Mode::Local => assert_eq!(lending.len(), 5, "{lending:?}"),
            Mode::Sandbox(_) | Mode::Container(_) => assert!(lending.is_empty(), "{lending:?}"),
        }
    });
}

#[test]
fn settings_that_are_there_are_not_for_code_to_change() {
    everywhere(async |place| {
        let path = |name: &str| place.workspace.path().join(name);
        std::fs::write(path("heddle.toml"), "# mine").unwrap();
        let mut kernel = place.start().await;
        let code = "
import os
def attempt(how):
    try: how(); print('done', end=' ')
    except OSError as error: print('refused', end=' ')
print(open('heddle.toml').read(), end=' ')
attempt(lambda: open('heddle.toml', 'a').write('+'))
attempt(lambda: os.unlink('heddle.toml'))";
        let printed = kernel.printed(code).await;
        kernel.end().await;
        match place.mode {
            // Landlock has no rules for what is within a folder, and says so.
            Mode::Local | Mode::Sandbox(Level::Landlock(_)) => {
                assert_eq!(printed, "# mine done done");
            }
            _ => {
                // Nor is it for code to read, since there may be a key in it.
                let refused = match place.mode {
                    // What stands in its place takes what is written, and keeps none of it.
                    Mode::Container(Reach::Streams) => "done refused",
                    _ => "refused refused",
                };
                assert_eq!(printed.trim(), refused);
                let text = std::fs::read_to_string(path("heddle.toml")).unwrap();
                assert_eq!(text, "# mine");
            }
        }
    });
}

/// A kernel of this Python that is nothing but this code.
fn running(choice: &Choice, code: &str) -> Choice {
    let (program, prefix) = match choice {
        Choice::Python(python) => (
            python.executable.display().to_string(),
            Some(&python.prefix),
        ),
        _ => ("python3".to_owned(), None),
    };
    let argv = [&program, "-c", code, "{connection_file}"];
    Choice::Installed(Box::new(Installed {
        name: "code".into(),
        folder: "/usr/share".into(),
        prefix: prefix.cloned(),
        spec: Ok(KernelSpec {
            argv: argv.map(str::to_owned).into(),
            ..KernelSpec::default()
        }),
        precautions: Default::default(),
    }))
}

/// A socket that is swapped for a link would lead Heddle, which is outside, to any socket of the user's.
#[test]
fn a_socket_that_is_a_link_is_not_followed() {
    everywhere(async |mut place| {
        let host = Victim::new();
        let target = host.path("docker.sock");
        let code = format!(
            "
import json, os, sys, time
info = json.load(open(sys.argv[-1]))
open('started', 'w').close()
for channel in ['shell', 'iopub', 'stdin', 'control', 'hb']:
    os.symlink({target:?}, info['ip'] + '-' + str(info[channel + '_port']))
open('linked', 'w').close()
time.sleep(100)"
        );
        place.choice = running(&place.choice, &code);
        place.start_timeout = Duration::from_secs(4);
        assert!(place.try_start().await.is_err());
        let made = |name: &str| place.workspace.path().join(name).exists();
        assert!(made("started"));
        // Landlock lets no link be made there.
        let may_link = !matches!(place.mode, Mode::Sandbox(_));
        assert_eq!(made("linked"), may_link);
        assert!(!host.was_reached("unix socket"));
        std::os::unix::net::UnixStream::connect(&target).unwrap();
        assert!(host.was_reached("unix socket"));
    });
}

#[test]
fn sockets_that_are_swapped_mean_nothing_after_a_restart() {
    everywhere(async |place| {
        let host = Victim::new();
        let mut kernel = place.start().await;
        let code = format!(
            "
import json, os, sys
folder = os.path.dirname(json.load(open(sys.argv[-1]))['ip'])
try: names = os.listdir(folder)
except OSError: names = []
for name in names:
    path = os.path.join(folder, name)
    try: os.rename(path, path + 'x'); os.symlink({target:?}, path)
    except OSError: pass",
            target = host.path("docker.sock")
        );
        kernel.printed(&code).await;
        kernel.executor.restart().await.unwrap();
        assert_eq!(kernel.printed("print('on')").await, "on");
        kernel.end().await;
        assert!(!host.was_reached("unix socket"));
    });
}

fn run_folder(kernel: &Running) -> PathBuf {
    let file = kernel.executor.kernel().connection_file();
    file.parent().unwrap_or(Path::new("/")).to_path_buf()
}

/// Processes whose command line has this in it.
fn processes_of(mark: &str) -> usize {
    let commands = std::fs::read_dir("/proc").unwrap().flatten();
    commands
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|command| {
            let mut parts = command.windows(mark.len());
            parts.any(|part| part == mark.as_bytes())
        })
        .count()
}

async fn gone(mark: &str, limit: Duration) {
    let started = std::time::Instant::now();
    while processes_of(mark) > 0 {
        let left = processes_of(mark);
        assert!(started.elapsed() < limit, "{left} processes are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
