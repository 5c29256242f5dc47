//! `heddle chat`: a conversation at the terminal.

use std::path::PathBuf;

use clap::Args;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Completer, Helper, Highlighter, Hinter};

use super::error::{CliError, Exit};
use super::kept;
use super::keyboard::{self, Keyboard};
use super::prompt::Prompt;
use super::setup;
use super::table::table;
use super::{Global, KernelArgs, ModelArgs, approver, ask, renderer};
use crate::event::Sink;
use crate::executor::{Executor, Interrupts};
use crate::printable::escape_line;
use crate::session::conversation::{Conversation, ConversationError, Setup};

const HELP: &str = "\
/file PATH     hand a file to the agent (also /load)
/vars          the kernel's variables
/info          this session: model, kernel, folder
/restart       start the kernel anew; variables are lost
/reset         begin a new session (also /clear)
/save          write the session as a notebook
/help          this list
/exit          leave (also Ctrl-D)

A line that ends with \\ goes on in the next one. Ctrl-C interrupts what runs.";

const COMMANDS: &[&str] = &[
    "file", "load", "vars", "info", "restart", "reset", "clear", "save", "help", "exit",
];

#[derive(Args)]
pub struct Chat {
    /// Go on with an earlier session: an id, its beginning, or `last`
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Let the kernel go on when you leave; `heddle session resume` finds its variables again
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    kernel: KernelArgs,
    #[command(flatten)]
    model: ModelArgs,
}

impl Chat {
    pub async fn run(self, global: &Global) -> Result<Exit, CliError> {
        let (loaded, setup) = ask::prepare(global, &self.kernel, &self.model).await?;
        let (_, interrupts) =
            keyboard::watch().map_err(CliError::io("Ctrl-C cannot be watched"))?;
        let session = self.session.as_deref();
        let conversation = kept::open(
            global,
            &self.kernel,
            &loaded,
            setup.clone(),
            session,
            self.keep,
        )
        .await?;
        let sink = renderer(global.json, false);
        talk(conversation, setup, sink, interrupts).await
    }
}

/// Reads and answers until the person leaves.
pub async fn talk(
    conversation: Conversation,
    setup: Setup,
    sink: Box<dyn Sink>,
    interrupts: Interrupts,
) -> Result<Exit, CliError> {
    let mut talk = Talk {
        conversation,
        setup,
        sink,
        interrupts,
        files: Vec::new(),
    };
    talk.greet().await;
    let mut prompt = Prompt::new(Lines, "history", &[])?;
    loop {
        let (returned, line) = tokio::task::spawn_blocking(move || prompt.read("heddle> ", ""))
            .await
            .map_err(|error| CliError::Missing(error.to_string()))?;
        prompt = returned;
        let Some(line) = line else { break };
        let line = line.replace("\\\n", "\n");
        let line = line.trim();
        let go_on = match line.strip_prefix('/') {
            Some(command) => talk.command(command).await,
            None if line.is_empty() => Ok(true),
            None => talk.ask(line).await,
        };
        match go_on {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if error.is_told() => {}
            Err(error) => setup::warn(&error.to_string()),
        }
    }
    let id = talk.conversation.session().id().clone();
    setup::warn_all(&talk.conversation.close().await);
    eprintln!("To go on later: heddle session resume {id}");
    Ok(Exit::Done)
}

struct Talk {
    conversation: Conversation,
    setup: Setup,
    sink: Box<dyn Sink>,
    interrupts: Interrupts,
    /// Names of files that the next request hands over.
    files: Vec<String>,
}

impl Talk {
    async fn greet(&mut self) {
        self.conversation.announce(&mut *self.sink);
        eprintln!(
            "heddle {} · model {} · kernel {} ({}) · /help",
            env!("CARGO_PKG_VERSION"),
            escape_line(self.setup.llm.model()),
            escape_line(self.setup.choice.name()),
            self.setup.launcher.mode()
        );
        let cells = self.conversation.rebuildable();
        if cells > 0
            && confirmed(format!(
                "This session ran {cells} cells. Run them again, to have their variables? [y/N] "
            ))
            .await
            && let Err(error) = self
                .conversation
                .rebuild(&mut *self.sink, &mut self.interrupts)
                .await
        {
            setup::warn(&error.to_string());
        }
    }

