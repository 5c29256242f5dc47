//! `heddle check`: exit codes, what is told, and the lists of the project.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::heddle::{Heddle, finish};

#[test]
fn clean_code_gives_nothing_and_code_0() {
    let heddle = Heddle::bare();
    heddle.write("fine.py", "import pandas as pd\npd.read_csv('x.csv')\n");
    heddle.run(["check", "fine.py"]).assert_done("");
}

#[test]
fn what_is_no_file_is_refused_at_once_and_what_a_shell_hands_over_is_read() {
    let heddle = Heddle::bare();
    for name in ["pipe.py", "pipe.ipynb"] {
        let pipe = heddle.cwd().join(name);
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for command in ["check", "run"] {
            let ran = heddle.run([command, name]).assert_code(2);
            assert!(
                ran.err.contains("it is a pipe, and nobody may ever write"),
                "{ran:?}"
            );
        }
    }
    let ran = heddle.run(["check", "pipe.py"]).assert_code(2);
    assert!(ran.err.ends_with("heddle check - < pipe.py\n"), "{ran:?}");
    heddle.run(["check", "/dev/zero"]).assert_code(2);
    let ran = heddle
        .with_input("import os", ["check", "/dev/stdin"])
        .assert_code(1);
    assert!(ran.out.contains("The module `os`"), "{ran:?}");
    heddle.run(["check", "/dev/null"]).assert_done("");
}

#[test]
fn a_panic_of_the_parser_is_a_finding_and_nothing_else_is_said() {
    let heddle = Heddle::bare();
    heddle.write("odd.py", "{\\\n))% x=\n  ,");
    let ran = heddle
        .run(["check", "odd.py"])
        .assert_code(1)
        .assert_err("");
    assert!(ran.out.contains("it cannot be parsed"), "{ran:?}");
}

#[test]
fn each_finding_is_a_line_with_its_place_and_code_1() {
    let heddle = Heddle::bare();
    heddle.write("bad.py", "\u{feff}x = 1\nf = open\n!ls\n");
    let ran = heddle
        .run(["check", "bad.py"])
        .assert_code(1)
        .assert_err("");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    assert!(
        lines[0].starts_with("bad.py:2:5: The function `open` is not allowed. "),
        "{ran:?}"
    );
    assert!(
        lines[1].starts_with("bad.py:3:1: `ls` is a command for the shell. "),
        "{ran:?}"
    );
}

#[test]
fn a_notebook_is_checked_cell_by_cell_and_json_tells_the_same() {
    let heddle = Heddle::bare();
    let cell = |kind: &str, source: &str| json!({"cell_type": kind, "metadata": {}, "source": source, "outputs": [], "execution_count": null});
    let notebook = json!({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [
        cell("markdown", "import os"), cell("code", "x = 1"), cell("code", "x = 1\nimport os"),
        cell("code", "%%bash\nls"),
    ]});
    heddle.write("n.ipynb", notebook.to_string());
    let ran = heddle.run(["check", "n.ipynb"]).assert_code(1);
    assert!(
        ran.out.starts_with("n.ipynb:cell 3:2:8: The module `os`"),
        "{ran:?}"
    );
    let ran = heddle.run(["check", "n.ipynb", "--json"]).assert_code(1);
    let found: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (
            &found[0]["cell"],
            &found[0]["line"],
            &found[0]["column"],
            &found[0]["rule"]
        ),
        (&json!(3), &json!(2), &json!(8), &json!("module"))
    );
    assert_eq!(
        (&found[1]["cell"], &found[1]["rule"]),
        (&json!(4), &json!("shell"))
    );
}

#[test]
fn a_cell_of_a_notebook_is_checked_with_the_names_of_those_before() {
    let heddle = Heddle::bare();
    let cell = |source: &str| json!({"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": null});
    let cells = ["m = pd.io.common", "o = m.os; o.spawnl(0, '/bin/sh')"];
    let notebook =
        json!({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells.map(cell)});
    heddle.write("n.ipynb", notebook.to_string());
    let ran = heddle.run(["check", "n.ipynb"]).assert_code(1);
    assert!(
        ran.out
            .contains("n.ipynb:cell 2:1:11: `os.spawnl` runs another program"),
        "{ran:?}"
    );
    assert!(!ran.out.contains("cell 1:"), "{ran:?}");
}

#[test]
fn standard_input_is_checked_as_minus() {
    let heddle = Heddle::bare();
    let mut command = heddle.command(["check", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"eval('1')").unwrap();
    let ran = finish(child).assert_code(1);
    assert!(ran.out.starts_with("<stdin>:1:1: "), "{ran:?}");
}

#[test]
fn the_lists_of_the_project_count_and_an_empty_one_allows_nothing() {
    let heddle = Heddle::bare();
    heddle.write("x.py", "import os\nimport numpy\n");
    heddle.write(
        "heddle.toml",
        "[code_interpreter]\nallowed_modules = [\"os\"]\n",
    );
    let ran = heddle.run(["--trust", "check", "x.py"]).assert_code(1);
    assert!(
        ran.out
            .starts_with("x.py:2:8: The module `numpy` is not allowed. Allowed are: os."),
        "{ran:?}"
    );
    heddle.write("heddle.toml", "[code_interpreter]\nallowed_modules = []\n");
    assert_eq!(
        heddle
            .run(["--trust", "check", "x.py"])
            .assert_code(1)
            .out
            .lines()
            .count(),
        2
    );
    heddle.write(
        "heddle.toml",
        "[code_interpreter]\nblocked_modules = \"numpy, sys\"\n",
    );
    assert_eq!(
        heddle
            .run(["--trust", "check", "x.py"])
            .assert_code(1)
            .out
            .lines()
            .count(),
        1
    );
    heddle.write(
        "heddle.toml",
        "[code_interpreter]\nallowed_modules = [\"os\"]\nblocked_modules = [\"sys\"]\n",
    );
    let ran = heddle.run(["--trust", "check", "x.py"]).assert_code(2);
    assert!(ran.err.contains("are both set"), "{ran:?}");
}

#[test]
fn what_cannot_be_checked_is_wrong_use() {
    let heddle = Heddle::bare();
    heddle.write("broken.ipynb", "{");
    std::fs::write(heddle.path("binary.py"), b"x = '\xff'").unwrap();
    let other = json!({"nbformat": 4, "nbformat_minor": 4, "metadata": {"language_info": {"name": "R"}}, "cells": []});
    heddle.write("r.ipynb", other.to_string());
    for file in ["missing.py", ".", "broken.ipynb", "binary.py", "r.ipynb"] {
        let ran = heddle.run(["check", file]).assert_code(2);
        assert!(ran.err.contains(file) || file == ".", "{ran:?}");
    }
    heddle.run(["check"]).assert_code(2);
}
