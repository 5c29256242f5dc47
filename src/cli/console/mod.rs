//! A console on a joined kernel: its code line by line, and the agent with `/ask`.

mod others;
mod picture;
mod screen;
mod typing;

use std::path::PathBuf;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use rustyline::ExternalPrinter;
use tokio::task::JoinSet;

use super::chat::{no_command, show_variables};
use super::error::{CliError, Exit};
use super::keyboard::Keyboard;
use super::prompt::Prompt;
use super::{approver, setup, terminal};
use crate::config::Loaded;
use crate::event::{Event, Sink};
use crate::executor::artifacts::text_of;
use crate::executor::{Executor, Interrupts, Limits, Places};
use crate::kernel::{Client, Kernel, KernelError};
use crate::printable::{escape_line, prose};
use crate::protocol::content::ExecuteRequest;
use crate::protocol::{Channel, Content};
use crate::session::Session;
use crate::session::conversation::Conversation;
use screen::{Cells, Screen};
use typing::Typing;

const HELP: &str = "\
CODE           runs in the kernel; ?NAME and NAME? explain, Tab completes, an empty line ends a block
/ask REQUEST   the agent answers, with the kernel's variables at hand
/vars          the kernel's variables
/help          this list
/exit          leave (also exit, quit, Ctrl-D); the kernel goes on

Ctrl-C interrupts your cell; one that waits behind another client's is only left to its turn. Lines with a name before
them are other clients'.";

const COMMANDS: &[&str] = &["ask", "vars", "help", "exit", "restart"];

const LEFT: &str = "The kernel goes on. To come back: heddle attach";

const PROMPT: Style = AnsiColor::Green.on_default().bold();
/// How long a kernel may take to say how many cells it has run.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to do after a line.
enum Next {
    Read,
    Leave(Exit),
}

pub struct Console {
    loaded: Loaded,
    /// Lent to the conversation while that works on a request.
    executor: Option<Executor>,
    screen: Screen,
    interrupts: Interrupts,
    conversation: Option<Conversation>,
    /// What the next line begins with, at the kernel's wish.
    offered: String,
}

/// Talks with the kernel until the person leaves or it dies. Pictures that the terminal cannot show go to `pictures`.
pub async fn talk(
    kernel: Kernel,
    loaded: Loaded,
    pictures: PathBuf,
    interrupts: Interrupts,
) -> Result<Exit, CliError> {
    let client = kernel.client().clone();
    greet(&kernel).await?;
    let history = typing::history(&client).await;
    let mut prompt = Prompt::new(Typing::new(client.clone()), "attach_history", &history)?;
    Typing::bind(prompt.editor());
    let mut printer = prompt
        .editor()
        .create_external_printer()
        .map_err(|error| CliError::Missing(format!("the terminal cannot be used: {error}")))?;
    let print = Box::new(move |text| drop(printer.print(text)));
    let screen = Screen::new(print, pictures);
    match execution_count(&client).await {
        Some(count) => screen.count(Some(count)),
        None => setup::note("The kernel is busy; what you type runs when it is done."),
    }
    let mut others = JoinSet::new();
    others.spawn(others::show(client.clone(), screen.clone()));
    let mut console = Console {
        loaded,
        executor: Some(Executor::over(kernel, own_places(), own_limits())),
        screen,
        interrupts,
        conversation: None,
        offered: String::new(),
    };
    let cooked = Cooked::now();
    loop {
        let reading = console.read(prompt, &client).await;
        let (returned, line) = match reading? {
            Read::Line(prompt, line) => (*prompt, line),
            Read::Died(reason) => {
                cooked.restore();
                return Err(KernelError::Died(reason).into());
            }
            Read::Ended => {
                cooked.restore();
                return Ok(Exit::Interrupted);
            }
        };
        prompt = returned;
        let Some(line) = line else { break };
        match console.line(&line).await {
            Ok(Next::Read) => {}
            Ok(Next::Leave(exit)) => return Ok(exit),
            Err(CliError::Kernel(error)) => return Err(error.into()),
            Err(error) if error.is_told() => {}
            Err(error) => setup::warn(&error.to_string()),
        }
    }
    setup::note(LEFT);
    Ok(Exit::Done)
}

