//! `heddle doctor`: one line for each thing that Heddle needs, and what to do where it is not there.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use serde_json::Value;

use crate::heddle::{Heddle, finish, managed_python};
use crate::python::with_fake_python;

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

#[test]
fn all_faults_of_the_configuration_are_told_and_everything_else_is_checked() {
    let heddle = Heddle::new();
    let file = heddle.write(
        "heddle.toml",
        "[llm]\nmodle = \"m\"\napi_key = \"sk-x\"\n[execution_service]\nkernel_mod = \"local\"\nnetwork = \"maybe\"\n",
    );
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = heddle.run(["doctor", "--model"]).assert_code(1);
    for told in [
        "heddle.toml:2: unknown key `llm.modle`: did you mean `llm.model`?",
        "heddle.toml:5: unknown key `execution_service.kernel_mod`: did you mean `execution_service.kernel_mode`?",
        "heddle.toml:6: execution_service.network must be",
        "other users of this machine can read it",
        "no model is named",
        "not asked, since the configuration has faults",
        "free for sessions",
        "a trial",
    ] {
        assert!(ran.out.contains(told), "{told}\n{}", ran.out);
    }
}

#[test]
fn making_the_python_environment_is_shown_and_is_no_part_of_the_trial() {
    const MAKING: f64 = 6.0;
    let heddle = Heddle::bare();
    // Its `venv` takes a while, and gives an environment that is ready.
    let pip = "exit 0";
    let venv = format!(
        r#"/bin/mkdir -p "$3/bin"; printf '#!/bin/sh\nexec {} "$@"\n' > "$3/bin/python"; /bin/chmod 755 "$3/bin/python"; /bin/sleep {MAKING}"#,
        managed_python().display()
    );
    with_fake_python(&heddle, "[3, 12]", &venv, pip);
    let mut command = heddle.command(["doctor", "--json"]);
    command
        .env("XDG_DATA_HOME", heddle.path("data"))
        .env("XDG_CACHE_HOME", heddle.path("cache"));
    let started = Instant::now();
    let ran = finish(command.spawn().unwrap());
    let took = started.elapsed().as_secs_f64();
    let checks: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.and_then(|check| check["found"].as_str())
    };
    let Some(trial) = found("a trial").filter(|it| it.contains("in sandbox mode")) else {
        return eprintln!("skipped: no cell runs in a sandbox here: {ran:?}");
    };
    assert!(
        ran.err.contains("Preparing a Python environment in "),
        "{ran:?}"
    );
    assert!(found("Python environment").unwrap().starts_with("made"));
    let words: Vec<&str> = trial.split(' ').collect();
    let at = words.iter().position(|word| *word == "from").unwrap();
    let seconds: f64 = words[at - 2].parse().unwrap();
    assert!(took - seconds >= MAKING, "{seconds} of {took}: {ran:?}");
}
