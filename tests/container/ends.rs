//! How kernels in containers end, and what is left: a clear reason, a session that goes on, and nothing else.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use heddle::kernel::container::{self, Leftover, image};

use crate::host::{Host, eventually, with_host, with_host_alone};

#[test]
fn a_restart_replaces_the_container_and_the_end_removes_it() {
    with_host(async |host| {
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        let first = host.containers_of(place.workspace.path());
        kernel.executor.restart().await.unwrap();
        let second = host.containers_of(place.workspace.path());
        assert!(first.len() == 1 && second.len() == 1 && first != second);
        kernel.end().await;
        assert!(host.containers_of(place.workspace.path()).is_empty());
    });
}

#[test]
fn a_container_removed_from_outside_is_named_and_replaced() {
    with_host(async |host| {
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        let outcome = kernel
            .meanwhile(
                "print('running', flush=True)\nimport time; time.sleep(60)",
                |_| {
                    for id in host.containers_of(place.workspace.path()) {
                        host.docker(&["rm", "-f", &id]);
                    }
                },
            )
            .await;
        let died = outcome.died.unwrap();
        assert!(
            died.contains("stopped or removed through the engine"),
            "{died}"
        );
        assert_eq!(kernel.printed("print('anew')").await, "anew");
        kernel.end().await;
    });
}

#[test]
fn an_engine_that_stops_in_mid_cell_is_named() {
    with_host_alone(async |mut host| {
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        let host = std::sync::Mutex::new(&mut host);
        let outcome = kernel
            .meanwhile(
                "print('running', flush=True)\nimport time; time.sleep(60)",
                |_| host.lock().unwrap().stop(),
            )
            .await;
        let died = outcome.died.unwrap();
        assert!(
            died.contains("together with the container engine"),
            "{died}"
        );
        let error = place.try_start().await.err().unwrap().to_string();
        assert!(error.contains("container engine"), "{error}");
        kernel.end().await;
    });
}

/// Waits until a file has not grown for so long.
fn until_it_stops_growing(file: &Path, still: Duration) {
    let size = || std::fs::metadata(file).unwrap().len();
    let (mut last, mut since) = (size(), std::time::Instant::now());
    eventually(Duration::from_secs(120), || {
        if size() != last {
            (last, since) = (size(), std::time::Instant::now());
        }
        since.elapsed() > still
    });
}

