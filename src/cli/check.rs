//! `heddle check`: what the policy forbids in a file, without running it.

use std::borrow::Cow;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::{CliError, Exit};
use super::trust::Uses;
use super::{Global, run, setup};
use crate::notebook::Notebook;
use crate::open;
use crate::policy::{Finding, Namespace};
use crate::printable;

/// Longer input is cut off; the policy refuses code of a fraction of it.
const LONGEST_INPUT: u64 = 64 << 20;

#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 nothing found; 1 something found; 2 wrong use or configuration"
)]
pub struct Check {
    /// A script (.py), a notebook (.ipynb), or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// One piece of code, with the number of its cell in a notebook, from 1 among all cells.
struct Piece {
    cell: Option<usize>,
    code: String,
}

impl Check {
    pub fn run(self, global: &Global) -> Result<Exit, CliError> {
        let loaded = setup::load(global, Uses::POLICY, &[])?;
        let policy = setup::policy(&loaded.settings)?;
        let name = match self.file == Path::new("-") {
            true => "<stdin>".to_owned(),
            false => self.file.display().to_string(),
        };
        let mut exit = Exit::Done;
        let mut out = std::io::stdout().lock();
        let mut namespace = Namespace::default();
        for piece in self.pieces()? {
            for finding in namespace.check(&policy, &piece.code) {
                exit = Exit::Failed;
                let line = match (global.json, piece.cell) {
                    (true, cell) => json(&name, cell, &finding),
                    (false, Some(cell)) => format!("{name}:cell {cell}:{finding}"),
                    (false, None) => format!("{name}:{finding}"),
                };
                let line = match (out.is_terminal(), global.json) {
                    (true, true) => printable::json(&line),
                    (true, false) => printable::escape_line(&line),
                    (false, _) => Cow::Borrowed(&*line),
                };
                // A reader that has gone does not change what the exit code says.
                let _ = writeln!(out, "{line}");
            }
        }
        Ok(exit)
    }

    fn pieces(&self) -> Result<Vec<Piece>, CliError> {
        let unreadable = |reason: String| {
            CliError::Usage(format!("cannot check {}: {reason}", self.file.display()))
        };
        if self
            .file
            .extension()
            .is_some_and(|ending| ending == "ipynb")
        {
            let notebook =
                Notebook::read(&self.file).map_err(|error| CliError::Usage(error.to_string()))?;
            if let Some(language) = notebook.language().filter(|language| language != "python") {
                return Err(unreadable(format!(
                    "it is a notebook in {language}, not in Python"
                )));
            }
            let cells = notebook.code_cells().into_iter().map(|cell| Piece {
                cell: Some(cell.index + 1),
                code: cell.source,
            });
            return Ok(cells.collect());
        }
        let mut code = String::new();
        let read = match self.file == Path::new("-") {
            true => std::io::stdin()
                .take(LONGEST_INPUT)
                .read_to_string(&mut code),
            false => open::input(&self.file)
                .and_then(|file| file.take(LONGEST_INPUT).read_to_string(&mut code)),
        };
        read.map_err(|error| {
            unreadable(error.to_string() + &run::through_pipe(&self.file, "check"))
        })?;
        // Python reads a file without its byte order mark.
        let code = match code.strip_prefix('\u{feff}') {
            Some(code) => code.to_owned(),
            None => code,
        };
        Ok(vec![Piece { cell: None, code }])
    }
}

fn json(file: &str, cell: Option<usize>, finding: &Finding) -> String {
    serde_json::json!({
        "file": file,
        "cell": cell,
        "line": finding.line,
        "column": finding.column,
        "rule": finding.rule,
        "message": finding.message,
        "suggestion": finding.suggestion,
    })
    .to_string()
}
