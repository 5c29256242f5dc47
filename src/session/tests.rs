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

/// A workspace and a state folder.
fn place() -> (tempfile::TempDir, Sessions) {
    let folder = tempfile::tempdir().unwrap();
    let sessions = Sessions::with_state(&folder.path().join("state"), &folder.path().join("w"));
    (folder, sessions)
}

/// A log as earlier versions have left it in the workspace.
fn unprotected(sessions: &Sessions, events: &[Event]) -> SessionId {
    let id = session(sessions, 0, events);
    let (place, state) = (sessions.place(&id), sessions.place(&id).state().to_owned());
    fs::rename(place.log(), place.folder().join("events.jsonl")).unwrap();
    fs::remove_dir_all(state).unwrap();
    id
}

/// A session with these events, its log last written `age` seconds ago.
fn session(sessions: &Sessions, age: u64, events: &[Event]) -> SessionId {
    let mut session = Session::create(sessions).unwrap();
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
    let (_folder, sessions) = place();
    let id = session(&sessions, 0, &[user("one"), done(Status::Ok)]);
    let mut again = Session::open(&sessions, &id).unwrap();
    assert!(
        again
            .earlier()
            .events()
            .eq(&[user("one"), done(Status::Ok)])
    );
    assert!(again.take_notices().is_empty());
    again.emit(user("two"));
    let all = read(&sessions, &id).unwrap();
    assert!(
        all.events()
            .eq(&[user("one"), done(Status::Ok), user("two")])
    );
    let message = Session::open(&sessions, &id).unwrap_err().to_string();
    assert!(message.contains("in use by process"), "{message}");
}

#[test]
fn what_was_found_damaged_is_told_once() {
    let (_folder, sessions) = place();
    let id = session(&sessions, 0, &[user("one")]);
    let log = sessions.place(&id).log();
    let mut bytes = fs::read(&log).unwrap();
    bytes.extend(b"damaged\n{\"ts\":\"2026");
    fs::write(&log, bytes).unwrap();
    let mut again = Session::open(&sessions, &id).unwrap();
    let notices = again.take_notices();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(again.take_notices().is_empty());
    assert!(again.earlier().events().eq(&[user("one")]));
}

#[test]
fn the_list_shows_the_last_used_first_and_only_sessions() {
    let (_folder, sessions) = place();
    assert_eq!(list(&sessions).unwrap(), []);
    let old = session(
        &sessions,
        100,
        &[
            user("first"),
            executed(),
            executed(),
            done(Status::Error),
            user("second"),
        ],
    );
    let new = session(&sessions, 50, &[user("x"), done(Status::Interrupted)]);
    let empty = session(&sessions, 200, &[]);
    let folder = sessions.root().join("sessions");
    fs::create_dir_all(folder.join("20260101-000000-01234567/ces")).unwrap();
    fs::create_dir_all(folder.join("20260101-000000-01234568/events.jsonl")).unwrap();
    fs::create_dir(folder.join("notes")).unwrap();
    fs::write(folder.join("20260101-000000-01234569"), "").unwrap();
    let all = list(&sessions).unwrap();
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
    let (_folder, sessions) = place();
    let message = resolve(&sessions, "last").unwrap_err().to_string();
    assert!(message.contains("heddle session list"), "{message}");
    let old = session(&sessions, 100, &[]);
    let new = session(&sessions, 50, &[]);
    assert_eq!(resolve(&sessions, "last").unwrap(), new);
    assert_eq!(resolve(&sessions, old.as_str()).unwrap(), old);
    // Beyond the time, which both may share, the first random digit; should that be shared too, the whole id.
    let common = old
        .as_str()
        .bytes()
        .zip(new.as_str().bytes())
        .take_while(|(a, b)| a == b)
        .count();
    assert_eq!(
        resolve(&sessions, &old.as_str()[..common + 1]).unwrap(),
        old
    );
    let message = resolve(&sessions, &old.as_str()[..4])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains(old.as_str()) && message.contains(new.as_str()),
        "{message}"
    );
    assert!(message.contains("2 sessions"), "{message}");
    for text in ["", "..", "../../etc", "x", "20260101-000000-00000000"] {
        let fault = resolve(&sessions, text);
        assert!(
            matches!(fault, Err(SessionError::NotFound { .. })),
            "{text}: {fault:?}"
        );
    }
}