/// What came of waiting for a line.
enum Read {
    /// A line, or `None` where the person leaves.
    Line(Box<Prompt<Typing>>, Option<String>),
    Died(String),
    /// A signal to this process.
    Ended,
}

impl Console {
    async fn read(&mut self, prompt: Prompt<Typing>, client: &Client) -> Result<Read, CliError> {
        if let Some(reason) = client.died() {
            return Ok(Read::Died(reason));
        }
        let plain = format!("In [{}]: ", self.screen.execution_count() + 1);
        let styled = format!("{PROMPT}{plain}{PROMPT:#}");
        let initial = std::mem::take(&mut self.offered);
        // A press was meant for what ran.
        self.interrupts.forget();
        self.screen.prompting(true);
        let mut reading =
            tokio::task::spawn_blocking(move || prompt.read(&(plain, styled), &initial));
        let read = loop {
            tokio::select! {
                read = &mut reading => {
                    let (prompt, line) = read.map_err(|error| CliError::Missing(error.to_string()))?;
                    break Read::Line(Box::new(prompt), line);
                }
                Some(late) = client.unclaimed() => {
                    // A thread that one of our cells has started prints.
                    if let crate::transport::Popped::Item(message) = late
                        && let Content::Stream(stream) = message.content
                    {
                        self.screen.above("", Style::new(), &stream.text).await;
                    }
                }
                reason = client.death() => break Read::Died(reason),
                // Ctrl-C is a key here; this is a signal from elsewhere.
                () = self.interrupts.pressed() => break Read::Ended,
            }
        };
        self.screen.prompting(false);
        Ok(read)
    }

    async fn line(&mut self, line: &str) -> Result<Next, CliError> {
        let language = self.executor().kernel().language();
        let python = language.eq_ignore_ascii_case("python");
        let command = line.trim().strip_prefix('/').map(|command| {
            command
                .split_once(char::is_whitespace)
                .unwrap_or((command, ""))
        });
        match command {
            // No Python begins with a slash, but other languages may.
            Some((name, argument)) if python || COMMANDS.contains(&name) => {
                self.command(name, argument.trim()).await
            }
            _ if line.trim().is_empty() => Ok(Next::Read),
            _ if leaves(line) => self.command("exit", "").await,
            _ => self.cell(line).await,
        }
    }

    async fn cell(&mut self, code: &str) -> Result<Next, CliError> {
        let mut cells = Cells(self.screen.clone());
        let mut keyboard = Keyboard::new(false);
        let mut interrupts = self.interrupts.clone();
        let outcome = self
            .executor()
            .run(code, &mut cells, &mut keyboard, &mut interrupts)
            .await?;
        if outcome.died.is_some() {
            return Ok(Next::Leave(Exit::Missing));
        }
        for payload in &outcome.payload {
            match payload["source"].as_str() {
                Some("page") => {
                    let text = payload.pointer("/data/text~1plain").map(text_of);
                    let text = text.unwrap_or_default();
                    self.screen
                        .show("", Style::new(), &format!("{}\n", text.trim_end()));
                }
                Some("set_next_input") => {
                    let text = payload["text"].as_str().unwrap_or_default();
                    self.offered = prose(text).into_owned();
                }
                // Code of more than one line that leaves means the console, as in every other.
                Some("ask_exit") => return Ok(Next::Leave(Exit::Done)),
                _ => {}
            }
        }
        Ok(Next::Read)
    }

    async fn command(&mut self, name: &str, argument: &str) -> Result<Next, CliError> {
        match name {
            "exit" | "quit" => {
                setup::note(LEFT);
                return Ok(Next::Leave(Exit::Done));
            }
            "help" => eprintln!("{HELP}"),
            "vars" => show_variables(self.executor()).await,
            "restart" => setup::warn(&KernelError::NotOurs.to_string()),
            "ask" if argument.is_empty() => eprintln!("Ask what? /ask REQUEST"),
            "ask" => self.ask(&argument.replace("\\\n", "\n")).await?,
            other => no_command(other, COMMANDS),
        }
        Ok(Next::Read)
    }

