//! What works, in every mode and at every level alike.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use futures_util::future::BoxFuture;
use heddle::event::{Event, Status};
use heddle::executor::{Input, interrupts};
use heddle::isolation::level::Level;
use heddle::kernel::{Mount, Project};

use crate::everywhere;
use crate::place::{Mode, Place, Running};

#[test]
fn code_does_what_it_does_anywhere() {
    everywhere(async |place| {
        let mut kernel = place.start().await;
        values_streams_and_plots(&mut kernel).await;
        files_belong_to_the_user(&mut kernel, &place).await;
        questions_are_answered(&mut kernel).await;
        threads_pools_and_subprocesses(&mut kernel).await;
        if let Mode::Local | Mode::Container(_) | Mode::Sandbox(Level::Namespaces) = place.mode {
            managers_work(&mut kernel).await;
        }
        kernel.end().await;
        all_belongs_to_the_user(place.workspace.path());
    });
}

#[test]
fn kernels_are_interrupted_restarted_and_replaced() {
    everywhere(async |mut place| {
        let mut kernel = place.start().await;
        python_code_is_interrupted(&mut kernel).await;
        children_are_interrupted_with_the_cell(&mut kernel).await;
        a_restart_loses_variables_and_keeps_files(&mut kernel).await;
        deaths_are_named_and_survived(&mut kernel).await;
        kernel.end().await;

        place.timeout = 1;
        let mut kernel = place.start().await;
        let outcome = kernel.run("import time; time.sleep(100)").await;
        assert!(outcome.timed_out, "{outcome:?}");
        assert_eq!(kernel.printed("print('on')").await, "on");
        kernel.end().await;
    });
}

/// As the kernels of a session see the project that was named: with their own folders in the workspace, and no others.
#[test]
fn a_project_is_seen_without_its_settings_and_what_is_hidden_in_it() {
    everywhere(async |mut place| {
        if place.mode == Mode::Local {
            return;
        }
        let beside = place.workspace.path().parent().unwrap();
        let folder = tempfile::tempdir_in(beside).unwrap();
        let project = folder.path().canonicalize().unwrap();
        for name in ["data", "work/own", "work/other"] {
            std::fs::create_dir_all(project.join(name)).unwrap();
        }
        for (name, text) in [
            ("heddle.toml", "# a key"),
            ("data/a.csv", "1,2"),
            ("work/own/mine", "mine"),
            ("work/other/theirs", "theirs"),
        ] {
            std::fs::write(project.join(name), text).unwrap();
        }
        place.grants.project = Some(Project {
            path: project.clone(),
            hidden: Some(project.join("work")),
        });
        place.grants.mounts.push(Mount {
            path: project.join("work/own"),
            writable: true,
        });
        let mut kernel = place.start().await;
        let code = "
import os
def attempt(how):
    try: return how()
    except OSError: return 'refused'
os.chdir(PROJECT)
print(attempt(lambda: open('data/a.csv').read()), attempt(lambda: open('data/b.csv', 'w')))
print(attempt(lambda: open('heddle.toml').read()) in ('', 'refused'))
print(attempt(lambda: open('work/own/mine').read()), open('work/own/new', 'w').write('new'))
print(attempt(lambda: open('work/other/theirs').read()), attempt(lambda: open('work/planted', 'w')))
print(attempt(lambda: os.listdir('work')) in ('refused', ['own']))"
            .replace("PROJECT", &format!("{:?}", project.display().to_string()));
        let printed = kernel.printed(&code).await;
        kernel.end().await;
        assert_eq!(printed, "1,2 refused\nTrue\nmine 3\nrefused refused\nTrue");
        let new = std::fs::read_to_string(project.join("work/own/new")).unwrap();
        assert_eq!(new, "new");
    });
}