#[test]
fn code_ends_by_itself_when_the_engine_is_killed() {
    for reach in ["", "apart"] {
        with_host_alone(async |mut host| {
            let write = "
import threading, time
def write():
    while True:
        with open('grows', 'a') as file: file.write('x')
        time.sleep(0.1)
threading.Thread(target=write).start()";
            let env = [("HEDDLE_CONTAINER_SOCKETS", reach)];
            let mut session = Session::start_with(&host, write, &env);
            let file = session.workspace.path().join("grows");
            eventually(Duration::from_secs(20), || file.exists());
            nix::sys::signal::kill(host.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
            let said = session.failed();
            assert!(
                said.contains("together with the container engine")
                    && said.contains("by itself within"),
                "{said}"
            );
            until_it_stops_growing(&file, Duration::from_secs(4));
            host.stop();
        });
    }
}

#[test]
fn what_runs_on_without_an_engine_is_found_and_ended() {
    with_host_alone(async |mut host| {
        let mut session = Session::start(&host, "");
        let container = &host.containers_of(session.workspace.path())[0];
        let name = host.docker_says(&["inspect", "-f", "{{.Name}}", container]);
        let is_it = |left: &Leftover| matches!(left, Leftover::Process(_, of) if name.ends_with(of.as_str()));
        let left = container::leftovers(None).await.unwrap();
        assert!(!left.iter().any(is_it), "{left:?}");
        // It hears a beat as long as its keeper lives.
        for pid in [host.pid(), nix::unistd::Pid::from_raw(session.keeper)] {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        session.kill();
        let mut left = container::leftovers(None).await.unwrap();
        left.retain(is_it);
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(
            left[0].to_string().contains("without an engine"),
            "{left:?}"
        );
        container::remove_leftovers(None, &left).await;
        let gone = async || !container::leftovers(None).await.unwrap().iter().any(is_it);
        while !gone().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::fs::remove_dir_all(&session.folder).unwrap();
        host.stop();
    });
}

#[test]
fn a_container_that_is_paused_for_longer_than_the_silence_goes_on() {
    with_host(async |host| {
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        let id = host.containers_of(place.workspace.path())[0].clone();
        host.docker_says(&["pause", &id]);
        // Longer than it may hear nothing.
        std::thread::sleep(Duration::from_secs(20));
        host.docker_says(&["unpause", &id]);
        assert_eq!(kernel.printed("print('still there')").await, "still there");
        kernel.end().await;
    });
}

#[test]
fn a_heddle_that_is_stopped_keeps_its_container() {
    with_host(async |host| {
        let mut session = Session::start(host, "");
        let heddle = nix::unistd::Pid::from_raw(i32::try_from(session.heddle.id()).unwrap());
        nix::sys::signal::kill(heddle, nix::sys::signal::Signal::SIGSTOP).unwrap();
        std::thread::sleep(Duration::from_secs(20));
        assert!(session.has_container(host));
        nix::sys::signal::kill(heddle, nix::sys::signal::Signal::SIGCONT).unwrap();
        session.kill();
        eventually(Duration::from_secs(10), || !session.has_container(host));
    });
}

#[test]
fn a_start_on_an_engine_that_hangs_ends_at_its_time_limit() {
    with_host_alone(async |host| {
        let mut place = host.place(&image::own_name()).await;
        place.start_timeout = Duration::from_secs(3);
        let frozen = Frozen::freeze(&host);
        let error = place.try_start().await.err().unwrap().to_string();
        drop(frozen);
        for part in [
            "the container engine at",
            "kernel.start_timeout",
            "docker info",
        ] {
            assert!(error.contains(part), "{error}");
        }
    });
}

/// An engine that is held still until this is dropped.
struct Frozen(nix::unistd::Pid);

impl Frozen {
    fn freeze(host: &Host) -> Frozen {
        let engine = host.pid();
        nix::sys::signal::kill(engine, nix::sys::signal::Signal::SIGSTOP).unwrap();
        Frozen(engine)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.0, nix::sys::signal::Signal::SIGCONT);
    }
}

#[test]
fn an_engine_that_hangs_does_not_hold_heddle() {
    with_host_alone(async |host| {
        let workspace = tempfile::tempdir().unwrap();
        let code = "import os, time\nprint('running', flush=True)\n\
                    while not os.path.exists('go'): time.sleep(0.05)\nprint('done')";
        let mut heddle = host
            .heddle(&["run", "--mode", "container", "-c", code])
            .current_dir(workspace.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(heddle.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "running");
        let frozen = Frozen::freeze(&host);
        std::fs::write(workspace.path().join("go"), "").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "done");
        let ended = || heddle.try_wait().unwrap().is_some();
        let took = eventually(Duration::from_secs(15), ended);
        eprintln!("ended after {took:?}");
        assert!(heddle.wait().unwrap().success());
        // The keeper has gone on asking.
        drop(frozen);
        let name = workspace.path().to_string_lossy().into_owned();
        let is_lent = || {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            mounts.lines().any(|line| line.contains(&name))
        };
        eventually(Duration::from_secs(10), || {
            host.containers_of(workspace.path()).is_empty() && !is_lent()
        });
    });
}

/// A heddle command whose kernel is in the middle of a cell, in a session of its own.
pub struct Session {
    heddle: Child,
    workspace: tempfile::TempDir,
    keeper: i32,
    pub folder: PathBuf,
}

impl Session {
    fn start(host: &Host, code: &str) -> Session {
        Session::start_with(host, code, &[])
    }

    /// With further variables of the environment.
    pub fn start_with(host: &Host, code: &str, env: &[(&str, &str)]) -> Session {
        let workspace = tempfile::tempdir().unwrap();
        let code = format!("{code}\nprint('running', flush=True)\nimport time; time.sleep(600)");
        let mut heddle = host
            .heddle(&["run", "--mode", "container", "-c", &code])
            .current_dir(workspace.path())
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(heddle.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "running\n");
        let (keeper, duties) = keeper_of(heddle.id());
        let duties: serde_json::Value = serde_json::from_str(&duties).unwrap();
        Session {
            heddle,
            workspace,
            keeper,
            folder: duties["folder"].as_str().unwrap().into(),
        }
    }

    /// What it says when it fails, and waits for that.
    fn failed(&mut self) -> String {
        let mut said = String::new();
        let mut output = self.heddle.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut output, &mut said).unwrap();
        assert_eq!(self.heddle.wait().unwrap().code(), Some(1), "{said}");
        said
    }

    pub fn kill(&mut self) {
        self.heddle.kill().unwrap();
        self.heddle.wait().unwrap();
    }

    pub fn has_container(&self, host: &Host) -> bool {
        !host.containers_of(self.workspace.path()).is_empty()
    }

    pub fn has_mount(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let workspace = self.workspace.path().to_string_lossy().into_owned();
        mounts
            .lines()
            .any(|line| line.contains("heddle-lent") && line.contains(&workspace))
    }
}

/// The keeper below a process, and its argument.
fn keeper_of(parent: u32) -> (i32, String) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read =
            |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        let parts: Vec<&str> = command.split('\0').collect();
        let is_child = read("status").contains(&format!("PPid:\t{parent}\n"));
        if is_child && parts.get(1) == Some(&"keep-container") {
            let pid = entry.file_name().to_string_lossy().parse().unwrap();
            return (pid, parts[2].to_owned());
        }
    }
    panic!("heddle has a keeper");
}