    async fn ask(&mut self, request: &str) -> Result<bool, CliError> {
        let files = std::mem::take(&mut self.files);
        let mut keyboard = Keyboard::new(false);
        let mut approver = approver::here();
        // A press at the prompt was meant for the line.
        self.interrupts.forget();
        self.conversation
            .ask(
                request,
                files,
                &mut *self.sink,
                &mut keyboard,
                &mut *approver,
                &mut self.interrupts,
            )
            .await?;
        Ok(true)
    }

    /// Runs a slash command; false to leave.
    async fn command(&mut self, command: &str) -> Result<bool, CliError> {
        let (name, argument) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        let argument = argument.trim();
        match name {
            "exit" | "quit" => return Ok(false),
            "help" => eprintln!("{HELP}"),
            "file" | "load" if argument.is_empty() => eprintln!("Which file? /file PATH"),
            "file" | "load" => {
                let path = PathBuf::from(shell_unquoted(argument));
                let name = self.conversation.add_file(&path)?;
                eprintln!(
                    "The agent gets {} with your next request.",
                    escape_line(&name)
                );
                self.files.push(name);
            }
            "vars" => self.show_variables().await?,
            "info" => self.show_info(),
            "restart" => self.conversation.restart(&mut *self.sink).await?,
            "save" => {
                let path = self.conversation.save_notebook()?;
                eprintln!("Saved {}", escape_line(&path.to_string_lossy()));
            }
            "reset" | "clear" => {
                let next = Conversation::begin(self.setup.clone())?;
                let last = std::mem::replace(&mut self.conversation, next);
                setup::warn_all(&last.close().await);
                self.files.clear();
                self.conversation.announce(&mut *self.sink);
                eprintln!("A new session has begun.");
            }
            other => no_command(other, COMMANDS),
        }
        Ok(true)
    }

    async fn show_variables(&mut self) -> Result<(), ConversationError> {
        show_variables(self.conversation.executor().await?).await;
        Ok(())
    }

    fn show_info(&self) {
        let session = self.conversation.session();
        let rows = [
            ["session".to_owned(), session.id().to_string()],
            [
                "folder".to_owned(),
                session.workspace().folder().display().to_string(),
            ],
            ["model".to_owned(), self.setup.llm.model().to_owned()],
            ["kernel".to_owned(), self.setup.choice.name().to_owned()],
            ["mode".to_owned(), self.setup.launcher.mode().to_owned()],
        ];
        eprint!("{}", table(["", ""], &rows).trim_start_matches('\n'));
    }
}

/// Lists the user's variables of a kernel.
pub async fn show_variables(executor: &Executor) {
    let variables = executor.variables().await;
    if variables.is_empty() {
        eprintln!("The kernel has no variables of yours.");
        return;
    }
    let rows: Vec<[String; 3]> = variables
        .into_iter()
        .map(|variable| [variable.name, variable.kind, variable.summary])
        .collect();
    let table = table(["NAME", "TYPE", "VALUE"], &rows);
    eprint!("{table}");
}

/// Says that there is no such slash command, and which may have been meant.
pub fn no_command(name: &str, commands: &[&str]) {
    let nearest = commands
        .iter()
        .min_by_key(|known| strsim::damerau_levenshtein(known, name));
    let hint = nearest.map(|known| format!(" Did you mean /{known}?"));
    eprintln!(
        "There is no command /{name}.{} See /help",
        hint.unwrap_or_default()
    );
}

/// A yes or no at the terminal; no where there is none.
pub async fn confirmed(question: String) -> bool {
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return false;
    }
    let answer = Keyboard::ask(question).await;
    answer.is_some_and(|answer| matches!(answer.trim(), "y" | "Y" | "yes" | "是"))
}

/// A path as a terminal pastes it when a file is dropped on it.
fn shell_unquoted(path: &str) -> String {
    let bytes = path.as_bytes();
    match bytes {
        [b'\'', .., b'\''] | [b'"', .., b'"'] => path[1..path.len() - 1].to_owned(),
        _ => path.replace("\\ ", " "),
    }
}

/// A line goes on after a backslash.
#[derive(Completer, Helper, Highlighter, Hinter)]
struct Lines;

impl Validator for Lines {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        Ok(match context.input().ends_with('\\') {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}
