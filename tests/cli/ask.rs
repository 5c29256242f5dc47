//! `heddle ask` where no model is needed: what comes of its options and of a replay.

use serde_json::json;

use super::heddle::Heddle;

/// A replay in which the Planner gives a task, or `code` with it.
fn replies(heddle: &Heddle, code: &str) -> String {
    let planner = json!({
        "plan": "1. count the rows", "code": code, "send_to": "CodeInterpreter", "message": "Count the rows",
    });
    let line = json!({
        "purpose": "planner", "reply": planner.to_string(),
        "messages": [{"role": "user", "content": "User: How many rows?"}],
    });
    let file = heddle.write("replies.jsonl", line.to_string());
    file.to_str().unwrap().to_owned()
}

#[test]
fn the_request_may_come_from_standard_input_and_code_alone_goes_to_standard_output() {
    let heddle = Heddle::new();
    let replay = replies(&heddle, "open('ran', 'w')");
    let args = [
        "ask", "-", "--no-run", "--mode", "local", "--replay", &replay,
    ];
    let ran = heddle.with_input("How many rows?", args).assert_code(0);
    assert_eq!(ran.out, "open('ran', 'w')\n");
    assert!(
        !ran.err.contains("recorded for another request"),
        "{}",
        ran.err
    );
    assert!(!heddle.cwd().join("ran").exists());
    heddle
        .with_input(" \n", args)
        .assert_code(2)
        .assert_err("error: the request is empty\n");
}

#[test]
fn a_plan_alone_goes_to_standard_output_and_a_replay_for_something_else_says_so() {
    let heddle = Heddle::new();
    let replay = replies(&heddle, "");
    let args = [
        "ask",
        "Which year?",
        "--plan-only",
        "--mode",
        "local",
        "--replay",
        &replay,
    ];
    let ran = heddle.run(args).assert_code(0);
    assert_eq!(ran.out, "1. count the rows\n");
    assert!(
        ran.err.contains("recorded for another request"),
        "{}",
        ran.err
    );
}
