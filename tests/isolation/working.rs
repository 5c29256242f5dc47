//! What works, in every mode alike.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use heddle::event::{Event, Status};
use heddle::executor::{Input, NoInput, interrupts};

use crate::place::everywhere;

#[test]
fn values_streams_and_plots() {
    everywhere(async |place| {
        let mut kernel = place.start().await;
        let outcome = kernel
            .run("import sys; print('out'); print('err', file=sys.stderr); 6 * 7")
            .await;
        assert_eq!(
            (outcome.stdout.as_str(), outcome.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(outcome.values.trim(), "42");
        let outcome = kernel
            .run("import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()")
            .await;
        assert_eq!(outcome.status, Status::Ok, "{outcome:?}");
        let is_png = |event: &Event| match event {
            Event::Display { data, .. } => data.contains_key("image/png"),
            _ => false,
        };
        assert!(kernel.events.iter().any(is_png), "{outcome:?}");
        kernel.end().await;
    });
}

#[test]
fn files_belong_to_the_user_and_to_the_workspace() {
    everywhere(async |place| {
        let workspace = place.workspace.path();
        let mut kernel = place.start().await;
        std::fs::write(workspace.join("given.txt"), "from outside").unwrap();
        let code = "
import os
print(open('given.txt').read())
open('made.txt', 'w').write('from inside')
os.mkdir('folder'); os.rename('made.txt', 'folder/made.txt'); os.chmod('folder/made.txt', 0o640)
open('given.txt', 'a').write(', and inside')";
        assert_eq!(kernel.printed(code).await, "from outside");
        let read = |name: &str| std::fs::read_to_string(workspace.join(name)).unwrap();
        assert_eq!(read("folder/made.txt"), "from inside");
        assert_eq!(read("given.txt"), "from outside, and inside");
        kernel.end().await;
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        for name in ["", "given.txt", "folder", "folder/made.txt"] {
            let meta = std::fs::metadata(workspace.join(name)).unwrap();
            assert_eq!(
                (meta.uid(), meta.gid()),
                (uid.as_raw(), gid.as_raw()),
                "{name}"
            );
        }
    });
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

#[test]
fn questions_are_answered() {
    everywhere(async |place| {
        let mut kernel = place.start().await;
        let outcome = kernel
            .run_with("print(input('name?'))", &mut Echo, &mut interrupts().1)
            .await;
        assert!(outcome.stdout.contains("to name?"), "{outcome:?}");
        kernel.end().await;
    });
}

#[test]
fn threads_pools_and_subprocesses() {
    everywhere(async |place| {
        let mut kernel = place.start().await;
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
            .split('\n')
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
        kernel.end().await;
    });
}

/// Interrupts a cell once it has printed something.
async fn interrupted(place: &crate::place::Place, code: &str) -> String {
    let mut kernel = place.start().await;
    let (interrupter, mut interrupts) = interrupts();
    let executor = &mut kernel.executor;
    let mut sink = |event| {
        if let Event::Stream { .. } = event {
            interrupter.press();
        }
    };
    let outcome = executor
        .run(code, &mut sink, &mut NoInput, &mut interrupts)
        .await
        .unwrap();
    assert_eq!(outcome.status, Status::Interrupted, "{outcome:?}");
    assert!(outcome.seconds < 50.0, "{outcome:?}");
    // And the kernel goes on.
    let after = kernel.printed("print(kept)").await;
    kernel.end().await;
    after
}

#[test]
fn python_code_is_interrupted() {
    everywhere(async |place| {
        let code = "
kept = 'kept'
print('running', flush=True)
for i in range(600):
    import time; time.sleep(0.1)";
        assert_eq!(interrupted(&place, code).await, "kept");
    });
}

#[test]
fn a_child_process_is_interrupted_with_the_cell() {
    everywhere(async |place| {
        let code = "
import subprocess
kept = child = subprocess.Popen(['sh', '-c', 'echo started; exec sleep 60'], stdout=subprocess.PIPE)
child.stdout.readline()
try:
    print('running', flush=True)
    child.wait()
finally: kept = child.wait(20)";
        // Killed by the same SIGINT; its status is lost where the interrupt meets CPython between waitpid and its result.
        let status = interrupted(&place, code).await;
        assert!(["-2", "0"].contains(&status.as_str()), "{status}");
    });
}

#[test]
fn a_restart_loses_variables_and_keeps_files() {
    everywhere(async |place| {
        let mut kernel = place.start().await;
        kernel
            .printed("x = 1; open('kept', 'w').write('kept')")
            .await;
        kernel.executor.restart().await.unwrap();
        let printed = kernel
            .printed("print('x' in globals(), open('kept').read())")
            .await;
        assert_eq!(printed, "False kept");
        kernel.end().await;
    });
}

#[test]
fn a_death_by_signal_is_named_and_survived() {
    everywhere(async |place| {
        let mut kernel = place.start().await;
        let outcome = kernel.run("import os; os.kill(os.getpid(), 11)").await;
        let died = outcome.died.unwrap();
        assert!(died.contains("SIGSEGV"), "{died}");
        assert_eq!(kernel.printed("print('anew')").await, "anew");
        kernel.end().await;
    });
}

#[test]
fn a_cell_has_a_time_limit() {
    everywhere(async |place| {
        let limits = heddle::executor::Limits {
            timeout: Some(Duration::from_secs(1)),
            characters: 1000,
        };
        let places = heddle::executor::Places {
            artifacts: None,
            texts: None,
            watch: false,
        };
        let executor = heddle::executor::Executor::start(place.options(), places, limits).await;
        let mut kernel = crate::place::Running {
            executor: executor.unwrap(),
            events: Vec::new(),
        };
        let outcome = kernel.run("import time; time.sleep(100)").await;
        assert!(outcome.timed_out, "{outcome:?}");
        assert_eq!(kernel.printed("print('on')").await, "on");
        kernel.end().await;
    });
}