async fn values_streams_and_plots(kernel: &mut Running) {
    let outcome = kernel
        .run("import sys; print('out'); print('err', file=sys.stderr); 6 * 7")
        .await;
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(outcome.values.trim(), "42");
    let outcome = kernel
        .run("import pandas, matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()")
        .await;
    assert_eq!(outcome.status, Status::Ok, "{outcome:?}");
    let is_png = |event: &Event| match event {
        Event::Display { data, .. } => data.contains_key("image/png"),
        _ => false,
    };
    assert!(kernel.events.iter().any(is_png), "{outcome:?}");
    let variables = "import os; print(os.environ['GIVEN'], 'HEDDLE_TEST_INSIDE' in os.environ)";
    assert_eq!(kernel.printed(variables).await, "by name False");
}

async fn files_belong_to_the_user(kernel: &mut Running, place: &Place) {
    let workspace = place.workspace.path();
    std::fs::write(workspace.join("given.txt"), "from outside").unwrap();
    let code = "
import os
print(open('given.txt').read())
open('made.txt', 'w').write('from inside')
os.mkdir('folder'); os.rename('made.txt', 'folder/made.txt'); os.chmod('folder/made.txt', 0o640)
open('given.txt', 'a').write(', and inside')
os.mkdir('empty'); os.rmdir('empty')
print(os.stat('given.txt').st_uid == os.getuid())";
    assert_eq!(kernel.printed(code).await, "from outside\nTrue");
    let read = |name: &str| std::fs::read_to_string(workspace.join(name)).unwrap();
    assert_eq!(read("folder/made.txt"), "from inside");
    assert_eq!(read("given.txt"), "from outside, and inside");
    // What the code wrote, and what was saved of an earlier output.
    let named = |end: &str| {
        kernel.events.iter().any(|event| match event {
            Event::Artifact { path, .. } => {
                path.ends_with(end) && Path::new(path).starts_with(workspace)
            }
            _ => false,
        })
    };
    assert!(named("folder/made.txt") && named(".png"));
}

/// The workspace, and everything in it.
fn all_belongs_to_the_user(workspace: &Path) {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut paths = vec![workspace.to_path_buf()];
    let mut files = 0;
    while let Some(path) = paths.pop() {
        let meta = std::fs::metadata(&path).unwrap();
        let owner = (meta.uid(), meta.gid());
        assert_eq!(owner, (uid.as_raw(), gid.as_raw()), "{}", path.display());
        match meta.is_dir() {
            true => paths.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path())),
            false => files += 1,
        }
    }
    assert!(files >= 3, "{files}");
}

/// Answers every question with its prompt.
struct Echo;

impl Input for Echo {
    fn is_present(&self) -> bool {
        true
    }
    fn read(&mut self, prompt: String, _: bool) -> BoxFuture<'_, Option<String>> {
        Box::pin(std::future::ready(Some(format!("to {prompt}"))))
    }
}

async fn questions_are_answered(kernel: &mut Running) {
    let outcome = kernel
        .run_with("print(input('name?'))", &mut Echo, &mut interrupts().1)
        .await;
    assert!(outcome.stdout.contains("to name?"), "{outcome:?}");
}

async fn threads_pools_and_subprocesses(kernel: &mut Running) {
    let code = "
import concurrent.futures, multiprocessing, subprocess, tempfile, threading
seen = []
threads = [threading.Thread(target=seen.append, args=(i,)) for i in range(32)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(seen))
lock = multiprocessing.Lock()
def locked(n):
    with lock: return n * n
with multiprocessing.Pool(3) as pool: print(pool.map(locked, range(5)))
with concurrent.futures.ProcessPoolExecutor(3) as pool: print(list(pool.map(abs, [-1, -2])))
queue = multiprocessing.Queue()
process = multiprocessing.Process(target=queue.put, args=('queued',))
process.start(); print(queue.get(timeout=60)); process.join()
event = multiprocessing.Event(); event.set(); print(event.wait(60))
!echo a command
print(subprocess.run(['sh', '-c', 'echo from a shell | cat'], capture_output=True, text=True).stdout)
with tempfile.NamedTemporaryFile('w+') as file: print(file.write('temporary'))";
    let printed = kernel.printed(code).await;
    let lines: Vec<&str> = printed
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let wanted = [
        "32",
        "[0, 1, 4, 9, 16]",
        "[1, 2]",
        "queued",
        "True",
        "a command",
        "from a shell",
        "9",
    ];
    assert_eq!(lines, wanted);
}

