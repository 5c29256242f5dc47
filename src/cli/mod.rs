//! The command line: one file a subcommand; argument parsing and rendering.

mod approver;
mod ask;
mod attach;
mod briefing;
mod chat;
mod check;
mod config;
mod conform;
mod console;
mod demo;
mod doctor;
mod env;
mod error;
mod image;
mod init;
mod kept;
mod kernel;
mod keyboard;
mod mark;
mod markdown;
mod output;
mod own_kernel;
mod places;
mod prompt;
mod run;
mod session;
mod setup;
mod table;
mod terminal;
mod trust;

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::event::{Event, Sink};
use crate::printable::{escape, json};
use error::{CliError, Exit};
use output::Output;

/// How long work that nobody waits for, such as a read from the terminal, may hold up the end of the program.
const FAREWELL: Duration = Duration::from_millis(200);

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 the code or the task failed; 2 wrong use or configuration;
            3 a kernel or a model is missing; 130 interrupted";

/// Plans, writes Python, runs it in a Jupyter kernel, and answers.
#[derive(Parser)]
#[command(name = "heddle", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Args, Clone)]
pub struct Global {
    /// The project's folder, with heddle.toml or taskweaver_config.json
    #[arg(short = 'p', long, global = true, value_name = "DIR")]
    project: Option<PathBuf>,
    /// One JSON object a line for each event, instead of text
    #[arg(long, global = true)]
    json: bool,
    /// Trust what the project's file sets, for this command alone; see `heddle trust`
    #[arg(long, global = true)]
    trust: bool,
    /// Go on without what waits for trust, as the person has answered who started us
    #[arg(long, global = true, hide = true, conflicts_with = "trust")]
    distrust: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run Python code, a script or a notebook in a kernel
    Run(run::Run),
    /// Ask for one thing, and get the answer
    Ask(ask::Ask),
    /// Talk with the agent
    Chat(chat::Chat),
    /// Join a kernel that is running, as a console
    Attach(attach::Attach),
    /// Check Python code against the policy, without running it
    Check(check::Check),
    /// Show what it does: three tasks, without a model or a key
    Demo(demo::Demo),
    /// Check what this machine can do, and say how to better it
    Doctor(doctor::Doctor),
    /// Check whether a kernel keeps to the Jupyter messaging protocol
    Conform(conform::Conform),
    /// Make a folder a project: its heddle.toml, from a template
    Init(init::Init),
    /// Packages for the kernels of a project: add, list, remove
    #[command(subcommand)]
    Env(env::Env),
    /// Jupyter kernels of this machine
    #[command(subcommand)]
    Kernel(kernel::Kernel),
    /// Images for kernels in containers
    #[command(subcommand)]
    Image(image::Image),
    /// Sessions: list, show, export, resume
    #[command(subcommand)]
    Session(session::Session),
    /// Settings, and where each comes from
    #[command(subcommand)]
    Config(config::Config),
    /// Decide which values of a project's file count: some do only once you trust them
    Trust(trust::Trust),
    /// A completion script for your shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
}

/// Options of the commands that start a kernel.
#[derive(Args, Clone, Default)]
pub struct KernelArgs {
    /// Where the code runs; `local` is without isolation
    #[arg(long, value_name = "MODE", value_parser = ["auto", "local", "container", "sandbox"])]
    mode: Option<String>,
    /// A kernelspec by name, see `heddle kernel list`
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// A variable for the kernel's environment: NAME=VALUE, or NAME to pass on yours
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// A path that an isolated kernel gets to see: read-only, or with :rw to write
    #[arg(long = "mount", value_name = "PATH[:ro|rw]")]
    mounts: Vec<String>,
    /// Let isolated code change .git/config and .git/hooks, which your own git executes
    #[arg(long)]
    allow_git_config: bool,
}

