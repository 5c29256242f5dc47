//! Real kernels under the real supervisor: how they start, and every way in which they end.
#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use heddle::isolation::{Command, Exit, Signal, Supervised};
use heddle::kernel::{Client, Kernel, KernelError, Launch, Launcher, Local, Process};
use heddle::protocol::{Channel, Transport};
use support::kernels::{cell, collect, command, folder, options, printed, python, run, start};
use support::process::{Ended, again, alone, alone_with_folder, gone, running, runs, within};

const SECOND: Duration = Duration::from_secs(1);
/// Far above what anything here takes, on a busy machine too, and below every limit that would hide a fault.
const PROMPT: Duration = Duration::from_secs(4);

async fn pid(client: &Client) -> i32 {
    let ran = run(client, "import os; os.getpid()").await;
    ran.value.unwrap().parse().unwrap()
}

/// The parent of a process: of a kernel, its supervisor.
fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(')').unwrap().1;
    rest.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// A cell that leaves a daemon: its own session, its parent gone, its name not UTF-8. Prints its pid.
const DAEMON: &str = r"
import os, ctypes, time
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(15, b'\xff\xfe) R 1', 0, 0, 0)
        os.write(write, str(os.getpid()).encode())
        for fd in range(3): os.close(fd)
        time.sleep(1000)
    os._exit(0)
os.wait()
print('daemon', int(os.read(read, 20)), flush=True)
";

