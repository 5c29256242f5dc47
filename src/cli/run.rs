//! `heddle run`: the person's own code in a kernel.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::error::{CliError, Exit};
use super::keyboard::{self, Keyboard};
use super::output::Output;
use super::setup::{self, Author};
use super::terminal::Outputs;
use super::trust::Uses;
use super::{Global, Json, KernelArgs, own_kernel};
use crate::config::KernelMode;
use crate::event::{Event, KernelState, Level, Sink, Status};
use crate::executor::{Executor, Input, Interrupts, Limits, Places};
use crate::kernel::packages::Packages;
use crate::notebook::{Notebook, OutputCollector, Target};
use crate::open;

/// Characters that are kept of an output for nobody: no model reads it.
pub const UNREAD: usize = 0;

const AFTER_HELP: &str = "\
A script that ends with sys.exit() or sys.exit(0) is done; with anything else it has failed, exit code 1.
A time limit that is reached counts as an interrupt, exit code 130.";

#[derive(Args)]
#[command(
    override_usage = "heddle run [OPTIONS] FILE\n       heddle run [OPTIONS] -c CODE",
    after_help = AFTER_HELP
)]
pub struct Run {
    /// A script (.py), a notebook (.ipynb), or - for standard input
    #[arg(value_name = "FILE", required_unless_present = "code")]
    file: Option<PathBuf>,
    /// Code to run
    #[arg(short = 'c', value_name = "CODE", conflicts_with_all = ["file", "output", "allow_errors"])]
    code: Option<String>,
    /// Where the notebook goes with its outputs, - for standard output; without it they are only shown
    #[arg(short = 'o', long, value_name = "OUT.ipynb")]
    output: Option<PathBuf>,
    /// Save pictures and other rich outputs in this folder
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Interrupt a cell after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true)]
    timeout: Option<Duration>,
    /// Let an isolated kernel's output steer the terminal: nothing of it is escaped
    #[arg(long)]
    raw: bool,
    /// Go on after a cell of a notebook that failed
    #[arg(long)]
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
        self.check_output(global)?;
        let mut loaded = setup::load(
            global,
            Uses::KERNEL,
            &[
                ("execution_service.kernel_mode", self.kernel.mode.clone()),
                ("kernel.name", self.kernel.kernel.clone()),
            ],
        )?;
        if let Some(output) = self.output.as_deref().filter(|_| !self.writes_to_stdout()) {
            setup::check_written(&loaded, output)?;
        }
        let judged = setup::precautions(&loaded, true, &self.kernel);
        let mut own = own_kernel::unfold(&mut loaded.settings, &judged);
        if let Program::Notebook(notebook) = &program
            && let Some(name) = notebook.kernel()
            && loaded.settings.kernel.name.is_none()
        {
            own |= own_kernel::of_notebook(&mut loaded.settings, &name, &judged);
        }
        let settings = loaded.settings.clone();
        // Who asks for `auto` by name wants what it gives to a model's code, which is never `local` by itself. A kernel
        // of Heddle's own in a front end gives the same.
        let by_name = self.kernel.mode.as_deref() == Some("auto");
        let author = match settings.execution_service.kernel_mode {
            KernelMode::Auto if own || by_name => Author::Model,
            _ => Author::Person,
        };
        let launcher = setup::launcher(&settings, author, &mut setup::Said::print).await?;
        let cwd = setup::working_directory(&*launcher, &mut setup::Said::print)?;
        let precautions = setup::precautions(&loaded, launcher.isolates(), &self.kernel);
        let (chosen, known) = (launcher.clone(), Arc::new(loaded));
        let loaded = known.clone();
        let (choice, packages) = tokio::task::spawn_blocking(move || {
            let choice = setup::choose_kernel(&loaded.settings, &*chosen, &precautions)?;
            let packages = setup::packages(&loaded, &choice, &*chosen, &mut setup::Said::print);
            Ok::<_, CliError>((choice, packages))
        })
        .await
        .map_err(|error| CliError::Missing(error.to_string()))??;
        // Up to here Ctrl-C simply ends the program.
        let (interrupter, mut interrupts) =
            keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
        let kernel_name = choice.name().to_owned();
        let mode = launcher.mode().to_owned();
        let waits_for = launcher.waits_for();
        let mut options = setup::kernel_options(&known, launcher, choice, &cwd, &self.kernel)?;
        setup::tell_grants(
            &known,
            &self.kernel,
            &*options.launcher,
            Some(&cwd),
            &options.grants,
            &mut setup::Said::print,
        );
        options
            .grants
            .mounts
            .extend(packages.iter().map(Packages::mount));
        let places = Places {
            artifacts: self.artifacts.clone(),
            texts: None,
            watch: false,
        };
        let limits = Limits {
            timeout: self.timeout,
            characters: UNREAD,
        };

        // A program of the person's own has the terminal, as with their Python.
        let raw = self.raw || mode == "local";
        // A notebook that will be written is run to its end, whoever watches.
        let output = Output::new(self.output.is_none().then_some(interrupter));
        let mut sink: Box<dyn Sink> = match global.json {
            true => Box::new(Json(output)),
            false if raw => Box::new(Outputs::raw(output, !self.writes_to_stdout())),
            false => Box::new(Outputs::filtered(output, !self.writes_to_stdout())),
        };
        let started = Instant::now();
        let mut executor = tokio::select! {
            executor = setup::start(waits_for, Executor::start(options, places, limits)) => executor?.with_packages(packages),
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
        for message in executor.shutdown().await {
            let level = Level::Warning;
            sink.emit(Event::Notice { level, message });
        }
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
            let code = open::bounded(std::io::stdin(), LONGEST_SCRIPT)
                .map_err(CliError::io("standard input cannot be read"))?;
            return text_of(code, "standard input").map(Program::Code);
        }
        let is_notebook = file.extension().is_some_and(|ending| ending == "ipynb");
        if is_notebook {
            return Ok(Program::Notebook(Notebook::read(file)?));
        }
        if self.output.is_some() || self.allow_errors {
            return Err(CliError::Usage(format!(
                "-o and --allow-errors are for notebooks, and {} is none. Name a .ipynb file, or leave them out",
                file.display()
            )));
        }
        let bytes = open::read_input(file, LONGEST_SCRIPT).map_err(|error| {
            let next = through_pipe(file, "run");
            CliError::Usage(format!("cannot read {}: {error}{next}", file.display()))
        })?;
        text_of(bytes, &file.display().to_string()).map(Program::Code)
    }

    /// Refused before anything runs: an output that could not be written afterwards.
    fn check_output(&self, global: &Global) -> Result<(), CliError> {
        if self.writes_to_stdout() && global.json {
            return Err(CliError::Usage(
                "-o - and --json both write to standard output. Name a file for the notebook"
                    .into(),
            ));
        }
        let folder = self.output.as_deref().and_then(Path::parent);
        match folder {
            Some(folder) if folder != Path::new("") && !folder.is_dir() => {
                Err(CliError::Usage(format!(
                    "the notebook cannot be written: there is no folder {}",
                    folder.display()
                )))
            }
            _ => Ok(()),
        }
    }

    fn writes_to_stdout(&self) -> bool {
        self.output.as_deref() == Some(Path::new("-"))
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
                return script(&code, executor, sink, input, interrupts).await;
            }
            Program::Notebook(notebook) => notebook,
        };
        let named = self.output.as_deref().filter(|_| !self.writes_to_stdout());
        let target = named.map(Target::settle).transpose()?;
        let mut collector = OutputCollector::default();
        let cells = notebook.code_cells();
        let (mut status, mut count, mut failure) = (Status::Ok, None, None);
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
            let outcome = match executor
                .run(&cell.source, &mut both, input, interrupts)
                .await
            {
                Ok(outcome) => outcome,
                // What ran before is written all the same.
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
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
        if self.output.is_some() {
            for (outputs, (index, count)) in collector.into_cells().iter().zip(ran) {
                notebook.set_execution(index, outputs, count);
            }
            match target {
                Some(target) => target.save(&notebook)?,
                None => notebook
                    .write_to(std::io::stdout().lock())
                    .map_err(CliError::io("standard output cannot be written"))?,
            }
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok((status, count)),
        }
    }
}

