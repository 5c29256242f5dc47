//! The console's screen: what our cells print, what other clients' cells print, and the line that is being typed.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anstyle::Style;

use super::picture::Protocol;
use crate::cli::terminal::{DIM, Flow, WARNING, error_text, shown};
use crate::event::{Event, MimeBundle, Sink};
use crate::executor::artifacts;
use crate::printable::{escape, escape_line};

/// Prints above the line that is being typed.
pub type Printer = Box<dyn FnMut(String) + Send>;

/// Shared by whoever shows something.
#[derive(Clone)]
pub struct Screen(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Not held together with the state: it waits while a line is about to be finished.
    printer: Mutex<Printer>,
    /// The kernel's, as far as it was seen.
    execution_count: AtomicU64,
    protocol: Option<Protocol>,
    /// Where pictures go that the terminal cannot show.
    folder: artifacts::Folder,
}

struct State {
    flow: Flow,
    /// The mark of what the last line is of; empty for our own.
    mark: String,
    prompting: bool,
}

impl Screen {
    pub fn new(printer: Printer, folder: PathBuf) -> Screen {
        Screen(Arc::new(Inner {
            state: Mutex::new(State {
                flow: Flow::new(true),
                mark: String::new(),
                prompting: false,
            }),
            printer: Mutex::new(printer),
            execution_count: AtomicU64::new(0),
            protocol: Protocol::here(),
            folder: artifacts::Folder::settle(&folder),
        }))
    }

    pub fn execution_count(&self) -> u64 {
        self.0.execution_count.load(Ordering::Relaxed)
    }

    /// Takes the number of the latest cell. Another kernel on the same connection begins anew.
    pub fn count(&self, execution_count: Option<u64>) {
        if let Some(count) = execution_count {
            self.0.execution_count.store(count, Ordering::Relaxed);
        }
    }

    /// Says that a line is being typed from now on, or no longer.
    pub fn prompting(&self, prompting: bool) {
        self.state(|state| {
            if prompting {
                write(&state.flow.end_line());
            }
            state.prompting = prompting;
        });
    }

    /// Shows text behind a mark, which is none for our own. Not while a line is typed; see [`above`](Self::above).
    pub fn show(&self, mark: &str, style: Style, text: &str) {
        self.state(|state| {
            if state.mark != mark {
                write(&state.flow.end_line());
                mark.clone_into(&mut state.mark);
            }
            write(&state.flow.marked(mark, style, text));
        });
    }

    /// Shows text wherever there is room now.
    pub async fn above(&self, mark: &str, style: Style, text: &str) {
        if !self.state(|state| state.prompting) {
            return self.show(mark, style, text);
        }
        let mut flow = Flow::new(false);
        let text = flow.marked(mark, style, text) + &flow.end_line();
        self.print_above(text).await;
    }

    async fn print_above(&self, text: String) {
        let inner = self.0.clone();
        // It waits for the line editor to take it.
        let printed = tokio::task::spawn_blocking(move || {
            let mut printer = inner.printer.lock().unwrap_or_else(PoisonError::into_inner);
            printer(text);
        });
        // What cannot be shown is no reason to stop.
        let _ = printed.await;
    }

    /// The picture of an output as the terminal takes it, or else where it was saved; `None` where it has none.
    fn picture(&self, data: &MimeBundle) -> Option<Result<String, String>> {
        if let Some(sequence) = self.0.protocol.and_then(|protocol| protocol.sequence(data)) {
            return Some(Ok(sequence));
        }
        let stem = format!("output-{}", self.execution_count().max(1));
        match artifacts::save(&self.0.folder, &stem, data) {
            Ok(None) => None,
            Ok(Some(artifact)) => Some(Err(format!(
                "→ {} {DIM}({}){DIM:#}\n",
                escape_line(&artifact.path.to_string_lossy()),
                escape_line(&artifact.mime)
            ))),
            Err(error) => Some(Err(format!(
                "a picture could not be saved in {}: {error}\n",
                self.0.folder.path().display()
            ))),
        }
    }

    /// Shows a rich output: its text, unless a picture says more, and its picture.
    pub async fn rich(&self, mark: &str, title: &str, data: &MimeBundle) {
        let pictured = data.keys().any(|mime| mime.starts_with("image/"));
        if !pictured && let Some(text) = shown(data) {
            let gap = if text.contains('\n') { "\n" } else { "" };
            let title = if title.is_empty() {
                ""
            } else {
                &format!("{title}{gap}")
            };
            self.above(mark, Style::new(), &format!("{title}{text}\n"))
                .await;
        }
        match self.picture(data) {
            None => {}
            Some(Err(place)) => self.above(mark, Style::new(), &place).await,
            Some(Ok(sequence)) if self.state(|state| state.prompting) => {
                self.print_above(sequence).await;
            }
            Some(Ok(sequence)) => self.draw(&sequence),
        }
    }

    /// Shows what an output is from now on, below it: lines that were shown stay.
    pub async fn updated(&self, mark: &str, data: &MimeBundle) {
        // Each picture of an animation would be another file.
        if let Some(text) = shown(data) {
            self.above(mark, Style::new(), &format!("{text}\n")).await;
        }
    }

    /// Shows the picture of an output, if it has one that the terminal can show.
    pub fn inline(&self, data: &MimeBundle) {
        if let Some(sequence) = self.0.protocol.and_then(|protocol| protocol.sequence(data)) {
            self.draw(&sequence);
        }
    }

    fn draw(&self, sequence: &str) {
        self.state(|state| {
            write(&state.flow.end_line());
            let mut out = std::io::stdout().lock();
            let _ = out
                .write_all(sequence.as_bytes())
                .and_then(|()| out.flush());
        });
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        // A panic while it is held leaves a line open at worst.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut state)
    }
}

fn write(text: &str) {
    let mut out = anstream::stdout().lock();
    // A closed terminal ends the program by its own signal.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Our own cells.
pub struct Cells(pub Screen);

impl Cells {
    fn rich(&self, title: &str, data: &MimeBundle) {
        at_once(self.0.rich("", title, data));
    }
}

/// Nothing is typed while a cell of ours runs, so nothing waits.
fn at_once(shown: impl Future<Output = ()>) {
    futures_util::FutureExt::now_or_never(shown);
}

impl Sink for Cells {
    fn emit(&mut self, event: Event) {
        let screen = &self.0;
        match event {
            Event::Stream { name, text } => {
                let style = if name == "stderr" { DIM } else { Style::new() };
                screen.show("", style, &text);
            }
            Event::Display {
                data, update: true, ..
            } => at_once(screen.updated("", &data)),
            Event::Display { data, .. } => self.rich("", &data),
            Event::Result {
                data,
                execution_count,
                ..
            } => {
                screen.count(execution_count);
                self.rich(&out_title(execution_count), &data);
            }
            Event::Error {
                ename,
                evalue,
                traceback,
            } => {
                // The terminal has shown the ^C.
                let start = if ename == "KeyboardInterrupt" {
                    "\n"
                } else {
                    ""
                };
                let text = error_text(&ename, &evalue, &traceback);
                screen.show("", Style::new(), &format!("{start}{}\n", text.trim_end()));
            }
            Event::Notice { message, .. } => {
                screen.show("", WARNING, &format!("{}\n", escape(&message)));
            }
            Event::Executed {
                execution_count, ..
            } => screen.count(execution_count),
            _ => {}
        }
    }
}

/// What stands before a value.
pub fn out_title(execution_count: Option<u64>) -> String {
    match execution_count {
        Some(count) => format!("Out[{count}]: "),
        None => String::new(),
    }
}
