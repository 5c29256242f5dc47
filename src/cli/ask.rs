//! `heddle ask`: one request, one answer.

use std::path::PathBuf;

use clap::Args;

use super::approver;
use super::error::{CliError, Exit};
use super::kept;
use super::keyboard;
use super::setup::{self, Author};
use super::trust::Uses;
use super::{Global, KernelArgs, ModelArgs, own_kernel, renderer};
use crate::config::Loaded;
use crate::event::Status;
use crate::executor::NoInput;
use crate::session::conversation::Setup;

#[derive(Args)]
pub struct Ask {
    /// What you want to know, or to have done
    #[arg(value_name = "REQUEST")]
    request: String,
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
        if self.request.trim().is_empty() {
            return Err(CliError::Usage("the request is empty".into()));
        }
        let (loaded, setup) = prepare(global, &self.kernel, &self.model).await?;
        let (_, mut interrupts) =
            keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
        let session = self.session.as_deref();
        let mut conversation =
            kept::open(global, &self.kernel, &loaded, setup, session, self.keep).await?;
        let mut files = Vec::new();
        for file in &self.files {
            files.push(conversation.add_file(file)?);
        }
        let mut sink = renderer(global.json, self.quiet);
        conversation.announce(&mut *sink);
        if self.rebuild && conversation.rebuildable() > 0 {
            let rebuilt = conversation.rebuild(&mut *sink, &mut interrupts).await;
            if !matches!(rebuilt, Ok(Status::Ok | Status::Error)) {
                setup::warn_all(&conversation.close().await);
                return Ok(rebuilt?.into());
            }
        }
        let mut approver = approver::here();
        let status = conversation
            .ask(
                &self.request,
                files,
                &mut *sink,
                &mut NoInput,
                &mut *approver,
                &mut interrupts,
            )
            .await;
        setup::warn_all(&conversation.close().await);
        Ok(status?.into())
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
    own_kernel::unfold(&mut loaded.settings);
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
