//! `heddle ask`: one request, one answer.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use super::approver;
use super::error::{CliError, Exit};
use super::kept;
use super::keyboard;
use super::setup::{self, Author};
use super::trust::Uses;
use super::{Global, KernelArgs, ModelArgs, output, own_kernel, renderer};
use crate::agent::Extent;
use crate::config::Loaded;
use crate::event::{Event, Sink, Status};
use crate::executor::NoInput;
use crate::session::conversation::Setup;

#[derive(Args)]
pub struct Ask {
    /// What you want to know, or to have done; - reads it from standard input
    #[arg(value_name = "REQUEST")]
    request: String,
    /// Make a plan, and nothing else
    #[arg(long, conflicts_with = "no_run")]
    plan_only: bool,
    /// Write the code, and do not run it
    #[arg(long)]
    no_run: bool,
    /// A file to work on; it is copied into the session
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Go on with an earlier session: an id, its beginning, or `last`
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// With --session: run the earlier cells again, to have their variables
    #[arg(long, requires = "session")]
    rebuild: bool,
    /// Let the kernel go on when this ends; `--session` finds its variables again
    #[arg(long)]
    keep: bool,
    /// Show the answer alone
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    kernel: KernelArgs,
    #[command(flatten)]
    model: ModelArgs,
}

impl Ask {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let request = match self.request.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()).map_err(CliError::io(
                "the request cannot be read from standard input",
            ))?,
            request => request.to_owned(),
        };
        if request.trim().is_empty() {
            return Err(CliError::Usage("the request is empty".into()));
        }
        let (loaded, mut setup) = prepare(global, &self.kernel, &self.model).await?;
        setup.agent.extent = match (self.plan_only, self.no_run) {
            (true, _) => Extent::Plan,
            (_, true) => Extent::Code,
            _ => Extent::Run,
        };
        let extent = setup.agent.extent;
        let (_, mut interrupts) =
            keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
        let session = self.session.as_deref();
        let mut conversation =
            kept::open(global, &self.kernel, &loaded, setup, session, self.keep).await?;
        let mut files = Vec::new();
        for file in &self.files {
            files.push(conversation.add_file(file)?);
        }
        let mut sink = Answering {
            steps: renderer(global.json, self.quiet),
            extent,
            answer: None,
        };
        conversation.announce(&mut sink);
        if self.rebuild && conversation.rebuildable() > 0 {
            let rebuilt = conversation.rebuild(&mut sink, &mut interrupts).await;
            if !matches!(rebuilt, Ok(Status::Ok | Status::Error)) {
                setup::warn_all(&conversation.close().await);
                return Ok(rebuilt?.into());
            }
        }
        let mut approver = approver::here();
        let status = conversation
            .ask(
                &request,
                files,
                &mut sink,
                &mut NoInput,
                &mut *approver,
                &mut interrupts,
            )
            .await;
        setup::warn_all(&conversation.close().await);
        // On a terminal it was seen among the steps.
        if let Some(answer) = sink.answer
            && !global.json
            && (self.quiet || !std::io::stdout().is_terminal())
        {
            output::print(&answer)?;
        }
        Ok(status?.into())
    }
}

/// Keeps the plan or the code that is all that was wanted: like an answer, it goes to standard output.
struct Answering {
    steps: Box<dyn Sink>,
    extent: Extent,
    answer: Option<String>,
}

impl Sink for Answering {
    fn emit(&mut self, event: Event) {
        match (&event, self.extent) {
            (Event::Plan { plan, .. }, Extent::Plan) => self.answer = Some(format!("{plan}\n")),
            (Event::Code { code, .. }, Extent::Code) => self.answer = Some(format!("{code}\n")),
            _ => {}
        }
        self.steps.emit(event);
    }
}

/// Settings and everything for a conversation with the configured model.
pub async fn prepare(
    global: &Global,
    kernel: &KernelArgs,
    model: &ModelArgs,
) -> Result<(Loaded, Setup), CliError> {
    let mut loaded = setup::load(
        global,
        Uses::ALL,
        &[
            ("execution_service.kernel_mode", kernel.mode.clone()),
            ("kernel.name", kernel.kernel.clone()),
            ("code_interpreter.approve", model.approve.clone()),
            ("llm.model", model.model.clone()),
            ("llm.record", model.record.clone()),
            ("llm.replay", model.replay.clone()),
        ],
    )?;
    let judged = setup::precautions(&loaded, true, kernel);
    own_kernel::unfold(&mut loaded.settings, &judged);
    let llm = setup::provider(&loaded.settings)?;
    let (global, kernel) = (global.clone(), kernel.clone());
    let launcher =
        setup::launcher(&loaded.settings, Author::Model, &mut setup::Said::print).await?;
    tokio::task::spawn_blocking(move || {
        let precautions = setup::precautions(&loaded, launcher.isolates(), &kernel);
        let choice = setup::choose_kernel(&loaded.settings, &*launcher, &precautions)?;
        let setup = setup::conversation(&global, &loaded, llm, launcher, choice, &kernel)?;
        Ok((loaded, setup))
    })
    .await
    .map_err(|error| CliError::Missing(error.to_string()))?
}
