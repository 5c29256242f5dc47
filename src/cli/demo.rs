//! `heddle demo`: the main job, with a recorded model and a real kernel.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::error::{CliError, Exit};
use super::setup::{self, Author};
use super::trust::Uses;
use super::{Global, KernelArgs, keyboard, renderer};
use crate::agent::approval::Nobody;
use crate::event::{Event, Level, Status};
use crate::executor::NoInput;
use crate::llm::Replayer;
use crate::session::conversation::Conversation;

const DATA: &str = include_str!("../../config/demo/sales.csv");
const REPLIES: &str = include_str!("../../config/demo/replies.jsonl");

/// What is asked, in order; the replies are recorded for these.
const REQUESTS: [&str; 3] = [
    "How did sales go? Give me the key figures of sales.csv.",
    "Plot the monthly revenue by product and save it as revenue.png.",
    "Make a small web page with these figures: HTML and CSS in one file, report.html.",
];

#[derive(Args)]
pub struct Demo {}

impl Demo {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let loaded = setup::load(global, Uses::PLAN, &[])?;
        let llm = Arc::new(Replayer::from_str("the demo", REPLIES)?);
        // Its code is shipped with Heddle, so it runs as it is.
        let launcher =
            setup::launcher(&loaded.settings, Author::Person, &mut setup::Said::print).await?;
        let for_setup = global.clone();
        let setup = tokio::task::spawn_blocking(move || {
            let precautions =
                setup::precautions(&loaded, launcher.isolates(), &KernelArgs::default());
            let choice = setup::managed_kernel(&*launcher, &precautions)?;
            setup::conversation(
                &for_setup,
                &loaded,
                llm,
                launcher,
                choice,
                &KernelArgs::default(),
            )
        })
        .await
        .map_err(|error| CliError::Missing(error.to_string()))??;

        let (_, mut interrupts) =
            keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
        let mut conversation = Conversation::begin(setup)?;
        let mode = conversation.mode().to_owned();
        let mut sink = renderer(global.json, false);
        conversation.announce(&mut *sink);
        sink.emit(Event::Notice {
            level: Level::Info,
            message: format!(
                "A demonstration: the model's replies are recorded, and so is the code in them. It runs as it is, in a \
                 real kernel, in {mode} mode."
            ),
        });
        let cwd = conversation.session().workspace().cwd();
        std::fs::File::create_new(cwd.join("sales.csv"))
            .and_then(|mut file| file.write_all(DATA.as_bytes()))
            .map_err(CliError::io(format!("cannot write in {}", cwd.display())))?;

        let mut status = Status::Ok;
        for (number, request) in REQUESTS.iter().enumerate() {
            if !global.json {
                eprintln!("\n[{}/{}] > {request}", number + 1, REQUESTS.len());
            }
            let files = match number {
                0 => vec!["sales.csv".to_owned()],
                _ => Vec::new(),
            };
            status = conversation
                .ask(
                    request,
                    files,
                    &mut *sink,
                    &mut NoInput,
                    &mut Nobody,
                    &mut interrupts,
                )
                .await?;
            if status != Status::Ok {
                break;
            }
        }
        let notebook = conversation.save_notebook()?;
        let id = conversation.session().id().to_string();
        setup::warn_all(&conversation.close().await);
        if !global.json {
            farewell(&cwd, &notebook, &id);
        }
        Ok(status.into())
    }
}

fn farewell(cwd: &std::path::Path, notebook: &std::path::Path, id: &str) {
    let files = ["sales.csv", "revenue.png", "report.html"].map(|name| cwd.join(name));
    let found: Vec<PathBuf> = files.into_iter().filter(|file| file.exists()).collect();
    eprintln!("\nFiles:");
    for file in found {
        eprintln!("  {}", file.display());
    }
    eprintln!("Notebook of this session:\n  {}", notebook.display());
    let heddle = program();
    eprintln!(
        "
What happened, again:   {heddle} session show {id}
Your own code:          {heddle} run -c \"1 + 1\"
With a real model, any endpoint that speaks OpenAI's format:
  export LLM_API_KEY=…  LLM_MODEL=…        (a hosted model; LLM_API_BASE where it is not OpenAI's)
  export LLM_API_TYPE=ollama LLM_MODEL=…   (a model on this machine)
  {heddle} ask \"…\" --file data.csv"
    );
}

/// How the person can call this program: by its name where it is installed, else by its path.
fn program() -> String {
    let name = "heddle".to_owned();
    let Ok(program) = std::env::current_exe() else {
        return name;
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).any(|folder| folder.join("heddle") == program);
    match installed {
        true => name,
        false => program.display().to_string(),
    }
}
