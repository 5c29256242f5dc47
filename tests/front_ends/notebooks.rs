//! Programs that execute notebooks, each on the examples, and what is in the notebooks afterwards.

use serde_json::{Value, json};

use crate::jupyter::Jupyter;
use crate::support::roles::{answer_with_figure, short};

const EXAMPLES: [&str; 2] = ["first_steps", "zhongwen"];

/// A person with the example notebooks on the desk.
async fn with_examples() -> Jupyter {
    let jupyter = Jupyter::with(Vec::new()).await;
    for name in EXAMPLES {
        let source = format!("{}/notebooks/{name}.ipynb", env!("CARGO_MANIFEST_DIR"));
        jupyter.world.file(
            &format!("{name}.ipynb"),
            &std::fs::read_to_string(source).unwrap(),
        );
    }
    jupyter
}

/// A notebook of these cells, each with its tags, for the kernel `heddle`.
fn notebook(cells: &[(&str, &[&str])]) -> String {
    let cell = |(at, (source, tags)): (usize, &(&str, &[&str]))| {
        json!({
            "cell_type": "code", "id": format!("cell-{at}"), "metadata": {"tags": tags}, "source": source,
            "outputs": [], "execution_count": null,
        })
    };
    json!({
        "cells": cells.iter().enumerate().map(cell).collect::<Vec<_>>(),
        "metadata": {"kernelspec": {"name": "heddle", "display_name": "Heddle", "language": "python"}},
        "nbformat": 4, "nbformat_minor": 5,
    })
    .to_string()
}

fn read(jupyter: &Jupyter, name: &str) -> Value {
    let path = jupyter.world.desk().join(format!("{name}.ipynb"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// All outputs of a notebook's cells.
fn outputs(notebook: &Value) -> Vec<&Value> {
    let cells = notebook["cells"].as_array().unwrap().iter();
    cells
        .filter_map(|cell| cell["outputs"].as_array())
        .flatten()
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        lines => lines
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect(),
    }
}

fn printed(notebook: &Value) -> String {
    outputs(notebook)
        .iter()
        .map(|output| text(&output["text"]))
        .collect()
}

/// That every cell has run, in order, and shows what it should.
#[track_caller]
fn assert_executed(jupyter: &Jupyter, name: &str) {
    let notebook = read(jupyter, name);
    let cells = notebook["cells"].as_array().unwrap();
    let counts: Vec<Option<u64>> = cells
        .iter()
        .filter(|cell| cell["cell_type"] == "code")
        .map(|cell| cell["execution_count"].as_u64())
        .collect();
    let expected: Vec<Option<u64>> = (1..=counts.len() as u64).map(Some).collect();
    assert_eq!(counts, expected, "{name}");
    let outputs = outputs(&notebook);
    let has = |kind: &str| outputs.iter().any(|output| !output["data"][kind].is_null());
    assert!(has("image/png") && has("text/html"), "{name}: {outputs:?}");
    assert!(
        outputs
            .iter()
            .all(|output| output["output_type"] != "error"),
        "{outputs:?}"
    );
    assert!(
        outputs.iter().all(|output| output["name"] != "stderr"),
        "{outputs:?}"
    );
    if name != "zhongwen" {
        let printed = printed(&notebook);
        assert!(
            printed.ends_with("days of frost on the summit\n"),
            "{printed}"
        );
    }
}

#[tokio::test]
async fn nbclient_executes_the_examples() {
    let jupyter = with_examples().await;
    let execute = "
import sys, nbformat, nbclient
for name in sys.argv[1:]:
    notebook = nbformat.read(name, as_version=4)
    nbclient.NotebookClient(notebook, kernel_name='heddle', timeout=60).execute()
    nbformat.validate(notebook)
    nbformat.write(notebook, name)
";
    jupyter
        .run(
            "python",
            &["-c", execute, "first_steps.ipynb", "zhongwen.ipynb"],
        )
        .await;
    EXAMPLES
        .iter()
        .for_each(|name| assert_executed(&jupyter, name));
    jupyter.is_quiet().await;
}

#[tokio::test]
async fn jupyter_execute_runs_the_examples() {
    let jupyter = with_examples().await;
    let execute = [
        "execute",
        "--inplace",
        "--kernel_name=heddle",
        "first_steps.ipynb",
        "zhongwen.ipynb",
    ];
    jupyter.run("jupyter", &execute).await;
    EXAMPLES
        .iter()
        .for_each(|name| assert_executed(&jupyter, name));
    jupyter.is_quiet().await;
}

#[tokio::test]
async fn a_cell_of_the_agents_is_executed_like_any_other() {
    let jupyter = Jupyter::with(vec![
        short("total = sum(counts)\nprint(total)"),
        answer_with_figure("There are "),
    ])
    .await;
    let cells = ["counts = [20, 22]", "%%ask\nHow many are there?", "total"];
    jupyter.world.file(
        "ask.ipynb",
        &notebook(&cells.map(|source| (source, &[][..]))),
    );
    jupyter
        .run("jupyter", &["execute", "--inplace", "ask.ipynb"])
        .await;
    let executed = read(&jupyter, "ask");
    let shown = |at: usize| executed["cells"][at]["outputs"].to_string();
    for part in ["total = sum(counts)", "42\\n", "There are 42"] {
        assert!(shown(1).contains(part), "{}", shown(1));
    }
    assert!(shown(2).contains("42"), "{}", shown(2));
    jupyter.is_quiet().await;
}

#[tokio::test]
async fn papermill_executes_a_notebook_with_parameters() {
    let jupyter = with_examples().await;
    let report = notebook(&[
        ("town, days = 'nowhere', 0", &["parameters"]),
        ("print(f'{town}: {days + 1}')", &[]),
    ]);
    jupyter.world.file("report.ipynb", &report);
    let parameters = ["-p", "town", "哈尔滨", "-p", "days", "41"];
    jupyter
        .run(
            "papermill",
            &[&["report.ipynb", "out.ipynb"][..], &parameters].concat(),
        )
        .await;
    assert_eq!(printed(&read(&jupyter, "out")), "哈尔滨: 42\n");

    jupyter
        .run(
            "papermill",
            &["-k", "heddle", "first_steps.ipynb", "done.ipynb"],
        )
        .await;
    assert_executed(&jupyter, "done");
    jupyter.is_quiet().await;
}