#[test]
fn nothing_is_left_of_a_heddle_that_was_killed() {
    with_host(async |host| {
        // Also where code has tried to hinder the container's first process.
        let hinder = "
import os
for number in 2, 9, 15, 19: os.kill(1, number)
for path in 'mem', 'fd/0', 'fd/1':
    try: raise SystemExit(open('/proc/1/' + path, 'wb'))
    except PermissionError: pass";
        for code in ["", hinder] {
            let mut session = Session::start(host, code);
            assert!(session.has_container(host) && session.has_mount() && session.folder.exists());
            session.kill();
            let gone =
                || !session.has_container(host) && !session.has_mount() && !session.folder.exists();
            let took = eventually(Duration::from_secs(3), gone);
            eprintln!("gone after {took:?}");
        }
    });
}

#[test]
fn no_container_outlives_a_heddle_and_its_keeper() {
    with_host(async |host| {
        let mut session = Session::start(host, "");
        let living = Session::start(host, "");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(session.keeper),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        session.kill();
        eventually(Duration::from_secs(5), || !session.has_container(host));
        assert!(living.has_container(host));
        let mut living = living;
        living.kill();
        eventually(Duration::from_secs(3), || !living.has_container(host));
        // The mount goes with the end of the next kernel that comes later, if not before.
        std::thread::sleep(Duration::from_secs(11));
        let mut next = Session::start(host, "");
        next.kill();
        eventually(Duration::from_secs(30), || !session.has_mount());
        std::fs::remove_dir_all(&session.folder).unwrap();
    });
}

#[test]
fn a_container_that_was_never_started_is_cleared_up_by_the_next() {
    with_host(async |host| {
        let owner = "heddle.owner";
        let living = Session::start(host, "");
        let id = &host.containers_of(living.workspace.path())[0];
        let label = host.docker_says(&[
            "inspect",
            "-f",
            &format!("{{{{index .Config.Labels {owner:?}}}}}"),
            id,
        ]);
        let dead = label.rsplitn(2, ' ').last().unwrap().to_owned() + " 1";
        let stray = host.docker_says(&[
            "create",
            "--label",
            &format!("{owner}={dead}"),
            &image::own_name(),
            "true",
        ]);
        let other = host.docker_says(&["create", &image::own_name(), "true"]);
        let there = |id: &str| host.docker(&["inspect", id]).status.success();
        assert!(there(&stray));
        let place = host.place(&image::own_name()).await;
        let mut kernel = place.start().await;
        kernel.printed("1").await;
        kernel.end().await;
        assert!(!there(&stray) && there(&other) && living.has_container(host));
        host.docker_says(&["rm", &other]);
        let mut living = living;
        living.kill();
    });
}

/// The next of a sequence of numbers that looks like chance (xorshift).
fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// What is left of a session on this machine: containers, processes, mounts, and files of its run folder.
fn left_of(host: &Host, workspace: &Path, runtime: &Path) -> Vec<String> {
    let mut left = host.containers_of(workspace);
    let name = workspace.to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&name))
            .map(str::to_owned),
    );
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let works_there =
            std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == workspace);
        if command.contains(&name) || works_there {
            left.push(format!("{} {command}", entry.path().display()));
        }
    }
    let folders = std::fs::read_dir(runtime).unwrap().flatten();
    left.extend(folders.map(|entry| entry.path().display().to_string()));
    left
}

#[test]
fn nothing_is_left_of_sessions_that_are_killed_at_any_moment() {
    // HEDDLE_TEST_KILLS makes it more, HEDDLE_TEST_SEED the same as before.
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let kills = number("HEDDLE_TEST_KILLS").unwrap_or(20);
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("HEDDLE_TEST_SEED").unwrap_or(clock).max(1);
    eprintln!("HEDDLE_TEST_SEED={seed}");
    with_host(async |host| {
        let mut random = seed;
        let mut living = [Session::start(host, ""), Session::start(host, "")];
        for round in 0..kills.div_ceil(3) {
            let mut running: Vec<_> = (0..3.min(kills - round * 3))
                .map(|_| {
                    let (workspace, runtime) =
                        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
                    // Some are on their way out by themselves.
                    let code = ["1", "import time; time.sleep(60)"][next(&mut random) as usize % 2];
                    let reach = ["", "apart"][next(&mut random) as usize % 2];
                    let session = host
                        .heddle(&["run", "--mode", "container", "-c", code])
                        .current_dir(workspace.path())
                        .env("XDG_RUNTIME_DIR", runtime.path())
                        .env("HEDDLE_CONTAINER_SOCKETS", reach)
                        .stdout(Stdio::null())
                        .spawn()
                        .unwrap();
                    (session, workspace, runtime)
                })
                .collect();
            for (session, ..) in &mut running {
                std::thread::sleep(Duration::from_millis(next(&mut random) % 700));
                session.kill().unwrap();
                session.wait().unwrap();
            }
            let started = std::time::Instant::now();
            for (_, workspace, runtime) in &running {
                loop {
                    let left = left_of(host, workspace.path(), runtime.path());
                    if left.is_empty() {
                        break;
                    }
                    assert!(
                        started.elapsed() < Duration::from_secs(3),
                        "round {round}: {left:#?}"
                    );
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
        for session in &mut living {
            assert!(session.has_container(host) && session.has_mount() && session.folder.exists());
            assert!(session.heddle.try_wait().unwrap().is_none());
            session.kill();
        }
    });
}
