//! `heddle session list`, `show` and `export`, on sessions that the demo made.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::heddle::{Heddle, finish, managed_python};
use crate::notebooks::assert_valid;

#[test]
fn an_empty_workspace_says_how_to_begin() {
    let heddle = Heddle::bare();
    let root = heddle.path("workspace");
    let message = format!(
        "No sessions in {} yet. Begin one: heddle chat\n",
        root.display()
    );
    heddle.run(["session", "list"]).assert_done(&message);
    heddle.run(["session", "list", "--json"]).assert_done("");
    for args in [
        &["session", "show"][..],
        &["session", "export"],
        &["session", "resume"],
    ] {
        if args[1] == "resume" {
            continue; // It asks for a model first.
        }
        let message = format!(
            "error: no session \"last\" in {}. See: heddle session list\n",
            root.display()
        );
        heddle
            .run(args)
            .assert_code(2)
            .assert_out("")
            .assert_err(&message);
    }
}

#[test]
fn what_was_done_can_be_listed_shown_and_exported() {
    let heddle = Heddle::new();
    heddle.run(["demo"]).assert_code(0);

    let list = heddle
        .run(["session", "list", "--json"])
        .assert_code(0)
        .assert_err("");
    let summary: Value = serde_json::from_str(&list.out).unwrap();
    let id = summary["id"].as_str().unwrap();
    assert_eq!(
        (&summary["rounds"], &summary["cells"], &summary["status"]),
        (&3.into(), &3.into(), &"ok".into())
    );
    let list = heddle
        .run(["session", "list"])
        .assert_code(0)
        .assert_err("");
    let lines: Vec<&str> = list.out.lines().collect();
    assert_eq!(lines.len(), 2, "{list:?}");
    assert!(
        lines[1].starts_with(&format!(
            "{id}  3         3      ok      –       How did sales go?"
        )),
        "{list:?}"
    );

    // All of it on standard output, for a pager: request, plan, code, what was printed, files, answer.
    let shown = heddle
        .run(["session", "show", &id[..12]])
        .assert_code(0)
        .assert_err("");
    let mut rest = shown.out.as_str();
    for part in [
        "> How did sales go?",
        "◆ Plan",
        "◆ Code",
        "import pandas",
        "│ 108 rows",
        "Total revenue **581,698.00**",
        "> Plot the monthly",
        "revenue.png (image/png)",
        "> Make a small web page",
        "report.html (text/html)",
    ] {
        let at = rest
            .find(part)
            .unwrap_or_else(|| panic!("{part} is missing, or not in its place: {shown:?}"));
        rest = &rest[at + part.len()..];
    }
    let events = heddle
        .run(["session", "show", "--json"])
        .assert_code(0)
        .assert_err("");
    assert_eq!(events.events_of("user").len(), 3);
    assert_eq!(events.events_of("answer").len(), 3);

    let out = heddle
        .run(["session", "export", "-o", "-"])
        .assert_code(0)
        .assert_err("")
        .out;
    assert_valid(&serde_json::from_str(&out).unwrap());
    heddle
        .run(["session", "export", id, "-o", "it.ipynb"])
        .assert_done("it.ipynb\n");
    assert_eq!(
        std::fs::read_to_string(heddle.cwd().join("it.ipynb")).unwrap(),
        out
    );
    heddle
        .run(["session", "export"])
        .assert_done(&format!("{id}.ipynb\n"));

    // The notebook runs: where it is exported to, beside the data.
    heddle.write("sales.csv", include_str!("../../config/demo/sales.csv"));
    let ran = heddle
        .run(["run", "it.ipynb", "-o", "again.ipynb"])
        .assert_code(0);
    assert!(ran.out.contains("Total revenue 581,698.00"), "{ran:?}");

    for wrong in ["../x", "/etc", "nosuch", ""] {
        let message = format!(
            "error: no session {wrong:?} in {}. See: heddle session list\n",
            heddle.path("workspace").display()
        );
        for command in ["show", "export"] {
            heddle
                .run(["session", command, wrong])
                .assert_code(2)
                .assert_out("")
                .assert_err(&message);
        }
    }
}

