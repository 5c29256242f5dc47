//! `heddle attach`: join a kernel that is running already.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::StreamExt;

use super::console;
use super::error::{CliError, Exit};
use super::keyboard::{self, Keyboard};
use super::output::Output;
use super::run;
use super::setup;
use super::terminal::Outputs;
use super::trust::Uses;
use super::{Global, Json, ModelArgs};
use crate::event::{Event, KernelState, Sink};
use crate::executor::{Executor, Limits, Places};
use crate::kernel::{Join, Kernel, KernelError, connections};
use crate::protocol::ConnectionInfo;

/// How long a kernel that answered a beat may take to answer all else, while others wait to be tried.
const TRIAL: Duration = Duration::from_secs(5);
/// How long the one that was named may take.
const PATIENCE: Duration = Duration::from_secs(15);

const AFTER_HELP: &str = "\
At a terminal this is a console: Python by default, /ask REQUEST for the agent, /help for the rest. The kernel goes on
when you leave. With -c, or with code on standard input, the code runs and its exit code is that of `heddle run`.";

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Attach {
    /// A connection file, the id of a running kernel or its beginning, or `last` for the newest that answers
    #[arg(
        value_name = "FILE|ID|last",
        default_value = "last",
        hide_default_value = true
    )]
    kernel: String,
    /// Code to run; without it, and without a terminal, it is read from standard input
    #[arg(short = 'c', value_name = "CODE")]
    code: Option<String>,
    /// Where pictures go that are not shown [default: Heddle's data folder; with code, they are not kept]
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Interrupt the code when it has run for this many seconds; stop waiting for code that could not begin for so long
    #[arg(long, value_name = "SECONDS", value_parser = run::seconds, allow_hyphen_values = true, requires = "code")]
    timeout: Option<Duration>,
    /// With code: let its output steer the terminal, nothing of it is escaped
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    model: ModelArgs,
}

impl Attach {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let piped = self.code.is_none() && !std::io::stdin().is_terminal();
        let code = match &self.code {
            Some(code) => Some(code.clone()),
            None if piped => Some(read_all()?),
            None => None,
        };
        let seen = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        if code.is_none() && (global.json || !seen) {
            return Err(CliError::Usage(
                "the console needs a terminal to show itself, and shows text. To run code: heddle attach last -c CODE"
                    .into(),
            ));
        }
        let uses = match &code {
            Some(_) => Uses::SESSIONS,
            None => Uses::COMPANY,
        };
        let loaded = setup::load(
            global,
            uses,
            &[
                ("code_interpreter.approve", self.model.approve.clone()),
                ("llm.model", self.model.model.clone()),
                ("llm.record", self.model.record.clone()),
                ("llm.replay", self.model.replay.clone()),
            ],
        )?;
        let kernel = self.join(&setup::running_sessions(&loaded)).await?;
        // Up to here Ctrl-C simply ends the program.
        match code {
            Some(code) => self.execute(kernel, &code, piped, global).await,
            None => {
                let (_interrupter, interrupts) =
                    keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
                let pictures = self.artifacts.clone().unwrap_or_else(|| {
                    let folder = super::prompt::data_folder();
                    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("heddle"));
                    folder.join("pictures")
                });
                console::talk(kernel, loaded, pictures, interrupts).await
            }
        }
    }

    /// The kernel that is meant.
    async fn join(&self, sessions: &[PathBuf]) -> Result<Kernel, CliError> {
        if self.kernel != "last" {
            let path = connections::find(&self.kernel, sessions)?;
            let connection = connections::read(&path)?;
            return join(path, connection, PATIENCE).await;
        }
        let mut answering = connections::answering(sessions);
        while let Some((path, connection)) = answering.next().await {
            match join(path, connection, TRIAL).await {
                // Somebody else may listen where it did.
                Err(CliError::Kernel(KernelError::NotJoined { .. })) => {}
                joined => return joined,
            }
        }
        let places = connections::places();
        Err(KernelError::NoneRuns { places }.into())
    }

    async fn execute(
        &self,
        kernel: Kernel,
        code: &str,
        piped: bool,
        global: &Global,
    ) -> Result<Exit, CliError> {
        let (interrupter, mut interrupts) =
            keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
        let output = Output::new(Some(interrupter));
        let mut sink: Box<dyn Sink> = match global.json {
            true => Box::new(Json(output)),
            false if self.raw => Box::new(Outputs::raw(output, true)),
            false => Box::new(Outputs::filtered(output, true)),
        };
        let started = Instant::now();
        sink.emit(Event::Session {
            id: String::new(),
            workspace: kernel.cwd().to_string_lossy().into_owned(),
            mode: "joined".to_owned(),
            kernel: kernel.language().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        sink.emit(Event::Kernel {
            state: KernelState::Kept,
            reason: "a running kernel is joined".into(),
        });
        let places = Places {
            artifacts: self.artifacts.clone(),
            texts: None,
            watch: false,
        };
        let limits = Limits {
            timeout: self.timeout,
            characters: run::UNREAD,
        };
        let mut executor = Executor::over(kernel, places, limits);
        let mut input = Keyboard::new(piped);
        let (status, execution_count) =
            run::script(code, &mut executor, &mut *sink, &mut input, &mut interrupts).await?;
        sink.emit(Event::Done {
            status,
            execution_count,
            seconds: started.elapsed().as_secs_f64(),
        });
        Ok(status.into())
    }
}

fn read_all() -> Result<String, CliError> {
    let mut code = Vec::new();
    std::io::stdin()
        .read_to_end(&mut code)
        .map_err(CliError::io("standard input cannot be read"))?;
    run::text_of(code, "standard input")
}

async fn join(
    connection_file: PathBuf,
    connection: ConnectionInfo,
    patience: Duration,
) -> Result<Kernel, CliError> {
    let cwd =
        std::env::current_dir().map_err(CliError::io("the working directory cannot be used"))?;
    let join = Join {
        connection_file,
        connection,
        cwd,
        patience,
    };
    Ok(Kernel::join(join).await?)
}
