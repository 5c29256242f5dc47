//! `heddle kernel list`: the kernelspecs of this machine, and the kernels that run.

use futures_util::StreamExt;

use crate::cli::Global;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::print;
use crate::cli::table::table;
use crate::kernel::{connections, discovery, prefixes, python};

pub async fn run(global: &Global) -> Result<Exit, CliError> {
    let python = python::find()?;
    let installed = discovery::list(&prefixes());
    let running: Vec<(std::path::PathBuf, _)> = connections::answering().collect().await;
    if global.json {
        let kernels: Vec<serde_json::Value> = installed
            .iter()
            .map(|kernel| {
                serde_json::json!({
                    "name": kernel.name,
                    "resource_dir": kernel.folder,
                    "spec": kernel.spec.as_ref().ok(),
                    "problem": kernel.spec.as_ref().err(),
                })
            })
            .collect();
        let listing = serde_json::json!({"kernels": kernels, "python": python.map(|python| python.executable),
            "running": running.iter().map(|(file, _)| file).collect::<Vec<_>>()});
        print(&format!("{listing}\n"))?;
        return Ok(Exit::Done);
    }
    let mut text = match python {
            Some(python) => format!(
                "Without --kernel: {}{}\n",
                python.executable.display(),
                if python.managed {
                    " (made by Heddle)"
                } else {
                    ""
                }
            ),
            None => "Without --kernel: no Python here has ipykernel yet; Heddle makes an environment of its own when \
                     it first needs one.\n"
                .to_owned(),
        };
    let rows: Vec<[String; 4]> = installed
        .into_iter()
        .map(|kernel| {
            let (display, language) = match kernel.spec {
                Ok(spec) => (spec.display_name, spec.language),
                Err(problem) => (format!("cannot be used: {problem}"), String::new()),
            };
            [
                kernel.name,
                display,
                language,
                kernel.folder.display().to_string(),
            ]
        })
        .collect();
    text.push_str(&match rows.is_empty() {
        true => "No kernelspecs are installed.\n".to_owned(),
        false => format!(
            "\n{}",
            table(["NAME", "DISPLAY NAME", "LANGUAGE", "FOLDER"], &rows)
        ),
    });
    if !running.is_empty() {
        text.push_str("\nRunning now; to join one: heddle attach FILE\n");
        let lines = running
            .iter()
            .map(|(file, _)| format!("{}\n", file.display()));
        text.extend(lines);
    }
    print(&text)?;
    Ok(Exit::Done)
}
