//! Heddles that are killed at any moment leave nothing behind, and leave others alone.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::everywhere;
use crate::place::{Mode, Place};

/// How many are killed in each place; `HEDDLE_TEST_DEATHS` says otherwise.
const DEATHS: usize = 12;
/// How many run at a time.
const AT_A_TIME: usize = 4;
/// What is theirs is gone this long after the last has died.
const GONE: Duration = Duration::from_secs(3);

/// A heddle whose code waits for a word.
struct Session(Child, BufReader<ChildStdout>);

impl Session {
    fn start(place: &Place, folder: &Path) -> Session {
        let mut child = heddle(place, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Session(child, output)
    }

    fn says(&mut self, what: &str) {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), what);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All that it makes outside its workspace is in `folder`.
fn heddle(place: &Place, folder: &Path) -> Command {
    let code = "
import os, time
print('running', flush=True)
while not os.path.exists('go'): time.sleep(0.1)
print('done')";
    let mark = format!("HEDDLE_MARK={}", mark(place));
    let mut command = place.command(&["run", "--env", &mark, "-c", code]);
    command
        .env("XDG_RUNTIME_DIR", folder)
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// In the command line or the environment of each process of this place's sessions.
fn mark(place: &Place) -> String {
    place.workspace.path().to_string_lossy().into_owned()
}

/// What sessions of this place have: processes, files, mounts, containers.
fn possessions(place: &Place, folder: &Path) -> Vec<String> {
    let mark = mark(place);
    let holds = |path: &Path, name: &str| {
        let bytes = std::fs::read(path.join(name)).unwrap_or_default();
        bytes
            .windows(mark.len())
            .any(|part| part == mark.as_bytes())
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let is_process = name.bytes().all(|byte| byte.is_ascii_digit());
        let is_this = name == std::process::id().to_string();
        if is_process && !is_this && (holds(&path, "cmdline") || holds(&path, "environ")) {
            found.push(format!("process {name}"));
        }
    }
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        found.push(entry.path().display().to_string());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = folder.to_string_lossy();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&*folder) || line.contains(&mark))
            .map(|line| format!("mount {line}")),
    );
    if let Mode::Container(_) = place.mode {
        let docker = |args: &[&str]| {
            let mut command = Command::new("docker");
            command.args(args).envs(place.surroundings.iter().cloned());
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        for id in docker(&["ps", "-aq", "--no-trunc"]).lines() {
            if docker(&["inspect", "-f", "{{.Config.WorkingDir}}", id]).contains(&mark) {
                found.push(format!("container {id}"));
            }
        }
    }
    found.sort();
    found
}

/// Numbers that only look random, between 0 and 1.
struct Numbers(u64);

impl Iterator for Numbers {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        Some((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[test]
fn nothing_is_left_of_heddles_that_are_killed_at_any_moment() {
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    everywhere(async |place| {
        // A short name: it is a part of those of sockets.
        let folder = tempfile::Builder::new()
            .prefix("hd")
            .tempdir_in("/var/tmp")
            .unwrap();
        let folder = folder.path();
        let started = Instant::now();
        let mut living = Session::start(&place, folder);
        living.says("running");
        let mut other = Session::start(&place, folder);
        let first = started.elapsed();
        let started = Instant::now();
        other.says("running");
        let ready = started.elapsed().min(first);
        let theirs = possessions(&place, folder);
        assert!(theirs.len() >= 6, "{theirs:?}");

        let seed = given("HEDDLE_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
        let deaths = given("HEDDLE_TEST_DEATHS").map_or(DEATHS, |number| number as usize);
        eprintln!("{deaths} deaths within {ready:?}, HEDDLE_TEST_SEED={seed}");
        let mut numbers = Numbers(seed);
        let mut doomed: VecDeque<(Child, Instant)> = VecDeque::new();
        for n in 0..deaths + AT_A_TIME {
            if n >= AT_A_TIME
                && let Some((mut child, when)) = doomed.pop_front()
            {
                std::thread::sleep(when.saturating_duration_since(Instant::now()));
                child.kill().unwrap();
                child.wait().unwrap();
            }
            if n < deaths {
                // With this many at a time all are slower.
                let life = ready.mul_f64(numbers.next().unwrap() * 2.5);
                let child = heddle(&place, folder).spawn().unwrap();
                doomed.push_back((child, Instant::now() + life));
            }
        }
        let last = Instant::now();
        while possessions(&place, folder) != theirs && last.elapsed() < GONE {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(
            possessions(&place, folder),
            theirs,
            "HEDDLE_TEST_SEED={seed}"
        );
        eprintln!("gone after {:?}", last.elapsed());

        std::fs::write(place.workspace.path().join("go"), "").unwrap();
        for session in [&mut living, &mut other] {
            session.says("done");
            assert!(session.0.wait().unwrap().success());
        }
        assert_eq!(possessions(&place, folder), Vec::<String>::new());
    });
}
