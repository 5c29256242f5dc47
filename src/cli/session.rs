//! `heddle session`: what was done before.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::error::{CliError, Exit};
use super::output::{Output, print};
use super::table::{shortened, table};
use super::terminal::Terminal;
use super::trust::Uses;
use super::{Global, Json, KernelArgs, ModelArgs, ask, chat, kept, keyboard, renderer, setup};
use crate::event::{Sink, Status};
use crate::printable::escape_line;
use crate::session::whereabouts::{Way, Whereabouts, noted};
use crate::session::{self, SessionId, Sessions, Summary, Workspace, export};

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
        /// Let the kernel go on when you leave, for the next time
        #[arg(long)]
        keep: bool,
        #[command(flatten)]
        kernel: KernelArgs,
        #[command(flatten)]
        model: ModelArgs,
    },
    /// Take over logs that earlier versions have written where code could change them, and sessions of a moved workspace
    Import {
        /// An id, or its beginning; all of the workspace without one
        id: Option<String>,
    },
    /// Print a connection file of a session's running kernel, for `jupyter console --existing` and other front ends
    Connect {
        /// An id, its beginning, or `last`
        #[arg(default_value = "last")]
        id: String,
    },
    /// End the kernel that was kept for a session
    Stop {
        /// An id, its beginning, or `last`
        #[arg(default_value = "last")]
        id: String,
    },
}

impl Session {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        match self {
            Session::List => list(global).await,
            Session::Show { id } => show(global, &id),
            Session::Export { id, output } => export(global, &id, output.as_deref()),
            Session::Resume {
                id,
                keep,
                kernel,
                model,
            } => {
                let (loaded, setup) = ask::prepare(global, &kernel, &model).await?;
                let (_, interrupts) =
                    keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
                let conversation =
                    kept::open(global, &kernel, &loaded, setup.clone(), Some(&id), keep).await?;
                let sink = renderer(global.json, false);
                chat::talk(conversation, setup, sink, interrupts).await
            }
            Session::Import { id } => import(global, id.as_deref()),
            Session::Connect { id } => connect(global, &id).await,
            Session::Stop { id } => stop(global, &id).await,
        }
    }
}

/// The session that is meant, and its folder.
fn find(global: &Global, id: &str) -> Result<(SessionId, Workspace), CliError> {
    let sessions = sessions(global)?;
    let id = session::resolve(&sessions, id)?;
    let workspace = sessions.workspace(&id)?;
    Ok((id, workspace))
}

fn sessions(global: &Global) -> Result<Sessions, CliError> {
    setup::sessions(&setup::load(global, Uses::SESSIONS, &[])?)
}

fn not_kept(id: &SessionId) -> CliError {
    CliError::Missing(format!(
        "no kernel is kept for session {id}. To have one that goes on: heddle session resume {id} --keep"
    ))
}

async fn connect(global: &Global, id: &str) -> Result<Exit, CliError> {
    let loaded = setup::load(global, Uses::SHARING, &[])?;
    let sessions = setup::sessions(&loaded)?;
    let id = session::resolve(&sessions, id)?;
    let workspace = sessions.workspace(&id)?;
    let file = kept::shared(global, &loaded, &id, &workspace).await?;
    let file = file.ok_or_else(|| {
        CliError::Missing(format!(
            "no kernel runs for session {id}. To have one that goes on: heddle session resume {id} --keep"
        ))
    })?;
    print(&format!("{}\n", file.display()))?;
    Ok(Exit::Done)
}

async fn stop(global: &Global, id: &str) -> Result<Exit, CliError> {
    let (id, workspace) = find(global, id)?;
    match kept::stop(&workspace).await? {
        true => {
            print(&format!("The kernel of session {id} has ended.\n"))?;
            Ok(Exit::Done)
        }
        false => Err(not_kept(&id)),
    }
}

