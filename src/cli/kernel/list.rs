//! `heddle kernel list`: the kernelspecs of this machine, and the kernels that run.

use std::path::PathBuf;

use futures_util::StreamExt;

use crate::cli::error::{CliError, Exit};
use crate::cli::output::print;
use crate::cli::table::{shortened, table};
use crate::cli::{Global, KernelArgs, setup};
use crate::kernel::{connections, discovery, prefixes, python};
use crate::protocol::ConnectionInfo;

/// Columns of a running kernel's name.
const NAME: usize = 40;

pub async fn run(global: &Global) -> Result<Exit, CliError> {
    // Other kernels are listed whatever the settings are.
    let loaded = setup::read(global, &[]).ok();
    let precautions = match &loaded {
        Some(loaded) => setup::precautions(loaded, true, &KernelArgs::default()),
        None => setup::precautions_with(std::iter::empty()),
    };
    let (python, problem) = match python::find(&precautions) {
        Ok(python) => (python, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let installed = discovery::list(&prefixes(&precautions), &precautions);
    let sessions = loaded.map_or_else(Vec::new, |loaded| setup::running_sessions(&loaded));
    let running: Vec<(PathBuf, ConnectionInfo)> = connections::answering(&sessions).collect().await;
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
            "running": running.iter().map(|(file, connection)| serde_json::json!({
                "name": connection.kernel_name,
                "connection_file": file,
            })).collect::<Vec<_>>()});
        print(&format!("{listing}\n"))?;
        return Ok(Exit::Done);
    }
    let mut text = match (python, problem) {
            (_, Some(problem)) => format!("Without --kernel: {problem}\n"),
            (Some(python), None) => format!(
                "Without --kernel: {}{}\n",
                python.executable.display(),
                if python.managed {
                    " (made by Heddle)"
                } else {
                    ""
                }
            ),
            (None, None) => "Without --kernel: no Python here has ipykernel yet; Heddle makes an environment of its own when \
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
        let rows: Vec<[String; 2]> = running
            .iter()
            .map(|(file, connection)| {
                // Who wrote the file may have left it out.
                let name = connection.kernel_name.as_deref();
                let name = name.filter(|name| !name.is_empty()).unwrap_or("?");
                [shortened(name, NAME), file.display().to_string()]
            })
            .collect();
        text.push_str(&table(["NAME", "FILE"], &rows));
    }
    print(&text)?;
    Ok(Exit::Done)
}