    /// Lets the agent work on a request, in the kernel as it is.
    async fn ask(&mut self, request: &str) -> Result<(), CliError> {
        let mut sink = Agent {
            terminal: terminal::Terminal::new(false),
            screen: self.screen.clone(),
        };
        let mut conversation = match self.conversation.take() {
            Some(conversation) => conversation,
            None => {
                let mut conversation = self.begin()?;
                conversation.announce(&mut sink);
                conversation
            }
        };
        let workspace = conversation.session().workspace();
        let places = Places {
            artifacts: Some(workspace.cwd()),
            texts: Some(workspace.outputs()),
            watch: false,
        };
        if let Some(mut executor) = self.executor.take() {
            executor.settle(places, setup::limits(&self.loaded.settings));
            conversation.lend(executor);
        }
        let asked = conversation
            .ask(
                request,
                Vec::new(),
                &mut sink,
                &mut Keyboard::new(false),
                &mut *approver::here(),
                &mut self.interrupts,
            )
            .await;
        self.executor = conversation.take_back();
        self.executor().settle(own_places(), own_limits());
        self.conversation = Some(conversation);
        asked?;
        Ok(())
    }

    fn executor(&mut self) -> &mut Executor {
        self.executor
            .as_mut()
            .expect("it is lent for the time of a request only, and then taken back")
    }

    fn begin(&mut self) -> Result<Conversation, CliError> {
        let language = self.executor().kernel().language().to_owned();
        let place = setup::company(&self.loaded.settings, language)?;
        let session = Session::create(&setup::sessions(&self.loaded)?)?;
        setup::warn(
            "The kernel is not Heddle's: code that the model writes runs with the permissions that the kernel has.",
        );
        Ok(Conversation::about(place, session))
    }
}

/// What the agent does, with its pictures where the terminal can show them.
struct Agent {
    terminal: terminal::Terminal,
    screen: Screen,
}

impl Sink for Agent {
    fn emit(&mut self, event: Event) {
        if let Event::Display {
            data,
            update: false,
            ..
        }
        | Event::Result { data, .. } = &event
        {
            self.screen.inline(data);
        }
        if let Event::Executed {
            execution_count, ..
        } = &event
        {
            self.screen.count(*execution_count);
        }
        self.terminal.emit(event);
    }
}

/// Whether a line is how people leave a console. The kernel would take it for its own end, and that of every client.
fn leaves(line: &str) -> bool {
    let line = line.trim().trim_end_matches(';').trim_end();
    let name = line.strip_prefix('%').unwrap_or(line);
    let name = name.strip_suffix("()").unwrap_or(name);
    matches!(name.trim_end(), "exit" | "quit")
}

fn own_places() -> Places {
    Places::default()
}

fn own_limits() -> Limits {
    Limits {
        timeout: None,
        characters: super::run::UNREAD,
    }
}

async fn greet(kernel: &Kernel) -> Result<(), CliError> {
    let info = kernel.client().info().await?;
    let text = format!(
        "heddle {} · joined {} {} ({}) · /help, Ctrl-D leaves it running",
        env!("CARGO_PKG_VERSION"),
        info.language_info.name,
        info.language_info.version,
        info.implementation,
    );
    eprintln!("{}", escape_line(&text));
    Ok(())
}

/// How many cells the kernel has run; `None` while it is busy.
async fn execution_count(client: &Client) -> Option<u64> {
    let nothing = ExecuteRequest {
        silent: true,
        store_history: false,
        allow_stdin: false,
        ..ExecuteRequest::default()
    };
    let asked = client.ask(Channel::Shell, nothing.into());
    let reply = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    match reply.content {
        Content::ExecuteReply(reply) => Some(reply.execution_count.unwrap_or_default()),
        _ => None,
    }
}

/// The terminal as it was before a line was typed.
struct Cooked(Option<nix::sys::termios::Termios>);

impl Cooked {
    fn now() -> Cooked {
        Cooked(nix::sys::termios::tcgetattr(std::io::stdin()).ok())
    }

    /// For when the line editor cannot do it, because it still waits for a key.
    fn restore(&self) {
        use nix::sys::termios::{SetArg, tcsetattr};
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
        // Its bracketed paste, and the line that it has begun.
        println!("\x1b[?2004l");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_that_does_nothing_but_leave_is_taken_for_it() {
        for line in ["exit", " quit() ", "%exit", "exit ();"] {
            assert!(leaves(line), "{line}");
        }
        for line in [
            "exit?",
            "exit = 3",
            "print(exit)",
            "exiting",
            "%%exit",
            "x; exit()",
        ] {
            assert!(!leaves(line), "{line}");
        }
    }
}
