//! `heddle doctor`: one line for each thing that Heddle needs, and what to do where it is not there.

use serde_json::Value;

use crate::heddle::Heddle;

#[test]
fn each_check_has_a_verdict_and_what_is_not_right_a_way_on() {
    let heddle = Heddle::new();
    let ran = heddle.run(["doctor", "--json"]);
    let checks: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let verdict = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("{name} is not checked: {ran:?}"))["verdict"].clone()
    };
    for check in &checks {
        let well = check["verdict"] == "pass";
        assert!(well || check["next"].is_string(), "no way on: {check}");
    }
    assert_eq!(verdict("Python"), "pass");
    assert_eq!(verdict("configuration"), "pass");
    assert_eq!(verdict("model"), "warn", "no model is configured here");
    // A cell runs in the mode that is used by itself, where there is one.
    if verdict("sandbox") == "pass" {
        assert_eq!(verdict("a trial"), "pass", "{ran:?}");
        ran.assert_code(0);
    }
}
