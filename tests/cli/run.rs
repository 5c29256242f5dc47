//! `heddle run` with code that goes well: what is shown, where, and as which events.

use serde_json::json;

use crate::heddle::Heddle;

#[test]
fn what_is_printed_and_the_value_go_to_standard_output() {
    let heddle = Heddle::new();
    heddle.code("print('a')\n1 + 1").assert_done("a\n2\n");
    heddle.code("1 + 1;").assert_done("");
    heddle.code("").assert_done("");
    let ran = heddle.code("import sys\nprint('b', file=sys.stderr)\nprint('a', end='')");
    ran.assert_code(0).assert_out("a").assert_err("b\n");
}

#[test]
fn what_code_prints_is_not_changed() {
    let heddle = Heddle::new();
    let ran = heddle.code(r"print('\x1b[31m红\x1b[0m\r\n\x07', end='')");
    ran.assert_done("\x1b[31m红\x1b[0m\r\n\x07");
}

#[test]
fn rich_outputs_are_shown_as_text() {
    let code = "
from IPython.display import HTML, Markdown, display
display(Markdown('# title'))
h = display(1, display_id='x'); display(2, display_id='x', update=True)
HTML('<p>')";
    let shown = "# title\n1\n<IPython.core.display.HTML object>\n";
    Heddle::new().code(code).assert_done(shown);
}

#[test]
fn a_table_lines_up_under_chinese_names() {
    let code = "import pandas as pd\npd.DataFrame({'月份': ['一月', '十二月'], '销售额': [1, 22]})";
    let table = "     月份  销售额\n0    一月       1\n1  十二月      22\n";
    Heddle::new().code(code).assert_done(table);
}

