use std::fs;

use proptest::strategy::Strategy;

use super::*;
use crate::event::Status;

fn user(message: &str) -> Event {
    Event::User {
        message: message.into(),
        files: vec![],
    }
}

fn done(status: Status) -> Event {
    Event::Done {
        status,
        execution_count: None,
        seconds: 0.0,
    }
}

fn executed() -> Event {
    Event::Executed {
        status: Status::Ok,
        execution_count: Some(1),
        seconds: 0.0,
    }
}

/// A session with these events, its log last written `age` seconds ago.
fn session(root: &Path, age: u64, events: &[Event]) -> SessionId {
    let mut session = Session::create(root).unwrap();
    for event in events {
        session.emit(event.clone());
    }
    assert!(session.log().take_error().is_none());
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
    let log = fs::File::options()
        .append(true)
        .open(session.workspace().log())
        .unwrap();
    log.set_modified(then).unwrap();
    session.id().clone()
}

#[test]
fn a_session_is_gone_on_with_from_where_it_was() {
    let root = tempfile::tempdir().unwrap();
    let id = session(root.path(), 0, &[user("one"), done(Status::Ok)]);
    let mut again = Session::open(root.path(), &id).unwrap();
    assert!(
        again
            .earlier()
            .events()
            .eq(&[user("one"), done(Status::Ok)])
    );
    assert!(again.take_notices().is_empty());
    again.emit(user("two"));
    let all = read(root.path(), &id).unwrap();
    assert!(
        all.events()
            .eq(&[user("one"), done(Status::Ok), user("two")])
    );
    let message = Session::open(root.path(), &id).unwrap_err().to_string();
    assert!(message.contains("in use by process"), "{message}");
}

#[test]
fn what_was_found_damaged_is_told_once() {
    let root = tempfile::tempdir().unwrap();
    let id = session(root.path(), 0, &[user("one")]);
    let log = Workspace::at(root.path(), &id).log();
    let mut bytes = fs::read(&log).unwrap();
    bytes.extend(b"damaged\n{\"ts\":\"2026");
    fs::write(&log, bytes).unwrap();
    let mut again = Session::open(root.path(), &id).unwrap();
    let notices = again.take_notices();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(again.take_notices().is_empty());
    assert!(again.earlier().events().eq(&[user("one")]));
}

#[test]
fn the_list_shows_the_last_used_first_and_only_sessions() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(list(root.path()).unwrap(), []);
    let old = session(
        root.path(),
        100,
        &[
            user("first"),
            executed(),
            executed(),
            done(Status::Error),
            user("second"),
        ],
    );
    let new = session(root.path(), 50, &[user("x"), done(Status::Interrupted)]);
    let empty = session(root.path(), 200, &[]);
    let sessions = root.path().join("sessions");
    fs::create_dir_all(sessions.join("20260101-000000-01234567/ces")).unwrap();
    fs::create_dir_all(sessions.join("20260101-000000-01234568/events.jsonl")).unwrap();
    fs::create_dir(sessions.join("notes")).unwrap();
    fs::write(sessions.join("20260101-000000-01234569"), "").unwrap();
    let all = list(root.path()).unwrap();
    let ids: Vec<&SessionId> = all.iter().map(|summary| &summary.id).collect();
    assert_eq!(ids, [&new, &old, &empty]);
    assert_eq!(all[0].status, Some(Status::Interrupted));
    assert_eq!((all[1].rounds, all[1].cells, all[1].status), (2, 2, None));
    assert_eq!(all[1].first_message.as_deref(), Some("first"));
    assert!(all[1].started.unwrap() <= all[1].last.unwrap());
    assert_eq!((all[2].started, all[2].rounds), (None, 0));
}

#[test]
fn a_session_is_found_by_last_id_or_beginning() {
    let root = tempfile::tempdir().unwrap();
    let message = resolve(root.path(), "last").unwrap_err().to_string();
    assert!(message.contains("heddle session list"), "{message}");
    let old = session(root.path(), 100, &[]);
    let new = session(root.path(), 50, &[]);
    assert_eq!(resolve(root.path(), "last").unwrap(), new);
    assert_eq!(resolve(root.path(), old.as_str()).unwrap(), old);
    // Beyond the time, which both may share, the first random digit; should that be shared too, the whole id.
    let common = old
        .as_str()
        .bytes()
        .zip(new.as_str().bytes())
        .take_while(|(a, b)| a == b)
        .count();
    assert_eq!(
        resolve(root.path(), &old.as_str()[..common + 1]).unwrap(),
        old
    );
    let message = resolve(root.path(), &old.as_str()[..4])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains(old.as_str()) && message.contains(new.as_str()),
        "{message}"
    );
    assert!(message.contains("2 sessions"), "{message}");
    for text in ["", "..", "../../etc", "x", "20260101-000000-00000000"] {
        let fault = resolve(root.path(), text);
        assert!(
            matches!(fault, Err(SessionError::NotFound { .. })),
            "{text}: {fault:?}"
        );
    }
}

#[test]
fn a_session_that_is_not_there_is_not_made_by_opening_it() {
    let root = tempfile::tempdir().unwrap();
    let id = SessionId::generate();
    assert!(matches!(
        Session::open(root.path(), &id),
        Err(SessionError::NotFound { .. })
    ));
    assert!(matches!(
        read(root.path(), &id),
        Err(SessionError::NotFound { .. })
    ));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

proptest::proptest! {
    #[test]
    fn any_bytes_in_a_log_are_listed_opened_and_exported(
        lines in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::collection::vec(proptest::num::u8::ANY, 0..40),
                proptest::sample::select(LINES).prop_map(|line| line.as_bytes().to_vec()),
            ],
            0..30,
        )
    ) {
        let root = tempfile::tempdir().unwrap();
        let id = session(root.path(), 0, &[]);
        fs::write(Workspace::at(root.path(), &id).log(), lines.join(&b'\n')).unwrap();
        proptest::prop_assert_eq!(list(root.path()).unwrap().len(), 1);
        let session = Session::open(root.path(), &id).unwrap();
        history::successful_cells(session.earlier().events());
        let notebook = export::notebook(session.earlier().events());
        let mut bytes = Vec::new();
        notebook.write_to(&mut bytes).unwrap();
        proptest::prop_assert_eq!(crate::notebook::Notebook::parse(&bytes).unwrap(), notebook);
    }
}

/// Events that change what others mean.
const LINES: &[&str] = &[
    r##"{"event":"user","message":"# <m> $x$"}"##,
    r#"{"event":"plan","init_plan":"","plan":"p","current_plan_step":""}"#,
    r#"{"event":"code","code":"1","attempt":1}"#,
    r#"{"event":"stream","name":"stdout","text":"a\n"}"#,
    r#"{"event":"display","data":{"text/plain":5},"display_id":"d"}"#,
    r#"{"event":"display","data":{"text/plain":"x"},"display_id":"d","update":true}"#,
    r#"{"event":"clear_output","wait":true}"#,
    r#"{"event":"clear_output","wait":false}"#,
    r#"{"event":"executed","status":"ok","execution_count":1,"seconds":0}"#,
    r#"{"event":"kernel","state":"lost","reason":"\\r"}"#,
    r#"{"event":"answer","message":"a"}"#,
    r#"{"event":"done","status":"ok","execution_count":1,"seconds":0}"#,
];