/// A session's kernel: whether it is kept or runs at a terminal, and where one is that is kept.
type Kernel = Option<(&'static str, Option<Whereabouts>)>;

async fn list(global: &Global) -> Result<Exit, CliError> {
    let all = sessions(global)?;
    let sessions = session::list(&all)?;
    let kernels = futures_util::future::join_all(sessions.iter().map(|summary| async {
        // What code could write leads to no kernel.
        let workspace = summary.protected.then(|| all.place(&summary.id))?;
        match kept::of(&workspace).await {
            Some(kept) => Some(("kept", Some(kept))),
            None => noted(&workspace, Way::Running).map(|_| ("running", None)),
        }
    }))
    .await;
    let sessions: Vec<(Summary, Kernel)> = sessions.into_iter().zip(kernels).collect();
    if global.json {
        let line = |(summary, kernel): &(Summary, Kernel)| {
            let (state, kept) = kernel.clone().unzip();
            let kept = kept.flatten();
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
                    "log": log(summary),
                    "kernel": state,
                    "kept": kept.as_ref().map(|kept| &kept.connection_file),
                    "mode": kept.as_ref().map(|kept| &kept.surroundings.mode),
                })
            )
        };
        print(&sessions.iter().map(line).collect::<String>())?;
        return Ok(Exit::Done);
    }
    let moved = all.moved()?.len();
    if moved > 0 {
        setup::note(&format!(
            "{moved} more were made where this workspace was before. To have them here: heddle session import"
        ));
    }
    let unprotected = sessions.iter().filter(|(it, _)| !it.protected).count();
    if unprotected > 0 {
        setup::note(&format!(
            "{unprotected} unprotected: written where code could change it. To look at one: heddle session show ID. To take \
             it over: heddle session import ID"
        ));
    }
    if sessions.is_empty() {
        print(&format!(
            "No sessions in {} yet. Begin one: heddle chat\n",
            all.root().display()
        ))?;
        return Ok(Exit::Done);
    }
    let rows: Vec<[String; 6]> = sessions
        .iter()
        .map(|(summary, kernel)| row(summary, kernel.as_ref().map_or("–", |kernel| kernel.0)))
        .collect();
    print(&table(
        [
            "ID",
            "REQUESTS",
            "CELLS",
            "STATUS",
            "KERNEL",
            "FIRST REQUEST",
        ],
        &rows,
    ))?;
    let in_container = |(_, kernel): &(Summary, Kernel)| {
        let kept = kernel.as_ref().and_then(|(_, kept)| kept.as_ref());
        kept.is_some_and(|kept| kept.surroundings.mode == kept::CONTAINER)
    };
    if sessions.iter().any(in_container) {
        setup::note(kept::ENDS_WITH_ENGINE);
    }
    Ok(Exit::Done)
}

/// What is to be known of a session's log.
fn log(summary: &Summary) -> &'static str {
    match summary {
        Summary {
            protected: false, ..
        } => "unprotected",
        Summary {
            incomplete: true, ..
        } => "incomplete",
        _ => "whole",
    }
}

fn row(summary: &Summary, kernel: &str) -> [String; 6] {
    let status = match (log(summary), summary.status) {
        ("unprotected", _) => "unprotected",
        ("incomplete", _) => "not logged",
        (_, Some(Status::Ok)) => "ok",
        (_, Some(Status::Error)) => "error",
        (_, Some(Status::Interrupted)) => "interrupted",
        (_, None) => "open",
    };
    [
        summary.id.to_string(),
        summary.rounds.to_string(),
        summary.cells.to_string(),
        status.to_owned(),
        kernel.to_owned(),
        // Code may have written it.
        escape_line(&shortened(
            summary.first_message.as_deref().unwrap_or(""),
            REQUEST,
        ))
        .into_owned(),
    ]
}

fn show(global: &Global, id: &str) -> Result<Exit, CliError> {
    let sessions = sessions(global)?;
    let replay = session::read(&sessions, &session::resolve(&sessions, id)?)?;
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
    let loaded = setup::load(global, Uses::SESSIONS, &[])?;
    let sessions = setup::sessions(&loaded)?;
    let id = session::resolve(&sessions, id)?;
    let replay = session::read(&sessions, &id)?;
    if let Some(warning) = &replay.warning {
        setup::warn(warning);
    }
    let notebook = export::notebook(replay.events());
    if output == Some(Path::new("-")) {
        notebook
            .write_to(std::io::stdout().lock())
            .map_err(CliError::io("the notebook cannot be written"))?;
        return Ok(Exit::Done);
    }
    let path = output.map_or_else(|| PathBuf::from(format!("{id}.ipynb")), Path::to_path_buf);
    setup::check_written(&loaded, &path)?;
    notebook.save(&path)?;
    print(&format!("{}\n", path.display()))?;
    Ok(Exit::Done)
}

fn import(global: &Global, id: Option<&str>) -> Result<Exit, CliError> {
    let sessions = sessions(global)?;
    // Their logs are believed already; all that was wrong is where their files are.
    let moved = sessions.moved()?.into_iter();
    let moved: Vec<SessionId> = moved
        .filter(|it| id.is_none_or(|text| it.as_str().starts_with(text)))
        .collect();
    for id in &moved {
        sessions.adopt(id)?;
        print(&format!("{id}\n"))?;
    }
    if id.is_some() && !moved.is_empty() {
        return Ok(Exit::Done);
    }
    let waiting = session::list(&sessions)?;
    let waiting = waiting.into_iter().filter(|summary| !summary.protected);
    let wanted: Vec<Summary> = match id {
        None => waiting.collect(),
        Some(text) => {
            let id = session::resolve(&sessions, text)?;
            let wanted: Vec<Summary> = waiting.filter(|summary| summary.id == id).collect();
            if wanted.is_empty() {
                return Err(CliError::Usage(format!(
                    "session {id} is where no code can change it. Nothing is to be done"
                )));
            }
            wanted
        }
    };
    if wanted.is_empty() && moved.is_empty() {
        print("Every session is where no code can change it. Nothing is to be done.\n")?;
    }
    for summary in wanted {
        sessions.import(&summary.id)?;
        let request = summary.first_message.as_deref().unwrap_or("");
        print(&format!(
            "{}  {}\n",
            summary.id,
            escape_line(&shortened(request, REQUEST))
        ))?;
    }
    Ok(Exit::Done)
}
