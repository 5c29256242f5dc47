//! `heddle session list`, `show` and `export`, on sessions that the demo made.

use serde_json::Value;

use crate::heddle::Heddle;
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