/// They listen on a Unix socket and connect to it, which the lower level refuses.
async fn managers_work(kernel: &mut Running) {
    let code = "with multiprocessing.Manager() as manager: print(manager.list([7])[0])";
    assert_eq!(kernel.printed(code).await, "7");
}

/// Interrupts a cell once it has printed something, and gives what is kept then.
async fn interrupted(kernel: &mut Running, code: &str) -> String {
    let outcome = kernel.interrupted(code).await;
    assert_eq!(outcome.status, Status::Interrupted, "{outcome:?}");
    assert!(
        outcome.died.is_none() && outcome.seconds < 30.0,
        "{outcome:?}"
    );
    // And the kernel goes on.
    kernel.printed("print(kept)").await
}

async fn python_code_is_interrupted(kernel: &mut Running) {
    let sleeping = "kept = 'asleep'; print('running', flush=True)\nimport time\nfor _ in range(600): time.sleep(0.1)";
    assert_eq!(interrupted(kernel, sleeping).await, "asleep");
    let busy = "kept = 'busy'; print('running', flush=True)\nwhile True: pass";
    assert_eq!(interrupted(kernel, busy).await, "busy");
}

async fn children_are_interrupted_with_the_cell(kernel: &mut Running) {
    let code = "
import subprocess
child = subprocess.Popen(['sh', '-c', 'echo started; exec sleep 60'], stdout=subprocess.PIPE)
child.stdout.readline()
try:
    print('running', flush=True)
    child.wait()
finally: kept = child.wait(20)";
    // Killed by the same SIGINT; its status is lost where the interrupt meets CPython between waitpid and its result.
    // Were it alive, the second wait would raise.
    let status = interrupted(kernel, code).await;
    assert!(["-2", "0"].contains(&status.as_str()), "{status}");
    // While it waits like this, Python itself does not look at signals.
    let shell = "kept = 'kept'\nimport os\nprint('running', flush=True)\n\
                 while os.system('sleep 60') == 2: raise KeyboardInterrupt";
    assert_eq!(interrupted(kernel, shell).await, "kept");
}

async fn a_restart_loses_variables_and_keeps_files(kernel: &mut Running) {
    kernel
        .printed("x = 1; open('kept', 'w').write('kept')")
        .await;
    kernel.executor.restart().await.unwrap();
    let printed = kernel
        .printed("print('x' in globals(), open('kept').read())")
        .await;
    assert_eq!(printed, "False kept");
}

async fn deaths_are_named_and_survived(kernel: &mut Running) {
    for (code, reason) in [
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("import os; os._exit(7)", "exited with code 7"),
    ] {
        let died = kernel.run(code).await.died.unwrap();
        assert!(died.contains(reason), "{died}");
        assert_eq!(kernel.printed("print('anew')").await, "anew");
    }
}

#[test]
fn out_of_memory_is_named_and_survived() {
    everywhere(async |mut place| {
        place.grants.memory = 256 << 20;
        let mut kernel = place.start().await;
        // More than any machine has is refused by Python itself.
        let outcome = kernel.run("x = bytearray(1 << 60)").await;
        assert_eq!(outcome.raised.unwrap().ename, "MemoryError");
        assert_eq!(kernel.printed("print('on')").await, "on");
        let keep = "import time; time.sleep(3)";
        let fill = "
import tempfile
file = tempfile.NamedTemporaryFile()
for _ in range(400): file.write(bytes(1 << 20)); file.flush()";
        for taking in ["x = bytearray(b'x') * (400 << 20)", fill] {
            let outcome = kernel.run(&format!("{taking}\n{keep}")).await;
            match (outcome.died, outcome.raised) {
                // Its limit is the machine's.
                (None, None) => assert_eq!(place.mode, Mode::Local),
                (Some(died), _) => {
                    let named = "ran out of memory: it took more than 256 MiB";
                    assert!(died.contains(named), "{died}");
                    assert!(died.contains("execution_service.memory"), "{died}");
                }
                // A file system that is full first says so, which is as good.
                (None, Some(raised)) => {
                    assert!(raised.evalue.contains("No space left"), "{raised:?}");
                }
            }
            assert_eq!(kernel.printed("print('anew')").await, "anew");
        }
        kernel.end().await;
    });
}