impl KernelArgs {
    /// Refuses what a kernel that runs already, in this mode and from this kernelspec, cannot be given any more.
    fn fit(&self, mode: &str, kernel: &str) -> Result<(), String> {
        let other = |given: &Option<String>, is: &str| {
            let given = given.as_deref().filter(|given| *given != "auto");
            given.is_some_and(|given| !is.is_empty() && given != is)
        };
        let refused = match self {
            args if other(&args.mode, mode) => format!("it is in {mode} mode"),
            args if other(&args.kernel, kernel) => format!("it is a {kernel}"),
            args if !args.env.is_empty() => "--env is for its start".into(),
            args if !args.mounts.is_empty() => "--mount is for its start".into(),
            args if args.allow_git_config => "--allow-git-config is for its start".into(),
            _ => return Ok(()),
        };
        Err(format!(
            "a kernel is kept for this session already, and {refused}"
        ))
    }

    /// The same options, for a process that starts the kernel for us.
    fn as_options(&self) -> Vec<String> {
        let KernelArgs {
            mode,
            kernel,
            env,
            mounts,
            allow_git_config,
        } = self;
        let mode = mode.iter().map(|mode| format!("--mode={mode}"));
        let kernel = kernel.iter().map(|name| format!("--kernel={name}"));
        let env = env.iter().map(|variable| format!("--env={variable}"));
        let mounts = mounts.iter().map(|mount| format!("--mount={mount}"));
        let git = allow_git_config.then(|| "--allow-git-config".to_owned());
        mode.chain(kernel)
            .chain(env)
            .chain(mounts)
            .chain(git)
            .collect()
    }
}

/// Options of the commands that ask a model.
#[derive(Args)]
pub struct ModelArgs {
    /// The model's name at the endpoint
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// When you are asked before the model's code runs
    #[arg(long, value_name = "WHEN", value_parser = ["never", "risky", "always"])]
    approve: Option<String>,
    /// Write each exchange with the model into a file
    #[arg(long, value_name = "FILE")]
    record: Option<String>,
    /// Take the model's replies from such a file
    #[arg(long, value_name = "FILE")]
    replay: Option<String>,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // To where it belongs: help to standard output, errors to standard error.
            let _ = error.print();
            return match error.use_stderr() {
                true => Exit::Usage.into(),
                false => Exit::Done.into(),
            };
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match &runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli)),
        Err(error) => Err(CliError::Missing(format!(
            "no threads can be started: {error}"
        ))),
    };
    if let Ok(runtime) = runtime {
        runtime.shutdown_timeout(FAREWELL);
    }
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            if !error.is_told() {
                let style = anstyle::AnsiColor::Red.on_default();
                let error = error.to_string();
                let error = escape(&error);
                let _ = writeln!(anstream::stderr(), "{style}error:{style:#} {error}");
            }
            error.exit().into()
        }
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, CliError> {
    match cli.command {
        Command::Run(run) => run.run(&cli.global).await,
        Command::Ask(ask) => ask.run(&cli.global).await,
        Command::Chat(chat) => chat.run(&cli.global).await,
        Command::Attach(attach) => attach.run(&cli.global).await,
        Command::Check(check) => check.run(&cli.global),
        Command::Demo(demo) => demo.run(&cli.global).await,
        Command::Doctor(doctor) => doctor.run(&cli.global).await,
        Command::Conform(conform) => conform.run(&cli.global).await,
        Command::Init(init) => init.run(&cli.global),
        Command::Env(env) => env.run(&cli.global).await,
        Command::Kernel(kernel) => kernel.run(&cli.global).await,
        Command::Image(image) => image.run(&cli.global).await,
        Command::Session(session) => session.run(&cli.global).await,
        Command::Config(config) => config.run(&cli.global),
        Command::Trust(trust) => trust.run(&cli.global),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "heddle", &mut script);
            output::print(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Done)
        }
    }
}

/// Writes every event as one line of JSON.
struct Json(Output);

impl Sink for Json {
    fn emit(&mut self, event: Event) {
        self.0.follow(&event);
        if let Ok(line) = serde_json::to_string(&event) {
            self.0.write(|| {
                let mut out = std::io::stdout().lock();
                let line = match out.is_terminal() {
                    true => json(&line),
                    false => Cow::Borrowed(&*line),
                };
                writeln!(out, "{line}").and_then(|()| out.flush())
            });
        }
    }
}

/// The renderer of a conversation.
fn renderer(json: bool, quiet: bool) -> Box<dyn Sink> {
    match json {
        // A reader that has gone is no error of the request's.
        true => Box::new(Json(Output::new(None))),
        false => Box::new(terminal::Terminal::new(quiet)),
    }
}
