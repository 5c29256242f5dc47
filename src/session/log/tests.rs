use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::*;
use crate::event::Status;

fn stream(text: &str) -> Event {
    Event::Stream {
        name: "stdout".into(),
        text: text.into(),
    }
}

fn done() -> Event {
    Event::Done {
        status: Status::Ok,
        execution_count: Some(1),
        seconds: 0.25,
    }
}

fn events(path: &Path) -> Vec<Event> {
    read(path).unwrap().events().cloned().collect()
}

#[test]
fn a_line_is_the_event_and_when_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let (mut log, notice) = Log::open(&path).unwrap();
    assert_eq!(notice, None);
    let before = Timestamp::now();
    log.append(&stream("你好\n")).unwrap();
    log.append(&Event::Delta {
        of: crate::event::Part::Answer,
        text: "shown, not kept".into(),
    })
    .unwrap();
    log.append(&done()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with(r#"{"ts":"20"#), "{text}");
    assert!(
        lines[0].ends_with(r#"Z","event":"stream","name":"stdout","text":"你好\n"}"#),
        "{text}"
    );
    let replay = read(&path).unwrap();
    assert_eq!(replay.entries[0].event, stream("你好\n"));
    assert_eq!(replay.entries[1].event, done());
    let ts = replay.entries[0].ts.unwrap();
    assert!(ts.as_microsecond() >= before.as_microsecond() && ts <= Timestamp::now());
    assert_eq!(replay.warning, None);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn every_kind_of_event_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let (mut log, _) = Log::open(&path).unwrap();
    let all: Vec<Event> = [
        r#"{"event":"session","id":"i","workspace":"w","mode":"local","kernel":"k","version":"1"}"#,
        r#"{"event":"user","message":"m","files":["a.csv"]}"#,
        r#"{"event":"plan","init_plan":"1","plan":"2","current_plan_step":"3"}"#,
        r#"{"event":"code","code":"1","thought":"","attempt":2}"#,
        r#"{"event":"display","data":{"text/plain":["a"]},"display_id":"d","update":true}"#,
        r#"{"event":"result","data":{"application/json":{"x":1.5}},"execution_count":18446744073709551615}"#,
        r#"{"event":"clear_output","wait":true}"#,
        r#"{"event":"error","ename":"E","evalue":"v","traceback":["\u001b[31mx"]}"#,
        r#"{"event":"artifact","path":"p","mime":"image/png"}"#,
        r#"{"event":"executed","status":"interrupted","execution_count":null,"seconds":1}"#,
        r#"{"event":"kernel","state":"lost","reason":"r"}"#,
        r#"{"event":"usage","prompt_tokens":1,"completion_tokens":2}"#,
        r#"{"event":"notice","level":"warning","message":"m"}"#,
        r#"{"event":"answer","message":"m"}"#,
    ]
    .iter()
    .map(|line| serde_json::from_str(line).unwrap())
    .collect();
    for event in &all {
        log.append(event).unwrap();
    }
    assert_eq!(events(&path), all);
}

#[test]
fn a_log_cut_at_any_byte_opens_keeps_the_whole_lines_and_takes_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let (mut log, _) = Log::open(&path).unwrap();
    let all = [stream("一"), stream(&"x".repeat(20)), done()];
    for event in &all {
        log.append(event).unwrap();
    }
    drop(log);
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        // A line without its newline is whole, too.
        let kept = (0..cut)
            .filter(|at| whole[at + 1..].first() == Some(&b'\n'))
            .count();
        let (mut log, notice) = Log::open(&path).unwrap();
        let torn = cut > 0 && whole[cut - 1] != b'\n' && whole.get(cut) != Some(&b'\n');
        assert_eq!(notice.is_some(), torn, "cut at {cut}: {notice:?}");
        log.append(&stream("new")).unwrap();
        let replay = read(&path).unwrap();
        let mut expected = all[..kept].to_vec();
        expected.push(stream("new"));
        assert!(replay.events().eq(&expected), "cut at {cut}");
        assert_eq!(replay.warning, None, "cut at {cut}");
    }
}

#[test]
fn a_torn_line_longer_than_one_block_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let (mut log, _) = Log::open(&path).unwrap();
    log.append(&done()).unwrap();
    log.append(&stream(&"x".repeat(50_000))).unwrap();
    drop(log);
    let len = fs::metadata(&path).unwrap().len();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(len - 3)
        .unwrap();
    assert!(Log::open(&path).unwrap().1.is_some());
    assert_eq!(events(&path), [done()]);
}

#[test]
fn lines_that_are_no_event_are_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let (mut log, _) = Log::open(&path).unwrap();
    log.append(&done()).unwrap();
    drop(log);
    let mut text = fs::read(&path).unwrap();
    text.extend(
        b"\0\0\0\xff\n\n{\"event\":\"of_tomorrow\"}\n{\"event\":\"answer\",\"message\":\"m\"}\n",
    );
    fs::write(&path, text).unwrap();
    let replay = read(&path).unwrap();
    assert_eq!(replay.entries.len(), 2);
    assert_eq!(replay.entries[1].ts, None);
    let warning = replay.warning.unwrap();
    assert!(
        warning.starts_with("2 line(s)") && warning.contains("line 2"),
        "{warning}"
    );
}