/// Runs a script in a kernel. `sys.exit()` is how it ends well, although IPython reports that as an error.
pub async fn script(
    code: &str,
    executor: &mut Executor,
    sink: &mut dyn Sink,
    input: &mut dyn Input,
    interrupts: &mut Interrupts,
) -> Result<(Status, Option<u64>), CliError> {
    let mut script = Script { sink, left: false };
    let outcome = executor.run(code, &mut script, input, interrupts).await?;
    let status = match script.left {
        true => Status::Ok,
        false => outcome.status,
    };
    Ok((status, outcome.execution_count))
}

/// Takes a `sys.exit()` for what it means.
struct Script<'a> {
    sink: &'a mut dyn Sink,
    left: bool,
}

impl Sink for Script<'_> {
    fn emit(&mut self, event: Event) {
        match event {
            Event::Error { ename, evalue, .. }
                if ename == "SystemExit" && ["", "None", "0"].contains(&evalue.as_str()) =>
            {
                self.left = true;
            }
            Event::Executed {
                execution_count,
                seconds,
                ..
            } if self.left => self.sink.emit(Event::Executed {
                status: Status::Ok,
                execution_count,
                seconds,
            }),
            event => self.sink.emit(event),
        }
    }
}

/// The longest script that is run, in bytes.
const LONGEST_SCRIPT: u64 = 64 << 20;

/// What to type where the file is a pipe, to go after the error.
pub fn through_pipe(file: &Path, command: &str) -> String {
    use std::os::unix::fs::FileTypeExt;
    match file.metadata() {
        Ok(meta) if meta.file_type().is_fifo() => format!(
            ". To take what comes through it: heddle {command} - < {}",
            file.display()
        ),
        _ => String::new(),
    }
}

/// The text of a script, without the mark that some editors put before UTF-8.
pub fn text_of(bytes: Vec<u8>, name: &str) -> Result<String, CliError> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        CliError::Usage(format!(
            "{name} is not UTF-8 text: see its line {}. Save it as UTF-8 and run it again",
            line + 1
        ))
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a number of seconds above 0 is needed, such as 30 or 0.5".into())
}