/// What earlier versions have left: everything of a session in the workspace.
#[test]
fn a_log_that_code_could_change_is_shown_with_a_word_and_gone_on_with_only_when_imported() {
    let heddle = Heddle::bare();
    let id = "20260101-120000-0123abcd";
    let folder = heddle.path("workspace/sessions").join(id);
    std::fs::create_dir_all(folder.join("cwd")).unwrap();
    let log = folder.join("events.jsonl");
    let line = |message: &str| {
        format!(
            "{{\"ts\":\"2026-01-01T12:00:00Z\",\"event\":\"user\",\"message\":\"{message}\"}}\n"
        )
    };
    std::fs::write(&log, line("mine")).unwrap();
    let import = format!("heddle session import {id}");

    let list = heddle.run(["session", "list"]).assert_code(0);
    assert!(list.out.contains("  unprotected  "), "{list:?}");
    assert!(
        list.err.contains("written where code could change it"),
        "{list:?}"
    );
    let listed: Value =
        serde_json::from_str(&heddle.run(["session", "list", "--json"]).out).unwrap();
    assert_eq!(listed["log"], "unprotected");
    let shown = heddle.run(["session", "show", id]).assert_code(0);
    assert!(
        shown.out.contains("> mine") && shown.err.contains(&import),
        "{shown:?}"
    );
    let resume = ["ask", "--mode", "local", "--session", "last", "go on"];
    let resuming = || {
        let mut command = heddle.command(resume);
        command
            .env("LLM_MODEL", "mock")
            .env("LLM_API_BASE", "http://127.0.0.1:9/v1");
        finish(command.spawn().unwrap())
    };
    managed_python();
    let refused = resuming().assert_code(2);
    assert!(refused.err.contains(&import), "{refused:?}");
    for command in ["connect", "stop"] {
        let refused = heddle.run(["session", command, id]).assert_code(2);
        assert!(refused.err.contains(&import), "{refused:?}");
    }

    let imported = heddle.run(["session", "import"]).assert_code(0);
    assert!(
        imported.out.contains(id) && imported.out.contains("mine"),
        "{imported:?}"
    );
    // From now on the old one can say what it wants.
    std::fs::write(&log, line("forged")).unwrap();
    let shown = heddle
        .run(["session", "show"])
        .assert_code(0)
        .assert_err("");
    assert!(
        shown.out.contains("> mine") && !shown.out.contains("forged"),
        "{shown:?}"
    );
    let list = heddle
        .run(["session", "list"])
        .assert_code(0)
        .assert_err("");
    assert!(list.out.contains("  open  "), "{list:?}");
    let again = heddle.run(["session", "import", id]).assert_code(2);
    assert!(again.err.contains("Nothing is to be done"), "{again:?}");
    // It is gone on with: as far as a model is asked, which is not there.
    let ran = resuming().assert_code(3);
    assert!(!ran.err.contains("import"), "{ran:?}");
}

#[test]
fn a_link_in_the_place_of_a_projects_workspace_is_not_followed() {
    let heddle = Heddle::bare();
    heddle.write("heddle.toml", "");
    let precious = heddle.path("precious");
    std::fs::create_dir(&precious).unwrap();
    symlink(&precious, heddle.cwd().join("workspace")).unwrap();
    let mut command = heddle.command(["session", "list"]);
    command.env_remove("HEDDLE_WORKSPACE_WORKSPACE_PATH");
    let refused = finish(command.spawn().unwrap()).assert_code(2);
    for part in [
        "workspace.workspace_path",
        "the link",
        precious.to_str().unwrap(),
    ] {
        assert!(refused.err.contains(part), "{refused:?}");
    }
}
