//! `heddle run NOTEBOOK`: outputs where they belong, everything else as it was, and a file that Jupyter opens.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::heddle::Heddle;

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn code(id: &str, source: &str, tags: &[&str]) -> Value {
    json!({
        "cell_type": "code", "id": id, "metadata": {"tags": tags}, "source": source,
        "outputs": [], "execution_count": null
    })
}

fn notebook(cells: &[Value]) -> String {
    json!({
        "cells": cells,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "P", "language": "python"}, "mine": {"a": 1}},
        "nbformat": 4, "nbformat_minor": 5
    })
    .to_string()
}

/// The text of a cell's outputs: of streams and of values, and an error's name.
fn shown(cell: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        lines => lines
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line.as_str().unwrap())
            .collect(),
    };
    let outputs = cell["outputs"].as_array().unwrap().iter();
    let output = |output: &Value| match output["output_type"].as_str().unwrap() {
        "stream" => text(&output["text"]),
        "error" => output["ename"].as_str().unwrap().to_owned(),
        _ => text(&output["data"]["text/plain"]),
    };
    outputs.map(output).collect()
}

/// Checks a notebook against nbformat 4.5: required fields, their types, and no others where no others may be.
#[track_caller]
pub fn assert_valid(notebook: &Value) {
    assert_eq!(
        keys(notebook),
        set(&["cells", "metadata", "nbformat", "nbformat_minor"])
    );
    assert_eq!(
        (&notebook["nbformat"], &notebook["nbformat_minor"]),
        (&json!(4), &json!(5))
    );
    assert!(notebook["metadata"].is_object());
    let mut ids = BTreeSet::new();
    for cell in notebook["cells"].as_array().unwrap() {
        let id = cell["id"].as_str().unwrap();
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        assert!(
            (1..=64).contains(&id.len()) && id.bytes().all(valid),
            "{id}"
        );
        assert!(ids.insert(id), "{id} is there twice");
        assert!(cell["metadata"].is_object(), "{cell}");
        assert!(is_text(&cell["source"]), "{cell}");
        let common = ["cell_type", "id", "metadata", "source"];
        match cell["cell_type"].as_str().unwrap() {
            "code" => {
                assert_eq!(
                    keys(cell),
                    set(&[&common[..], &["outputs", "execution_count"]].concat())
                );
                assert!(is_count(&cell["execution_count"]), "{cell}");
                cell["outputs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .for_each(assert_valid_output);
            }
            "markdown" | "raw" => {
                let mut found = keys(cell);
                found.remove("attachments");
                assert_eq!(found, set(&common));
            }
            other => panic!("a cell of type {other}"),
        }
    }
}

#[track_caller]
fn assert_valid_output(output: &Value) {
    let kind = output["output_type"].as_str().unwrap();
    let fields: &[&str] = match kind {
        "stream" => &["output_type", "name", "text"],
        "display_data" => &["output_type", "data", "metadata"],
        "execute_result" => &["output_type", "data", "metadata", "execution_count"],
        "error" => &["output_type", "ename", "evalue", "traceback"],
        other => panic!("an output of type {other}"),
    };
    assert_eq!(keys(output), set(fields));
    match kind {
        "stream" => assert!(
            output["name"].is_string() && is_text(&output["text"]),
            "{output}"
        ),
        "error" => {
            assert!(
                output["ename"].is_string() && output["evalue"].is_string(),
                "{output}"
            );
            assert!(
                output["traceback"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(Value::is_string)
            );
        }
        _ => {
            assert!(output["metadata"].is_object());
            assert!(output.get("execution_count").is_none_or(is_count));
            for (mime, data) in output["data"].as_object().unwrap() {
                assert!(is_text(data) || mime.ends_with("json"), "{mime}: {data}");
            }
        }
    }
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn is_text(value: &Value) -> bool {
    value.is_string()
        || value
            .as_array()
            .is_some_and(|lines| lines.iter().all(Value::is_string))
}

fn is_count(value: &Value) -> bool {
    value.is_null() || value.is_u64()
}

/// What a run must not touch.
fn without_outputs(mut notebook: Value) -> Value {
    for cell in notebook["cells"].as_array_mut().unwrap() {
        for field in ["outputs", "execution_count"] {
            cell.as_object_mut().unwrap().remove(field);
        }
    }
    notebook
}

#[test]
fn the_example_notebooks_run_and_are_written_with_their_outputs() {
    let heddle = Heddle::new();
    for name in ["first_steps", "zhongwen"] {
        let source = format!("{}/notebooks/{name}.ipynb", env!("CARGO_MANIFEST_DIR"));
        let ran = heddle
            .run(["run", &source, "-o", "out.ipynb"])
            .assert_code(0)
            .assert_err("");
        let (before, after) = (read(&source), read(heddle.cwd().join("out.ipynb")));
        assert_valid(&after);
        assert_eq!(without_outputs(after.clone()), without_outputs(before));
        let cells = after["cells"].as_array().unwrap();
        let mut counts = cells
            .iter()
            .filter(|cell| cell["cell_type"] == "code")
            .map(|cell| &cell["execution_count"]);
        assert!(counts.all(Value::is_u64), "every cell has run");
        let pictures = cells
            .iter()
            .flat_map(|cell| cell["outputs"].as_array().into_iter().flatten());
        let pictures = pictures
            .filter(|output| output["data"]["image/png"].is_string())
            .count();
        assert_eq!(pictures, ran.out.matches("<Figure size").count());
        assert!(pictures > 0);
    }
}

#[test]
fn a_cell_that_fails_ends_the_run_and_the_file_is_written() {
    let heddle = Heddle::new();
    let mut last = code("c", "print(3)", &[]);
    last["outputs"] = json!([{"output_type": "stream", "name": "stdout", "text": "earlier"}]);
    heddle.write(
        "in.ipynb",
        notebook(&[code("a", "print(1)", &[]), code("b", "1 / 0", &[]), last]),
    );
    let ran = heddle
        .run(["run", "in.ipynb", "-o", "out.ipynb"])
        .assert_code(1)
        .assert_out("1\n");
    assert!(
        ran.err.ends_with("ZeroDivisionError: division by zero\n"),
        "{ran:?}"
    );
    let after = read(heddle.cwd().join("out.ipynb"));
    assert_valid(&after);
    assert_eq!(shown(&after["cells"][0]), ["1\n"]);
    assert_eq!(shown(&after["cells"][1]), ["ZeroDivisionError"]);
    assert_eq!(
        shown(&after["cells"][2]),
        ["earlier"],
        "a cell that did not run is as it was"
    );

    let ran = heddle
        .run(["run", "in.ipynb", "--allow-errors", "-o", "out.ipynb"])
        .assert_code(1);
    assert_eq!(ran.out, "1\n3\n");
    assert_eq!(
        shown(&read(heddle.cwd().join("out.ipynb"))["cells"][2]),
        ["3\n"]
    );
}

#[test]
fn a_cell_that_should_fail_may() {
    let heddle = Heddle::new();
    heddle.write(
        "in.ipynb",
        notebook(&[
            code("a", "1 / 0", &["raises-exception"]),
            code("b", "2", &[]),
        ]),
    );
    heddle
        .run(["run", "in.ipynb"])
        .assert_code(0)
        .assert_out("2\n");
}

#[test]
fn a_kernel_that_dies_leaves_what_ran_before_in_the_file() {
    let heddle = Heddle::new();
    let cells = [
        code("a", "print(1)", &[]),
        code("b", "import os; os._exit(3)", &[]),
        code("c", "print(3)", &[]),
    ];
    heddle.write("in.ipynb", notebook(&cells));
    heddle
        .run(["run", "in.ipynb", "-o", "out.ipynb"])
        .assert_code(1)
        .assert_out("1\n");
    let after = read(heddle.cwd().join("out.ipynb"));
    assert_valid(&after);
    assert_eq!(shown(&after["cells"][0]), ["1\n"]);
    assert_eq!(shown(&after["cells"][1]), ["KernelDied"]);

    // Told to go on, it goes on in a new kernel and says so.
    let ran = heddle
        .run(["run", "in.ipynb", "--allow-errors"])
        .assert_code(1)
        .assert_out("1\n3\n");
    assert!(
        ran.err
            .contains("Variables are lost: the kernel exited with code 3."),
        "{ran:?}"
    );
}

#[test]
fn displays_are_updated_across_cells_and_cleared_within_one() {
    let heddle = Heddle::new();
    let cells = [
        code(
            "a",
            "from IPython.display import *\nh = display('old', display_id=True)",
            &[],
        ),
        code(
            "b",
            "h.update('new')\nprint('gone'); clear_output(wait=True); print('stays')",
            &[],
        ),
    ];
    heddle.write("in.ipynb", notebook(&cells));
    heddle
        .run(["run", "in.ipynb", "-o", "in.ipynb"])
        .assert_code(0);
    let after = read(heddle.cwd().join("in.ipynb"));
    assert_valid(&after);
    assert_eq!(shown(&after["cells"][0]), ["'new'"]);
    assert_eq!(shown(&after["cells"][1]), ["stays\n"]);
    assert_eq!(after["metadata"]["mine"], json!({"a": 1}));
}

#[test]
fn what_a_thread_prints_later_is_in_the_cell_that_runs_then() {
    let heddle = Heddle::new();
    let late = "import threading\ngo = threading.Event()\n\
                t = threading.Thread(target=lambda: (go.wait(), print('late')))\nt.start()";
    heddle.write(
        "in.ipynb",
        notebook(&[code("a", late, &[]), code("b", "go.set(); t.join()", &[])]),
    );
    heddle.run(["run", "in.ipynb"]).assert_done("late\n");
}

#[test]
fn the_notebook_alone_goes_to_standard_output_when_asked_to() {
    let heddle = Heddle::new();
    heddle.write("in.ipynb", notebook(&[code("a", "print(1)", &[])]));
    let ran = heddle
        .run(["run", "in.ipynb", "-o", "-"])
        .assert_code(0)
        .assert_err("");
    let after: Value = serde_json::from_str(&ran.out).unwrap();
    assert_valid(&after);
    assert_eq!(shown(&after["cells"][0]), ["1\n"]);
}

#[test]
fn a_notebook_that_is_written_is_run_to_its_end_though_nobody_watches() {
    let heddle = Heddle::new();
    let cells = [
        code("a", "print('x' * 100_000)", &[]),
        code("b", "print('x' * 100_000); 2", &[]),
    ];
    heddle.write("in.ipynb", notebook(&cells));
    let mut child = heddle
        .command(["run", "in.ipynb", "-o", "out.ipynb"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    crate::heddle::finish(child).assert_code(0).assert_err("");
    let after = read(heddle.cwd().join("out.ipynb"));
    assert_eq!(shown(&after["cells"][1]).last().unwrap(), "2");
}

#[test]
fn a_link_that_the_code_plants_where_the_notebook_goes_is_not_followed() {
    let heddle = Heddle::new();
    let precious = heddle.write("precious", "mine");
    let plant = format!("import os; os.symlink({:?}, 'out.ipynb'); 1", precious);
    heddle.write("in.ipynb", notebook(&[code("a", &plant, &[])]));
    let out = heddle.cwd().join("out.ipynb");
    let ran = heddle
        .run(["run", "in.ipynb", "-o", "out.ipynb"])
        .assert_code(0);
    assert!(out.is_file() && !out.is_symlink(), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
    assert_eq!(shown(&read(&out)["cells"][0]), ["1"]);
}