async fn daemon(client: &Client) -> i32 {
    let ran = run(client, DAEMON).await;
    let pid = ran.stdout.split_whitespace().nth(1).unwrap();
    pid.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_starts_over_unix_sockets_and_over_tcp_and_leaves_nothing() {
    for transport in [Transport::Ipc, Transport::Tcp] {
        let kernel = start(transport).await;
        let (folder, pid) = (folder(&kernel), pid(kernel.client()).await);
        let mode = std::fs::metadata(&folder).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o700
        );
        let supervisor = parent(pid);
        let asked = Instant::now();
        kernel.shutdown().await;
        assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
        assert!(!folder.exists() && !runs(pid) && !runs(supervisor));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_kernel_leaves_nothing() {
    let kernel = start(Transport::Ipc).await;
    let (folder, pid) = (folder(&kernel), pid(kernel.client()).await);
    let supervisor = parent(pid);
    drop(kernel);
    gone(PROMPT, &folder, &[pid, supervisor]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_not_there_is_named() {
    let error = Kernel::start(command(&["/no/such/kernel"]))
        .await
        .err()
        .unwrap();
    let message = error.to_string();
    assert!(
        message.starts_with("the kernel cannot be started: /no/such/kernel: No such file"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_is_named() {
    let mut options = options(Transport::Ipc);
    options.cwd = "/no/such/folder".into();
    let message = Kernel::start(options).await.err().unwrap().to_string();
    assert!(message.contains("/no/such/folder"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_exits_at_start_says_how_and_what_it_printed() {
    let python = python().executable.to_string_lossy();
    let code = "import os, sys
os.write(2, b'no licence\\n' + b'for this\\n'); sys.exit(3)";
    let begun = Instant::now();
    let error = Kernel::start(command(&[&python, "-c", code]))
        .await
        .err()
        .unwrap();
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    assert!(
        matches!(error, KernelError::DiedAtStart { .. }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "the kernel exited with code 3 before it was ready. It printed:\n    no licence\n    for this"
    );
}

/// Its sockets are there and then it dies: the end of a connection must not hide the end of the process.
#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_dies_while_we_connect_says_how() {
    let python = python().executable.to_string_lossy();
    let code = "import json, os, socket, sys, time
info = json.load(open(sys.argv[1]))
sockets = [socket.socket(socket.AF_UNIX) for _ in range(4)]
for s, name in zip(sockets, ('shell', 'control', 'iopub', 'stdin')):
    s.bind('%s-%d' % (info['ip'], info[name + '_port'])); s.listen()
sockets[3].accept()
for s in sockets: s.close()
time.sleep(0.1)
os.kill(os.getpid(), 11)";
    let argv = [&python, "-c", code, "{connection_file}"];
    let error = Kernel::start(command(&argv)).await.err().unwrap();
    let message = error.to_string();
    assert!(
        message.starts_with("the kernel was killed by signal 11 (SIGSEGV) before it was ready"),
        "{message}"
    );
}

/// Starts kernels that take their time to end, and notes when they have.
struct Slow(Local, Arc<AtomicBool>);
struct SlowProcess(Box<dyn Process>, Arc<AtomicBool>);

impl Launcher for Slow {
    fn mode(&self) -> &'static str {
        "slow"
    }
    fn launch(&self, launch: Launch) -> BoxFuture<'_, Result<Box<dyn Process>, KernelError>> {
        Box::pin(async {
            let process = self.0.launch(launch).await?;
            Ok(Box::new(SlowProcess(process, self.1.clone())) as Box<dyn Process>)
        })
    }
}

impl Process for SlowProcess {
    fn signal(&self, signal: Signal) {
        self.0.signal(signal);
    }
    fn exit(&self) -> BoxFuture<'_, Exit> {
        self.0.exit()
    }
    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.0.ended().await;
            tokio::time::sleep(SECOND / 5).await;
            self.1.store(true, Ordering::Relaxed);
        })
    }
    fn tail(&self) -> String {
        self.0.tail()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_never_gets_ready_is_ended_before_the_error_is_told() {
    let mark = "time.sleep(98731)";
    let python = python().executable.to_string_lossy();
    let code = format!("import time; {mark}");
    let mut options = command(&[&python, "-c", &code, "{connection_file}"]);
    let supervisor = env!("CARGO_BIN_EXE_heddle").into();
    let ended = Arc::new(AtomicBool::new(false));
    options.launcher = Arc::new(Slow(Local { supervisor }, ended.clone()));
    options.start_timeout = SECOND / 2;
    let asked = Instant::now();
    let error = Kernel::start(options).await.err().unwrap();
    assert!(matches!(error, KernelError::NotReady { .. }), "{error}");
    assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
    assert!(ended.load(Ordering::Relaxed));
    assert_eq!(running(mark), [0; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heddle_that_is_killed_with_the_kernel_it_runs_in_leaves_no_folder() {
    let kernel = start(Transport::Ipc).await;
    let code = format!(
        "
import subprocess
code = 'import sys, time; print(sys.argv[-1], flush=True); time.sleep(100)'
inner = subprocess.Popen([{:?}, 'run', '--mode', 'local', '-c', code], stdout=subprocess.PIPE, text=True)
print(inner.stdout.readline())",
        env!("CARGO_BIN_EXE_heddle")
    );
    let ran = run(kernel.client(), &code).await;
    let file = PathBuf::from(ran.stdout.trim());
    assert!(file.is_file(), "{ran:?}");
    // Not asked to end, it lets nobody else end in good order.
    kernel.kill();
    kernel.shutdown().await;
    assert!(!file.parent().unwrap().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_in_mid_cell_is_told_at_once_and_a_restart_works_on_the_same_file() {
    let mut kernel = start(Transport::Ipc).await;
    let connection_file = kernel.connection_file();
    let before = std::fs::read_to_string(&connection_file).unwrap();
    let pid = pid(kernel.client()).await;
    let client = kernel.client().clone();
    let mut exchange = client.request(
        Channel::Shell,
        cell("print('begun', flush=True)\nimport time; time.sleep(100)"),
    );
    printed(&mut exchange, "begun").await;
    let killed = Instant::now();
    kill(pid, nix::sys::signal::SIGKILL);
    let ran = collect(&mut exchange).await;
    assert!(killed.elapsed() < PROMPT, "{:?}", killed.elapsed());
    assert_eq!(ran.died.unwrap(), "was killed by signal 9 (SIGKILL)");
    assert_eq!(kernel.died().unwrap(), "was killed by signal 9 (SIGKILL)");
    // Who asks a dead kernel is told as well.
    let late = run(&client, "1 + 1").await;
    assert_eq!(late.died.unwrap(), "was killed by signal 9 (SIGKILL)");

    kernel.restart().await.unwrap();
    assert_eq!(kernel.died(), None);
    assert_eq!(std::fs::read_to_string(&connection_file).unwrap(), before);
    assert_eq!(run(kernel.client(), "1 + 1").await.value.unwrap(), "2");
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_a_living_kernel_forgets_its_variables() {
    for transport in [Transport::Ipc, Transport::Tcp] {
        let mut kernel = start(transport).await;
        run(kernel.client(), "x = 1").await;
        kernel.restart().await.unwrap();
        let (name, _) = run(kernel.client(), "x").await.error.unwrap();
        assert_eq!(name, "NameError");
        kernel.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_a_cell_left_is_gone_after_shutdown() {
    let kernel = start(Transport::Ipc).await;
    let daemon = daemon(kernel.client()).await;
    assert!(runs(daemon));
    let asked = Instant::now();
    kernel.shutdown().await;
    assert!(!runs(daemon));
    assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_reaches_a_cell_and_its_child_processes() {
    let kernel = start(Transport::Ipc).await;
    for code in [
        "print('begun', flush=True)\nimport time; time.sleep(100)",
        "print('begun', flush=True)\nimport subprocess; subprocess.Popen(['sleep', '98732']).wait()",
        "print('begun', flush=True)\nwhile True: pass",
    ] {
        let mut exchange = kernel.client().request(Channel::Shell, cell(code));
        printed(&mut exchange, "begun").await;
        if code.contains("98732") {
            within(PROMPT, "sleep runs", || !running("98732").is_empty()).await;
        }
        let asked = Instant::now();
        kernel.interrupt();
        let ran = collect(&mut exchange).await;
        assert_eq!(ran.error.unwrap().0, "KeyboardInterrupt", "{code}");
        assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
        within(PROMPT, "sleep ends", || running("98732").is_empty()).await;
    }
    assert_eq!(run(kernel.client(), "1 + 1").await.value.unwrap(), "2");
    kernel.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_ignores_request_and_sigterm_is_killed() {
    let kernel = start(Transport::Ipc).await;
    let deaf = "
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
async def ignore(*_): pass
get_ipython().kernel.control_handlers['shutdown_request'] = ignore";
    assert!(run(kernel.client(), deaf).await.error.is_none());
    let pid = pid(kernel.client()).await;
    let folder = folder(&kernel);
    let asked = Instant::now();
    kernel.shutdown().await;
    assert!(!runs(pid) && !folder.exists());
    let took = asked.elapsed();
    assert!(3 * SECOND < took && took < 7 * SECOND, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_takes_its_kernel_along_and_the_death_is_told() {
    let kernel = start(Transport::Ipc).await;
    let (folder, pid) = (folder(&kernel), pid(kernel.client()).await);
    let mut exchange = kernel
        .client()
        .request(Channel::Shell, cell("import time; time.sleep(100)"));
    let killed = Instant::now();
    kill(parent(pid), nix::sys::signal::SIGKILL);
    let ran = collect(&mut exchange).await;
    assert!(killed.elapsed() < PROMPT, "{:?}", killed.elapsed());
    let reason = ran.died.unwrap();
    assert!(reason.contains("supervisor"), "{reason}");
    drop((exchange, kernel));
    gone(PROMPT, &folder, &[pid]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_the_parent_reaches_the_kernel() {
    let name = "no_secret_of_the_parent_reaches_the_kernel";
    let secrets = [
        ("LLM_API_KEY", "sk-1"),
        ("HTTPS_PROXY", "http://me:pw@proxy:1"),
    ];
    if !alone(name, &secrets) {
        return;
    }
    let mut options = options(Transport::Ipc);
    options.env = vec![("GIVEN".into(), "by name".into())];
    let kernel = Kernel::start(options).await.unwrap();
    let ran = run(
        kernel.client(),
        "import os; sorted(n for n in os.environ if n in ('LLM_API_KEY', 'HTTPS_PROXY', 'GIVEN', 'PATH'))",
    )
    .await;
    assert_eq!(ran.value.unwrap(), "['GIVEN', 'PATH']");
    // Nor can it be read from the supervisor, which belongs to the same user.
    let ran = run(
        kernel.client(),
        "b'sk-1' in open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    )
    .await;
    assert_eq!(ran.value.unwrap(), "False");
    kernel.shutdown().await;
}

/// Not a test of its own: the owner that the next one kills.
#[tokio::test(flavor = "multi_thread")]
async fn owner_that_is_killed() {
    if std::env::var_os("HEDDLE_TEST_OWNER").is_none() {
        return;
    }
    let kernel = start(Transport::Ipc).await;
    let pid = pid(kernel.client()).await;
    let daemon = daemon(kernel.client()).await;
    let mut exchange = kernel.client().request(
        Channel::Shell,
        // Holds the GIL for longer than anybody waits.
        cell(
            "import re, time\nprint('holding', flush=True); time.sleep(0.3)\nre.match('(a|aa)+$', 'a' * 99 + 'b')",
        ),
    );
    printed(&mut exchange, "holding").await;
    let folder = folder(&kernel);
    println!("owner {pid} {} {daemon} {}", parent(pid), folder.display());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_owner_leaves_no_process_and_no_folder() {
    python();
    let owner = again("owner_that_is_killed", &[("HEDDLE_TEST_OWNER", "1")])
        .stdout(Stdio::piped())
        .spawn();
    let mut owner = Ended(owner.unwrap());
    let line = BufReader::new(owner.0.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("owner ")?.1.to_owned()));
    let line = line.expect("the owner's line");
    let words: Vec<&str> = line.split(' ').collect();
    let pids: Vec<i32> = words[..3].iter().map(|pid| pid.parse().unwrap()).collect();
    let folder = PathBuf::from(words[3]);
    assert!(folder.exists() && pids.iter().all(|pid| runs(*pid)));
    drop(owner);
    gone(PROMPT, &folder, &pids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kernels_started_and_dropped_at_once_leave_nothing() {
    let name = "twenty_kernels_started_and_dropped_at_once_leave_nothing";
    python();
    let Some(root) = alone_with_folder(name) else {
        return;
    };
    let starts = (0..20).map(|number| async move {
        // Half of them are given up in the middle of their start.
        let patience = match number % 2 {
            0 => Duration::from_millis(100 * number),
            _ => 30 * SECOND,
        };
        let started = tokio::time::timeout(patience, start(Transport::Ipc)).await;
        started.is_ok()
    });
    let started = futures_util::future::join_all(starts).await;
    assert!(started.iter().filter(|started| **started).count() >= 10);
    let mark = root.to_str().unwrap();
    within(PROMPT, "all processes gone", || running(mark).is_empty()).await;
    let left: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The end of a process that has printed much is told with the end of what it printed.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_words_are_complete() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let process = Supervised::spawn(Command {
            sandbox: String::new(),
            supervisor: env!("CARGO_BIN_EXE_heddle").into(),
            argv: [
                "sh",
                "-c",
                "head -c 200000 /dev/zero | tr '\\0' x; echo; echo the end; exit 7",
            ]
            .map(str::to_owned)
            .to_vec(),
            env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
            cwd: "/".into(),
            folder: folder.path().to_owned(),
        })
        .unwrap();
        assert_eq!(process.exit().await, Exit::Code(7));
        process.ended().await;
        assert!(process.tail().ends_with("the end"));
        assert!(!folder.path().exists());
    }
}