#[test]
fn a_session_that_is_not_there_is_not_made_by_opening_it() {
    let (folder, sessions) = place();
    let id = SessionId::generate();
    assert!(matches!(
        Session::open(&sessions, &id),
        Err(SessionError::NotFound { .. })
    ));
    assert!(matches!(
        read(&sessions, &id),
        Err(SessionError::NotFound { .. })
    ));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_workspace_has_its_own_sessions_and_no_others() {
    let (folder, sessions) = place();
    let state = folder.path().join("state");
    let id = session(&sessions, 0, &[user("mine")]);
    let other = Sessions::with_state(&state, &folder.path().join("other"));
    assert_eq!(list(&other).unwrap(), []);
    assert!(Session::open(&other, &id).is_err() && read(&other, &id).is_err());
    // By another name of the same folder they are the same.
    std::os::unix::fs::symlink("w", folder.path().join("link")).unwrap();
    let linked = Sessions::with_state(&state, &folder.path().join("link"));
    assert_eq!(list(&linked).unwrap().len(), 1);
    // And where it was moved to, with a link in its old place.
    fs::rename(folder.path().join("w"), folder.path().join("moved")).unwrap();
    std::os::unix::fs::symlink("moved", folder.path().join("w")).unwrap();
    let moved = Sessions::with_state(&state, &folder.path().join("moved"));
    assert_eq!(list(&moved).unwrap().len(), 1);
}

#[test]
fn a_moved_workspace_has_its_sessions_when_they_are_taken_over() {
    let (folder, sessions) = place();
    let state = folder.path().join("state");
    let id = session(&sessions, 0, &[user("mine")]);
    let moved = Sessions::with_state(&state, &folder.path().join("moved"));
    // A copy does not take it away from where it is.
    fs::create_dir_all(moved.place(&id).cwd()).unwrap();
    assert_eq!(moved.moved().unwrap(), []);
    fs::remove_dir_all(sessions.root()).unwrap();
    assert_eq!(moved.moved().unwrap(), std::slice::from_ref(&id));
    moved.adopt(&id).unwrap();
    assert_eq!(moved.moved().unwrap(), []);
    assert_eq!(list(&moved).unwrap().len(), 1);
    assert_eq!(list(&sessions).unwrap(), []);
    assert!(
        Session::open(&moved, &id)
            .unwrap()
            .earlier()
            .events()
            .eq(&[user("mine")])
    );
}

#[test]
fn a_log_in_the_workspace_is_shown_and_not_gone_on_with_until_it_is_imported() {
    let (folder, sessions) = place();
    let id = unprotected(&sessions, &[user("old"), done(Status::Ok)]);
    let log = sessions.place(&id).folder().join("events.jsonl");
    assert!(!list(&sessions).unwrap()[0].protected);
    assert_eq!(resolve(&sessions, "last").unwrap(), id);
    let shown = read(&sessions, &id).unwrap();
    assert_eq!(shown.entries.len(), 2);
    let warning = shown.warning.unwrap();
    assert!(warning.contains("where code could change it"), "{warning}");
    let command = format!("heddle session import {id}");
    assert!(warning.contains(&command), "{warning}");
    let refused = Session::open(&sessions, &id).unwrap_err().to_string();
    assert!(refused.contains(&command), "{refused}");

    // One that is protected is meant before one that is not.
    let new = session(&sessions, 1000, &[user("new")]);
    assert_eq!(resolve(&sessions, "last").unwrap(), new);

    sessions.import(&id).unwrap();
    let imported = list(&sessions).unwrap();
    assert!(imported.iter().all(|summary| summary.protected));
    // What happens to the old log has no effect any more.
    fs::write(&log, "{\"event\":\"user\",\"message\":\"forged\"}\n").unwrap();
    let again = Session::open(&sessions, &id).unwrap();
    assert!(
        again
            .earlier()
            .events()
            .eq(&[user("old"), done(Status::Ok)])
    );
    let refused = sessions.import(&id).unwrap_err().to_string();
    assert!(refused.contains("is there already"), "{refused}");
    let staged = fs::read_dir(folder.path().join("state/sessions")).unwrap();
    assert_eq!(staged.count(), 2);
}

#[test]
fn what_stands_in_the_place_of_an_old_log_is_not_followed() {
    let (folder, sessions) = place();
    let secret = folder.path().join("secret");
    fs::write(&secret, "{\"event\":\"user\",\"message\":\"secret\"}\n").unwrap();
    let id = unprotected(&sessions, &[user("x")]);
    let log = sessions.place(&id).folder().join("events.jsonl");
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink(&secret, &log).unwrap();
    assert_eq!(list(&sessions).unwrap(), []);
    assert!(read(&sessions, &id).is_err() && sessions.import(&id).is_err());
    fs::remove_file(&log).unwrap();
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(list(&sessions).unwrap(), []);
}

#[test]
fn code_that_writes_a_log_into_its_folders_changes_nothing() {
    let (_folder, sessions) = place();
    let id = session(&sessions, 0, &[user("true")]);
    let place = sessions.place(&id);
    let line = "{\"event\":\"user\",\"message\":\"forged\"}\n";
    let note = format!(
        "{{\"heddle_pid\":{},\"connection_file\":\"/forged\"}}",
        std::process::id()
    );
    for folder in [place.folder().to_owned(), place.cwd(), place.outputs()] {
        for (name, text) in [
            ("events.jsonl", line),
            ("gap", "!"),
            ("kept-kernel.json", &note),
            ("running-kernel.json", &note),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let listed = list(&sessions).unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].protected && !listed[0].incomplete);
    assert_eq!(listed[0].first_message.as_deref(), Some("true"));
    assert!(read(&sessions, &id).unwrap().events().eq(&[user("true")]));
    assert!(whereabouts::noted(&place, whereabouts::Way::Kept).is_none());
    assert_eq!(
        whereabouts::running(&sessions),
        [""; 0].map(std::path::PathBuf::from)
    );
    // The control: where notes are believed, these would have been.
    fs::write(place.state().join("kept-kernel.json"), &note).unwrap();
    assert!(whereabouts::noted(&place, whereabouts::Way::Kept).is_some());
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
        let (_folder, sessions) = place();
        let id = session(&sessions, 0, &[]);
        fs::write(sessions.place(&id).log(), lines.join(&b'\n')).unwrap();
        proptest::prop_assert_eq!(list(&sessions).unwrap().len(), 1);
        let session = Session::open(&sessions, &id).unwrap();
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
