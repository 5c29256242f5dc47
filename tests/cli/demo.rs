//! `heddle demo`: three tasks with a real kernel, and an answer that is what the kernel computed.

use std::path::PathBuf;

use serde_json::Value;

use crate::heddle::Heddle;
use crate::notebooks::assert_valid;

/// The numbers in a text, without the separators of thousands.
fn figures(text: &str) -> Vec<f64> {
    let text = text.replace(',', "");
    let number = |part: &str| part.trim_matches('.').parse().ok();
    text.split(|char: char| !char.is_ascii_digit() && char != '.')
        .filter_map(number)
        .collect()
}

#[test]
fn it_ends_with_the_files_and_says_where_they_are() {
    let heddle = Heddle::new();
    let ran = heddle.run(["demo"]).assert_code(0);
    assert!(
        ran.out.starts_with("Sales of 2025"),
        "the answers, alone: {ran:?}"
    );
    assert!(!ran.out.contains("◆"), "{ran:?}");
    assert!(
        ran.err
            .starts_with("A demonstration: the model's replies are recorded"),
        "{ran:?}"
    );

    let (_, farewell) = ran.err.split_once("\nFiles:\n").unwrap();
    let mut lines = farewell.lines();
    let mut path = || PathBuf::from(lines.next().unwrap().trim());
    let read = |path: PathBuf| {
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let (data, picture, page) = (path(), path(), path());
    assert!(
        data.starts_with(heddle.path("workspace").join("sessions")),
        "{ran:?}"
    );
    assert_eq!(read(data), std::fs::read("config/demo/sales.csv").unwrap());
    assert!(read(picture).starts_with(b"\x89PNG\r\n\x1a\n"));
    let page = String::from_utf8(read(page)).unwrap();
    assert!(
        page.starts_with("<!doctype html>") && page.contains("581,698"),
        "{page}"
    );
    assert_eq!(path(), PathBuf::from("Notebook of this session:"));
    let notebook: Value = serde_json::from_slice(&read(path())).unwrap();
    assert_valid(&notebook);
    assert!(
        farewell.contains("LLM_API_KEY"),
        "how to go on with a real model: {farewell}"
    );

    // Every command that it names, as it stands there.
    let show = farewell
        .lines()
        .find_map(|line| line.split_once(" session show "))
        .unwrap()
        .1;
    heddle.run(["session", "show", show]).assert_code(0);
}

#[test]
fn the_recorded_answer_has_no_figure_that_the_kernel_did_not_compute() {
    let ran = Heddle::new().run(["demo", "--json"]).assert_code(0);
    let events = ran.events();
    assert_eq!(events[0]["event"], "session");
    assert_eq!(
        (
            &events.last().unwrap()["event"],
            &events.last().unwrap()["status"]
        ),
        (&"done".into(), &"ok".into())
    );
    let answers = ran.events_of("answer");
    assert_eq!(answers.len(), 3);

    let end = events
        .iter()
        .position(|event| event["event"] == "answer")
        .unwrap();
    let mut computed = Vec::new();
    for event in &events[..end] {
        match event["event"].as_str().unwrap() {
            "stream" => computed.extend(figures(event["text"].as_str().unwrap())),
            "result" => computed.extend(figures(event["data"]["text/plain"].as_str().unwrap())),
            _ => {}
        }
    }
    let said = figures(answers[0]["message"].as_str().unwrap());
    assert!(said.len() > 10, "{said:?}");
    for figure in said {
        assert!(
            computed.contains(&figure),
            "{figure} is in the answer, and the kernel gave {computed:?}"
        );
    }
}