#[test]
fn granted_paths_are_there_as_they_were_granted() {
    everywhere(async |mut place| {
        let other = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
        let path = |name: &str| other.path().join(name);
        for name in ["read", "write"] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join("a"), name).unwrap();
            // Whoever the kernel runs as, it is given the user's files.
            let private = PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(path(name).join("a"), private).unwrap();
        }
        std::fs::write(path("hidden"), "").unwrap();
        std::fs::write(path("single"), "single").unwrap();
        let granted = [("read", false), ("write", true), ("single", false)];
        place.grants.mounts = granted
            .map(|(name, writable)| Mount {
                path: path(name),
                writable,
            })
            .to_vec();
        let mut kernel = place.start().await;
        let code = format!(
            "
import os
os.chdir({:?})
def refused(path, how):
    try: open(path, how).close()
    except OSError: return True
print(open('read/a').read(), open('write/a').read(), open('single').read())
open('write/b', 'w').write('b')
print(refused('read/b', 'w'), refused('read/a', 'a'), refused('single', 'a'), refused('hidden', 'r'))",
            other.path()
        );
        let refused = match place.mode {
            Mode::Local => "None None None None",
            _ => "True True True True",
        };
        assert_eq!(
            kernel.printed(&code).await,
            format!("read write single\n{refused}")
        );
        kernel.end().await;
        assert_eq!(std::fs::read_to_string(path("write/b")).unwrap(), "b");
        let meta = std::fs::metadata(path("write/b")).unwrap();
        assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw());
        assert_eq!(std::fs::read_to_string(path("single")).unwrap(), "single");
    });
}

#[test]
fn the_network_is_there_once_it_is_granted() {
    everywhere(async |mut place| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let code = format!(
            "
import socket
try: socket.create_connection(('127.0.0.1', {port}), 5).close(); print('reached')
except OSError: print('refused')"
        );
        let mut kernel = place.start().await;
        let refused = kernel.printed(&code).await;
        kernel.end().await;
        place.grants.network = true;
        let granted = match place.try_start().await {
            Ok(mut kernel) => {
                let said = kernel.printed(&code).await;
                kernel.end().await;
                said
            }
            Err(error) => error.to_string(),
        };
        match place.mode {
            Mode::Local => assert_eq!((&*refused, &*granted), ("reached", "reached")),
            Mode::Sandbox(Level::Namespaces) => {
                assert_eq!((&*refused, &*granted), ("refused", "reached"));
            }
            Mode::Sandbox(Level::Landlock(_)) => {
                assert_eq!(refused, "refused");
                assert!(granted.contains("the network cannot be given"), "{granted}");
            }
            // Its network is not the host's, so that this address is its own; the tests' engine has none to give.
            Mode::Container(_) => assert!(
                refused == "refused" && (granted == "refused" || granted.contains("has no bridge")),
                "{granted}"
            ),
        }
    });
}

#[test]
fn of_a_home_an_isolated_kernel_sees_a_folder_of_its_own() {
    everywhere(async |place| {
        let home = place.workspace.path();
        std::fs::write(home.join("key"), "secret").unwrap();
        let code = "
import os, pathlib
above = pathlib.Path('..', 'key')
try: print(above.resolve(), above.read_text())
except OSError: print('no key')
open('made', 'w').write('made')
try: open('../beside', 'w').close(); print('beside')
except OSError: print('nothing beside')";
        let output = place
            .command(&["run", "-c", code])
            .env("HOME", home)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        let own = home.join("heddle/made");
        if place.mode == Mode::Local {
            assert!(said.ends_with("beside\n") && !own.exists(), "{said}");
            return;
        }
        assert_eq!(said, "no key\nnothing beside\n");
        assert_eq!(std::fs::read_to_string(own).unwrap(), "made");
        assert!(!home.join("beside").exists());
    });
}
