//! `heddle config show`, and settings that cannot be read.

use std::os::unix::fs::PermissionsExt;

use crate::heddle::{Heddle, Ran, finish};

fn show(heddle: &Heddle) -> Ran {
    heddle.run(["config", "show"])
}

/// The line of a key, columns apart by one space.
fn line(ran: &Ran, key: &str) -> String {
    let line = ran
        .out
        .lines()
        .find(|line| line.starts_with(&format!("{key} ")));
    line.unwrap()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn each_setting_has_its_value_and_where_it_came_from() {
    let heddle = Heddle::bare();
    heddle.write("heddle.toml", "[llm]\nmodel = \"m\"\n");
    let user = heddle.path("config").join("heddle");
    std::fs::create_dir_all(&user).unwrap();
    std::fs::write(user.join("config.toml"), "[llm]\nmodel = \"u\"\nseed = 7\n").unwrap();
    let mut command = heddle.command(["config", "show"]);
    command.env("LLM_TEMPERATURE", "0.5");
    let ran = finish(command.spawn().unwrap())
        .assert_code(0)
        .assert_err("");
    assert_eq!(line(&ran, "llm.model"), "llm.model m heddle.toml:2");
    assert!(line(&ran, "llm.seed").starts_with("llm.seed 7 "), "{ran:?}");
    assert!(line(&ran, "llm.seed").contains("config.toml:3"), "{ran:?}");
    assert_eq!(
        line(&ran, "llm.temperature"),
        "llm.temperature 0.5 env LLM_TEMPERATURE"
    );
    assert_eq!(
        line(&ran, "kernel.transport"),
        "kernel.transport ipc default"
    );
    let json = heddle.run(["config", "show", "--json"]).assert_code(0);
    let first: serde_json::Value = serde_json::from_str(json.out.lines().next().unwrap()).unwrap();
    assert_eq!(
        first,
        serde_json::json!({"key": "llm.api_type", "value": "openai", "source": "default"})
    );
}

#[test]
fn a_key_is_never_shown() {
    let heddle = Heddle::bare();
    let file = heddle.write("heddle.toml", "[llm]\napi_key = \"sk-verysecret\"\n");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    for args in [
        &["--trust", "config", "show"][..],
        &["config", "show", "--json"],
    ] {
        let ran = heddle.run(args).assert_code(0);
        assert!(!format!("{ran:?}").contains("verysecret"), "{ran:?}");
        assert!(
            ran.err
                .contains("other users of this machine can read it (mode 0644): run `chmod 600 "),
            "{ran:?}"
        );
    }
    assert_eq!(
        line(&heddle.run(["--trust", "config", "show"]), "llm.api_key"),
        "llm.api_key set (hidden) heddle.toml:2"
    );
    heddle.write("heddle.toml", "[llm]\napi_key = [\"sk-verysecret\"]\n");
    let ran = show(&heddle).assert_code(2);
    assert!(!format!("{ran:?}").contains("verysecret"), "{ran:?}");
}

#[test]
fn a_taskweaver_project_is_read_as_it_is() {
    let heddle = Heddle::bare();
    let file = heddle.write(
        "taskweaver_config.json",
        "{\n \"llm.api_key\": \"sk-verysecret\",\n \"llm.model\": \"gpt\",\n \"planner.prompt_compression\": true\n}",
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ran = show(&heddle).assert_code(0);
    assert_eq!(
        line(&ran, "llm.model"),
        "llm.model gpt taskweaver_config.json:3"
    );
    assert!(
        ran.err.contains("planner.prompt_compression"),
        "what has no effect is said: {ran:?}"
    );
    assert!(!format!("{ran:?}").contains("verysecret"), "{ran:?}");
}

#[test]
fn settings_that_cannot_be_read_are_told_with_file_line_and_what_is_right() {
    let heddle = Heddle::bare();
    let cases = [
        (
            "[llm]\nmodel = \"x\"\nmodell = \"y\"\n",
            ":3: unknown key `llm.modell`: did you mean `llm.model`?\n",
        ),
        (
            "[llm]\ntemperature = \"hot\"\n",
            ":2: llm.temperature must be a number from 0 to 2, but is the text \"hot\"\n",
        ),
        (
            "[llm]\nmodel = \n",
            ":2:9: not valid TOML: string values must be quoted, expected literal string\n",
        ),
    ];
    for (text, message) in cases {
        let file = heddle.write("heddle.toml", text).canonicalize().unwrap();
        let message = format!("error: {}{message}", file.display());
        for args in [
            &["config", "show"][..],
            &["run", "-c", "1"],
            &["session", "list"],
        ] {
            heddle
                .run(args)
                .assert_code(2)
                .assert_out("")
                .assert_err(&message);
        }
    }
}

#[test]
fn a_project_folder_that_is_not_there_is_wrong_use() {
    let message = "error: the project folder /nosuch does not exist or is not a folder: give -p the folder that holds \
                   heddle.toml or taskweaver_config.json\n";
    Heddle::bare()
        .run(["-p", "/nosuch", "config", "show"])
        .assert_code(2)
        .assert_err(message);
}