#[cfg(target_os = "linux")] // for /dev/full
#[test]
fn a_full_disk_is_an_error_each_time_and_remembered_by_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    symlink("/dev/full", &path).unwrap();
    let (mut log, _) = Log::open(&path).unwrap();
    for _ in 0..2 {
        let message = log.append(&done()).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
    log.emit(done());
    log.emit(done());
    assert!(log.take_error().is_some());
    assert!(log.take_error().is_none());
}

/// This test binary, running one of the tests below as a process of its own.
fn child(program: &str, args: &[&str], test: &str, log: &Path) -> Command {
    let mut child = Command::new(program);
    child
        .args(args)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(format!("session::log::tests::{test}"))
        .env("HEDDLE_TEST_LOG", log);
    child
}

/// Not a test of its own: what the next one kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os("HEDDLE_TEST_LOG") else {
        return;
    };
    let (mut log, _) = Log::open(Path::new(&path)).unwrap();
    for number in 0.. {
        log.append(&stream(&"x".repeat(5000))).unwrap();
        if number == 100 {
            println!("\nwriting");
        }
    }
}

#[test]
fn a_writer_killed_by_signal_9_frees_the_log_at_once_and_loses_at_most_one_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let mut child = child("env", &[], "child_that_writes_until_it_is_killed", &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    assert!(stdout.lines().any(|line| line.unwrap() == "writing"));
    let message = Log::open(&path).unwrap_err().to_string();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        message.contains(&format!("in use by process {} since", child.id())),
        "{message}"
    );
    let (mut log, _) = Log::open(&path).unwrap();
    log.append(&done()).unwrap();
    let replay = read(&path).unwrap();
    assert_eq!(replay.warning, None);
    assert!(replay.entries.len() > 100);
}

/// Not a test of its own: what the next one runs in a process with a limit on the size of files.
#[test]
fn child_that_fills_its_disk() {
    let Some(path) = std::env::var_os("HEDDLE_TEST_LOG") else {
        return;
    };
    let (mut log, _) = Log::open(Path::new(&path)).unwrap();
    let mut faults = 0;
    for _ in 0..200 {
        faults += u32::from(
            log.append(&stream("some text that fills the disk"))
                .is_err(),
        );
    }
    assert!(faults > 100, "{faults}");
    assert!(
        log.append(&done())
            .unwrap_err()
            .to_string()
            .contains("too large")
    );
}

#[test]
fn a_line_that_the_disk_took_only_in_part_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let limited = ["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""];
    let child = child("sh", &limited, "child_that_fills_its_disk", &path)
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
    let (mut log, notice) = Log::open(&path).unwrap();
    assert_eq!(notice, None, "the file ends with a whole line");
    log.append(&done()).unwrap();
    let replay = read(&path).unwrap();
    assert!(replay.entries.len() > 10, "{}", replay.entries.len());
    assert_eq!(replay.warning, None);
    assert_eq!(replay.entries.last().unwrap().event, done());
}

#[test]
fn two_writers_at_once_is_one_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let first = Log::open(&path).unwrap();
    assert!(matches!(Log::open(&path), Err(SessionError::Locked { .. })));
    assert!(read(&path).is_ok(), "reading needs no lock");
    drop(first);
    Log::open(&path).unwrap();
}

/// Not a test of its own: what the next one runs on a disk that is full until it is told otherwise.
#[test]
fn child_whose_disk_is_full_for_a_round() {
    let Some(path) = std::env::var_os("HEDDLE_TEST_LOG") else {
        return;
    };
    let path = Path::new(&path);
    let user = || Event::User {
        message: "m".into(),
        files: Vec::new(),
    };
    let (mut log, _) = Log::open(path).unwrap();
    log.append(&user()).unwrap();
    assert!(!Gap::is_noted(path));
    log.append(&stream(&"x".repeat(50_000))).unwrap_err();
    // There is room for it, but not for what came before it.
    let message = log.append(&done()).unwrap_err().to_string();
    assert!(message.contains("too large"), "{message}");
    assert!(Gap::is_noted(path));
    drop(log);
    let (mut log, _) = Log::open(path).unwrap();
    assert!(Gap::is_noted(path), "until the next round");
    log.append(&user()).unwrap();
    log.append(&done()).unwrap();
    assert!(!Gap::is_noted(path));
    let kinds: Vec<Event> = events(path);
    assert!(
        matches!(&kinds[..], [Event::User { .. }, Event::Notice { message, .. }, Event::User { .. }, Event::Done { .. }]
            if message.contains("are missing here")),
        "{kinds:?}"
    );
}

#[test]
fn a_round_that_could_not_be_written_is_left_out_as_a_whole_and_that_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let limited = ["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""];
    let child = child(
        "sh",
        &limited,
        "child_whose_disk_is_full_for_a_round",
        &path,
    )
    .output()
    .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
}

proptest::proptest! {
    #[test]
    fn any_bytes_open_and_take_a_line(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, &bytes).unwrap();
        let before = read(&path).unwrap().entries.len();
        let (mut log, _) = Log::open(&path).unwrap();
        log.append(&stream("new")).unwrap();
        let replay = read(&path).unwrap();
        proptest::prop_assert_eq!(replay.entries.len(), before + 1);
    }
}