#[test]
fn with_json_each_line_is_one_event() {
    let heddle = Heddle::new();
    let code = "import sys\nprint('红')\nprint('e', file=sys.stderr)\n41 + 1";
    let ran = heddle
        .run(["run", "--json", "-c", code])
        .assert_code(0)
        .assert_err("");
    let events = ran.events();
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "session", "kernel", "stream", "stream", "result", "executed", "done"
        ]
    );
    let cwd = heddle.cwd().canonicalize().unwrap();
    assert_eq!(events[0]["workspace"], cwd.to_str().unwrap());
    assert!(events[0]["id"].is_string());
    assert_eq!(
        events[2],
        json!({"event": "stream", "name": "stdout", "text": "红\n"})
    );
    assert_eq!(
        events[3],
        json!({"event": "stream", "name": "stderr", "text": "e\n"})
    );
    assert_eq!(events[4]["data"], json!({"text/plain": "42"}));
    let done = &events[6];
    assert_eq!(
        (&done["status"], &done["execution_count"]),
        (&json!("ok"), &json!(1))
    );
    assert!(done["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn with_json_an_error_is_an_event_and_the_last_one_says_so() {
    let ran = Heddle::new()
        .run(["run", "--json", "-c", "1 / 0"])
        .assert_code(1)
        .assert_err("");
    let error = &ran.events_of("error")[0];
    assert_eq!(
        (&error["ename"], &error["evalue"]),
        (&json!("ZeroDivisionError"), &json!("division by zero"))
    );
    assert!(
        error["traceback"]
            .as_array()
            .unwrap()
            .iter()
            .all(|line| line.is_string())
    );
    assert_eq!(ran.events().last().unwrap()["status"], "error");
}

#[test]
fn code_comes_from_a_file_or_from_standard_input() {
    let heddle = Heddle::new();
    heddle.write("helper.py", "answer = 42");
    // With the mark that Windows editors put first.
    heddle.write(
        "脚本.py",
        "\u{feff}import os, helper\nprint(os.getcwd())\nhelper.answer",
    );
    let cwd = heddle.cwd().canonicalize().unwrap();
    let shown = format!("{}\n42\n", cwd.display());
    heddle.run(["run", "脚本.py"]).assert_done(&shown);
    heddle
        .with_input("print('in')", ["run", "-"])
        .assert_done("in\n");
}

#[test]
fn ipython_s_own_language_works() {
    let heddle = Heddle::new();
    let ran = heddle.code("!echo hi").assert_code(0);
    assert_eq!(ran.out.trim_end(), "hi");
    heddle
        .code("import asyncio\nawait asyncio.sleep(0)\n5")
        .assert_done("5\n");
    let ran = heddle.code("%%capture out\nprint(1)");
    ran.assert_done("");
    heddle
        .code("%who")
        .assert_done("Interactive namespace is empty.\n");
}

#[test]
fn a_script_that_leaves_by_sys_exit_is_done_unless_it_says_otherwise() {
    let heddle = Heddle::new();
    for code in ["sys.exit()", "sys.exit(0)", "sys.exit(None)", "exit()"] {
        heddle
            .code(&format!("import sys\nprint(1)\n{code}"))
            .assert_done("1\n");
    }
    for (code, line) in [("3", "3"), ("'no luck'", "no luck")] {
        let ran = heddle
            .code(&format!("import sys\nsys.exit({code})"))
            .assert_code(1)
            .assert_out("");
        assert!(
            ran.err.trim_end().ends_with(&format!("SystemExit: {line}")),
            "{ran:?}"
        );
        assert!(!ran.err.contains("To exit"), "{ran:?}");
    }
}

#[test]
fn answers_to_input_come_from_standard_input() {
    let heddle = Heddle::new();
    let code = "import getpass\nprint([input('name? '), getpass.getpass('word? ')])";
    let ran = heddle.with_input("Ann\n秘密\n", ["run", "-c", code]);
    ran.assert_code(0)
        .assert_out("['Ann', '秘密']\n")
        .assert_err("name? word? ");
}

#[test]
fn variables_reach_the_kernel_by_name_only() {
    let heddle = Heddle::new();
    let code = "import os\nprint(sorted((k, v) for k, v in os.environ.items() if 'TEST' in k or 'KEY' in k))";
    let mut command = heddle.command(["run", "-e", "TEST_A=1=2", "--env", "TEST_B", "-c", code]);
    command
        .env("TEST_B", "b")
        .env("TEST_C", "c")
        .env("LLM_API_KEY", "sk-secret")
        .env("OPENAI_API_KEY", "sk-other");
    let ran = crate::heddle::finish(command.spawn().unwrap());
    ran.assert_done("[('TEST_A', '1=2'), ('TEST_B', 'b')]\n");
}

#[test]
fn rich_outputs_are_saved_where_artifacts_are_asked_for() {
    let heddle = Heddle::new();
    let code = "
import matplotlib.pyplot as plt
from IPython.display import HTML, JSON, SVG, display
display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))
display(HTML('<p>hi</p>'))
display(JSON({'a': [1]}))
plt.plot([1, 2]);";
    let ran = heddle
        .run(["run", "--artifacts", "out", "-c", code])
        .assert_code(0);
    let told = "→ out/output-1.svg (image/svg+xml)\n→ out/output-1.html (text/html)\n\
                → out/output-1.json (application/json)\n→ out/output-1.png (image/png)\n";
    let ran = ran.assert_err(told);
    assert!(
        ran.out.ends_with("<Figure size 640x480 with 1 Axes>\n"),
        "{ran:?}"
    );
    let read = |name: &str| std::fs::read(heddle.cwd().join("out").join(name)).unwrap();
    assert!(read("output-1.png").starts_with(b"\x89PNG\r\n\x1a\n"));
    assert_eq!(read("output-1.html"), b"<p>hi</p>");
    assert!(read("output-1.svg").starts_with(b"<svg"));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&read("output-1.json")).unwrap(),
        json!({"a": [1]})
    );

    let again = heddle.run([
        "run",
        "--artifacts",
        "out",
        "--json",
        "-c",
        "from IPython.display import HTML; HTML('2')",
    ]);
    assert_eq!(
        again.events_of("artifact")[0]["path"],
        "out/output-1-2.html"
    );
    assert_eq!(
        read("output-1.html"),
        b"<p>hi</p>",
        "an earlier file is kept"
    );
}

#[test]
fn plots_show_without_a_magic_and_with_every_glyph() {
    let code = "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.title('销售趋势')";
    let ran = Heddle::new()
        .run(["run", "--json", "-c", code])
        .assert_code(0);
    let displays = ran.events_of("display");
    assert_eq!(displays.len(), 1);
    assert!(
        displays[0]["data"]["image/png"]
            .as_str()
            .unwrap()
            .starts_with("iVBORw0KGgo")
    );
    assert!(
        ran.events_of("stream").is_empty(),
        "a glyph is missing: {}",
        ran.out
    );
}
