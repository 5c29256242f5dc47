//! What works in a container as it does elsewhere. The list is there twice: with the kernel's own sockets, and as the
//! module `relayed`, through the container's standard streams.

use std::os::unix::fs::MetadataExt;

use futures_util::future::BoxFuture;
use heddle::event::{Event, Status};
use heddle::executor::{Input, NoInput, interrupts};
use heddle::kernel::Mount;
use heddle::kernel::container::{Reach, image};

use crate::host::{Host, Place, with_host};

async fn place(host: &Host) -> Place {
    let reach = match module_path!().ends_with("relayed") {
        true => Reach::Streams,
        false => Reach::Sockets,
    };
    host.place_reached_by(reach, &image::own_name()).await
}

#[test]
fn values_streams_and_plots() {
    with_host(async |host| {
        let place = place(host).await;
        let mut kernel = place.start().await;
        let outcome = kernel
            .run("import sys; print('out'); print('err', file=sys.stderr); 6 * 7")
            .await;
        assert_eq!(
            (outcome.stdout.as_str(), outcome.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(outcome.values.trim(), "42");
        let code = "import pandas, matplotlib.pyplot as plt; plt.title('收入'); plt.plot([1, 2]); plt.show()";
        let outcome = kernel.run(code).await;
        assert_eq!(outcome.status, Status::Ok, "{outcome:?}");
        // Neither fonts that are missing nor caches that cannot be written are complained of.
        assert_eq!(outcome.stderr, "");
        let is_png = |event: &Event| match event {
            Event::Display { data, .. } => data.contains_key("image/png"),
            _ => false,
        };
        assert!(kernel.events.iter().any(is_png), "{outcome:?}");
        assert_eq!(
            kernel
                .printed("import os; print(os.environ['GIVEN'], 'HEDDLE_TEST' in os.environ)")
                .await,
            "by name False"
        );
        kernel.end().await;
    });
}

#[test]
fn files_belong_to_the_user_and_to_the_workspace() {
    with_host(async |host| {
        let place = place(host).await;
        let workspace = place.workspace.path();
        let mut kernel = place.start().await;
        std::fs::write(workspace.join("given.txt"), "from outside").unwrap();
        let code = "
import os
print(open('given.txt').read())
open('made.txt', 'w').write('from inside')
os.mkdir('folder'); os.rename('made.txt', 'folder/made.txt'); os.chmod('folder/made.txt', 0o640)
open('given.txt', 'a').write(', and inside')
os.mkdir('empty'); os.rmdir('empty')
print(os.getuid() != 0, os.stat('given.txt').st_uid == os.getuid())";
        assert_eq!(kernel.printed(code).await, "from outside\nTrue True");
        let read = |name: &str| std::fs::read_to_string(workspace.join(name)).unwrap();
        assert_eq!(read("folder/made.txt"), "from inside");
        assert_eq!(read("given.txt"), "from outside, and inside");
        kernel.end().await;
        let here = (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
        for name in ["", "given.txt", "folder", "folder/made.txt"] {
            let meta = std::fs::metadata(workspace.join(name)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), here, "{name}");
        }
    });
}

#[test]
fn granted_paths_are_there_as_they_were_granted() {
    with_host(async |host| {
        let mut place = place(host).await;
        let other = tempfile::tempdir().unwrap();
        let path = |name: &str| other.path().join(name);
        for name in ["read", "write"] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join("a"), name).unwrap();
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
import os; os.chdir({:?})
print(open('read/a').read(), open('write/a').read(), open('single').read(), sorted(os.listdir()))
open('write/b', 'w').write('b')
for name in ['read/b', 'single']:
    try: open(name, 'w')
    except OSError as error: print(error.strerror)",
            other.path()
        );
        assert_eq!(
            kernel.printed(&code).await,
            "read write single ['read', 'single', 'write']\nRead-only file system\nRead-only file system"
        );
        assert_eq!(std::fs::read_to_string(path("write/b")).unwrap(), "b");
        kernel.end().await;
        assert_eq!(std::fs::read_to_string(path("single")).unwrap(), "single");
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
    with_host(async |host| {
        let place = place(host).await;
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
    with_host(async |host| {
        let place = place(host).await;
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
with multiprocessing.Manager() as manager: print(manager.list([7])[0])
print(subprocess.run(['sh', '-c', 'echo from a shell | cat'], capture_output=True, text=True).stdout, end='')
with tempfile.NamedTemporaryFile('w+') as file: print(file.write('temporary'))";
        assert_eq!(
            kernel.printed(code).await,
            "32\n[0, 1, 4, 9, 16]\n[1, 2]\n7\nfrom a shell\n9"
        );
        kernel.end().await;
    });
}

/// Interrupts a cell once it has printed something, and gives what the kernel says of it then.
async fn interrupted(place: &Place, code: &str) -> String {
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
    assert!(
        outcome.died.is_none() && outcome.seconds < 5.0,
        "{outcome:?}"
    );
    let after = kernel.printed("print(kept)").await;
    kernel.end().await;
    after
}

#[test]
fn python_code_is_interrupted() {
    with_host(async |host| {
        let place = place(host).await;
        let sleeping = "kept = 'kept'; print('running', flush=True)\nimport time\ntime.sleep(60)";
        assert_eq!(interrupted(&place, sleeping).await, "kept");
        let busy = "kept = 'kept'; print('running', flush=True)\nwhile True: pass";
        assert_eq!(interrupted(&place, busy).await, "kept");
    });
}

#[test]
fn a_child_process_is_interrupted_with_the_cell() {
    with_host(async |host| {
        let code = "
import subprocess
child = subprocess.Popen(['sh', '-c', 'echo started; exec sleep 60'], stdout=subprocess.PIPE)
child.stdout.readline()
try:
    print('running', flush=True)
    child.wait()
finally: kept = child.wait(20)";
        // Killed by the same SIGINT; 0 where the interrupt came as Python was about to keep the status. Were it alive, the
        // second wait would raise.
        let status = interrupted(&place(host).await, code).await;
        assert!(["-2", "0"].contains(&status.as_str()), "{status}");
        // While it waits like this, Python itself does not look at signals.
        let shell = "kept = 'kept'\nimport os\nos.system('echo started > started')\nprint('running', flush=True)\n\
                     while os.system('sleep 60') == 2: raise KeyboardInterrupt";
        assert_eq!(interrupted(&place(host).await, shell).await, "kept");
    });
}

#[test]
fn a_restart_loses_variables_and_keeps_files() {
    with_host(async |host| {
        let place = place(host).await;
        let mut kernel = place.start().await;
        kernel
            .printed("x = 1; open('kept', 'w').write('kept')")
            .await;
        kernel.executor.restart().await.unwrap();
        let printed = kernel
            .printed("print('x' in globals(), open('kept').read())")
            .await;
        assert_eq!(printed, "False kept");
        assert_eq!(host.containers_of(place.workspace.path()).len(), 1);
        kernel.end().await;
        assert!(host.containers_of(place.workspace.path()).is_empty());
    });
}
