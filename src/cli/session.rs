//! `heddle session`: what was done before.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::error::{CliError, Exit};
use super::output::{Output, print};
use super::table::{shortened, table};
use super::terminal::Terminal;
use super::{Global, Json, KernelArgs, ModelArgs, ask, chat, keyboard, renderer, setup};
use crate::event::{Sink, Status};
use crate::session::conversation::Conversation;
use crate::session::{self, Summary, export};

/// Columns that a request gets in the list.
const REQUEST: usize = 48;

#[derive(Subcommand)]
pub enum Session {
    /// The sessions of the workspace, the last used first
    List,
    /// Everything that happened in a session
    Show {
        /// An id, its beginning, or `last`
        #[arg(default_value = "last")]
        id: String,
    },
    /// Write a session as a notebook
    Export {
        /// An id, its beginning, or `last`
        #[arg(default_value = "last")]
        id: String,
        /// The file; standard output for -
        #[arg(short, long, value_name = "OUT.ipynb")]
        output: Option<PathBuf>,
    },
    /// Go on with a session at the terminal
    Resume {
        /// An id, its beginning, or `last`
        #[arg(default_value = "last")]
        id: String,
        #[command(flatten)]
        kernel: KernelArgs,
        #[command(flatten)]
        model: ModelArgs,
    },
}

impl Session {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        match self {
            Session::List => list(global),
            Session::Show { id } => show(global, &id),
            Session::Export { id, output } => export(global, &id, output.as_deref()),
            Session::Resume { id, kernel, model } => {
                let (loaded, setup) = ask::prepare(global, &kernel, &model).await?;
                let id = session::resolve(&setup::workspace(&loaded)?, &id)?;
                let (_, interrupts) =
                    keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
                let conversation = Conversation::resume(setup.clone(), &id)?;
                let sink = renderer(global.json, false);
                chat::talk(conversation, setup, sink, interrupts).await
            }
        }
    }
}

fn list(global: &Global) -> Result<Exit, CliError> {
    let root = setup::workspace(&setup::load(global, &[])?)?;
    let sessions = session::list(&root)?;
    if global.json {
        let line = |summary: &Summary| {
            format!(
                "{}\n",
                serde_json::json!({
                    "id": summary.id.as_str(),
                    "started": summary.started.map(|time| time.to_string()),
                    "last": summary.last.map(|time| time.to_string()),
                    "first_message": summary.first_message,
                    "rounds": summary.rounds,
                    "cells": summary.cells,
                    "status": summary.status,
                })
            )
        };
        print(&sessions.iter().map(line).collect::<String>())?;
        return Ok(Exit::Done);
    }
    if sessions.is_empty() {
        print(&format!(
            "No sessions in {} yet. Begin one: heddle chat\n",
            root.display()
        ))?;
        return Ok(Exit::Done);
    }
    let rows: Vec<[String; 5]> = sessions.iter().map(row).collect();
    print(&table(
        ["ID", "REQUESTS", "CELLS", "STATUS", "FIRST REQUEST"],
        &rows,
    ))?;
    Ok(Exit::Done)
}

fn row(summary: &Summary) -> [String; 5] {
    let status = match summary.status {
        Some(Status::Ok) => "ok",
        Some(Status::Error) => "error",
        Some(Status::Interrupted) => "interrupted",
        None => "open",
    };
    [
        summary.id.to_string(),
        summary.rounds.to_string(),
        summary.cells.to_string(),
        status.to_owned(),
        shortened(summary.first_message.as_deref().unwrap_or(""), REQUEST),
    ]
}

fn show(global: &Global, id: &str) -> Result<Exit, CliError> {
    let root = setup::workspace(&setup::load(global, &[])?)?;
    let replay = session::read(&root, &session::resolve(&root, id)?)?;
    let mut sink: Box<dyn Sink> = match global.json {
        true => Box::new(Json(Output::new(None))),
        false => Box::new(Terminal::transcript()),
    };
    for event in replay.events() {
        sink.emit(event.clone());
    }
    if let Some(warning) = replay.warning {
        setup::warn(&warning);
    }
    Ok(Exit::Done)
}

fn export(global: &Global, id: &str, output: Option<&Path>) -> Result<Exit, CliError> {
    let root = setup::workspace(&setup::load(global, &[])?)?;
    let id = session::resolve(&root, id)?;
    let replay = session::read(&root, &id)?;
    let notebook = export::notebook(replay.events());
    if output == Some(Path::new("-")) {
        notebook
            .write_to(std::io::stdout().lock())
            .map_err(CliError::io("the notebook cannot be written"))?;
        return Ok(Exit::Done);
    }
    let path = output.map_or_else(|| PathBuf::from(format!("{id}.ipynb")), Path::to_path_buf);
    notebook.save(&path)?;
    print(&format!("{}\n", path.display()))?;
    Ok(Exit::Done)
}
