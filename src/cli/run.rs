//! `heddle run`: the person's own code in a kernel.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::error::{CliError, Exit};
use super::keyboard::{self, Keyboard};
use super::setup::{self, Author};
use super::terminal::Outputs;
use super::{Global, Json, KernelArgs};
use crate::event::{Event, KernelState, Sink, Status};
use crate::executor::{Executor, Input, Interrupts, Limits, Places};
use crate::notebook::{Notebook, OutputCollector};

/// Characters that are kept of an output for nobody: no model reads it.
const UNREAD: usize = 0;

#[derive(Args)]
pub struct Run {
    /// A script (.py), a notebook (.ipynb), or - for standard input
    #[arg(value_name = "FILE", required_unless_present = "code")]
    file: Option<PathBuf>,
    /// Code to run
    #[arg(short = 'c', value_name = "CODE", conflicts_with_all = ["file", "output"])]
    code: Option<String>,
    /// Where the notebook goes with its outputs; without it they are only shown
    #[arg(short = 'o', long, value_name = "OUT.ipynb")]
    output: Option<PathBuf>,
    /// Save pictures and other rich outputs in this folder
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Interrupt a cell after this many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Go on after a cell of a notebook that failed
    #[arg(long, requires = "file")]
    allow_errors: bool,
    #[command(flatten)]
    kernel: KernelArgs,
}

/// What is to be run.
enum Program {
    Code(String),
    Notebook(Notebook),
}

impl Run {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let program = self.program()?;
        let loaded = setup::load(
            global,
            &[
                ("execution_service.kernel_mode", self.kernel.mode.clone()),
                ("kernel.name", self.kernel.kernel.clone()),
            ],
        )?;
        let settings = loaded.settings;
        let launcher = setup::launcher(&settings, Author::Person).await?;
        let timeout = self.timeout()?;
        let cwd = setup::working_directory(&*launcher)?;
        let mut interrupts = keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
        let wanted = settings.clone();
        let chosen = launcher.clone();
        let choice = tokio::task::spawn_blocking(move || setup::choose_kernel(&wanted, &*chosen))
            .await
            .map_err(|error| CliError::Missing(error.to_string()))??;
        let kernel_name = choice.name().to_owned();
        let mode = launcher.mode().to_owned();
        let options = setup::kernel_options(&settings, launcher, choice, &cwd, &self.kernel)?;
        let places = Places {
            artifacts: self.artifacts.clone(),
            texts: None,
            watch: false,
        };
        let limits = Limits {
            timeout,
            characters: UNREAD,
        };

        let mut sink: Box<dyn Sink> = match global.json {
            true => Box::new(Json),
            false => Box::new(Outputs),
        };
        let started = Instant::now();
        let mut executor = tokio::select! {
            executor = Executor::start(options, places, limits) => executor?,
            () = interrupts.pressed() => return Ok(Exit::Interrupted),
        };
        sink.emit(Event::Session {
            id: String::new(),
            workspace: cwd.to_string_lossy().into_owned(),
            mode,
            kernel: kernel_name,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        sink.emit(Event::Kernel {
            state: KernelState::Fresh,
            reason: "a new kernel".into(),
        });
        let mut input = Keyboard::new(self.file.as_deref() == Some(Path::new("-")));
        let ran = self
            .execute(
                program,
                &mut executor,
                &mut *sink,
                &mut input,
                &mut interrupts,
            )
            .await;
        executor.shutdown().await;
        let (status, execution_count) = ran?;
        sink.emit(Event::Done {
            status,
            execution_count,
            seconds: started.elapsed().as_secs_f64(),
        });
        Ok(status.into())
    }

    fn program(&self) -> Result<Program, CliError> {
        if let Some(code) = &self.code {
            return Ok(Program::Code(code.clone()));
        }
        let file = self.file.as_deref().unwrap_or(Path::new("-"));
        if file == Path::new("-") {
            let mut code = String::new();
            std::io::stdin()
                .read_to_string(&mut code)
                .map_err(CliError::io("standard input cannot be read"))?;
            return Ok(Program::Code(code));
        }
        let is_notebook = file.extension().is_some_and(|ending| ending == "ipynb");
        if is_notebook {
            return Ok(Program::Notebook(Notebook::read(file)?));
        }
        if self.output.is_some() {
            return Err(CliError::Usage(format!(
                "-o writes a notebook, and {} is none. Name a .ipynb file, or leave -o out",
                file.display()
            )));
        }
        std::fs::read_to_string(file)
            .map(Program::Code)
            .map_err(|error| CliError::Usage(format!("cannot read {}: {error}", file.display())))
    }

    fn timeout(&self) -> Result<Option<std::time::Duration>, CliError> {
        self.timeout
            .map(|seconds| {
                std::time::Duration::try_from_secs_f64(seconds).map_err(|_| {
                    CliError::Usage(format!("--timeout {seconds} is no number of seconds"))
                })
            })
            .transpose()
    }

    async fn execute(
        &self,
        program: Program,
        executor: &mut Executor,
        sink: &mut dyn Sink,
        input: &mut dyn Input,
        interrupts: &mut Interrupts,
    ) -> Result<(Status, Option<u64>), CliError> {
        let mut notebook = match program {
            Program::Code(code) => {
                let outcome = executor.run(&code, sink, input, interrupts).await?;
                return Ok((outcome.status, outcome.execution_count));
            }
            Program::Notebook(notebook) => notebook,
        };
        let mut collector = OutputCollector::default();
        let cells = notebook.code_cells();
        let (mut status, mut count) = (Status::Ok, None);
        let mut ran = Vec::new();
        for cell in cells.iter().filter(|cell| !cell.source.trim().is_empty()) {
            collector.start_cell();
            sink.emit(Event::Code {
                code: cell.source.clone(),
                thought: String::new(),
                attempt: 1,
            });
            let mut both = |event: Event| {
                collector.add(&event);
                sink.emit(event);
            };
            let outcome = executor
                .run(&cell.source, &mut both, input, interrupts)
                .await?;
            ran.push((cell.index, outcome.execution_count));
            count = outcome.execution_count.or(count);
            let expected = cell.raises_exception() && outcome.status == Status::Error;
            if outcome.status != Status::Ok && !expected {
                status = outcome.status;
                if !self.allow_errors || outcome.status == Status::Interrupted {
                    break;
                }
            }
        }
        if let Some(path) = &self.output {
            for (outputs, (index, count)) in collector.into_cells().iter().zip(ran) {
                notebook.set_execution(index, outputs, count);
            }
            notebook.save(path)?;
        }
        Ok((status, count))
    }
}
