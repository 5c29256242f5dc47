//! Events as text for a person: steps on standard error, answers on standard output.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anstyle::{AnsiColor, Effects, Style};
use unicode_width::UnicodeWidthChar;

use super::markdown::Markdown;
use super::output::Output;
use crate::event::{Event, KernelState, Level, MimeBundle, Part, Sink};
use crate::executor::artifacts::text_of;
use crate::printable::{OutputFilter, escape, escape_line, prose};

pub const HEADING: Style = Style::new()
    .fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)))
    .effects(Effects::BOLD);
pub const DIM: Style = Style::new().effects(Effects::DIMMED);
pub const WARNING: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
const ERROR: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
pub const CODE: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));

/// Whether running code has left a line open on the terminal, and how often something else was asked there since: it is
/// one for the whole process.
static OPEN: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicU64 = AtomicU64::new(0);

/// To be called before a person is asked something: what closes the line that code has left open. What it printed
/// before the question cannot be changed any more, so that it cannot change the question.
pub fn before_question() -> &'static str {
    ASKED.fetch_add(1, Ordering::Relaxed);
    match OPEN.swap(false, Ordering::Relaxed) {
        true => "\n",
        false => "",
    }
}

/// What running code prints, on its way to the terminal, behind a mark.
pub struct Flow {
    filter: OutputFilter,
    screen: bool,
    /// The questions that were asked until it last printed.
    asked: u64,
}

impl Flow {
    /// `screen` says that it goes to a terminal, where lines may be written over.
    pub fn new(screen: bool) -> Flow {
        Flow {
            filter: filter(screen),
            screen,
            asked: ASKED.load(Ordering::Relaxed),
        }
    }

    /// What closes a line that was left open.
    pub fn end_line(&mut self) -> String {
        let out = self.write(OutputFilter::end_line);
        // The window may have another size by now.
        self.filter = filter(self.screen);
        out
    }

    /// What ends a cell's output, in an open line too.
    pub fn finish(&mut self) -> String {
        self.write(OutputFilter::finish)
    }

    /// The text behind a mark on every line.
    pub fn marked(&mut self, mark: &str, style: Style, text: &str) -> String {
        let (style, plain) = (style.render().to_string(), style.render_reset().to_string());
        self.write(|filter| filter.push(mark, &style, &plain, text))
    }

    fn write(&mut self, write: impl FnOnce(&mut OutputFilter) -> String) -> String {
        let asked = ASKED.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.asked, asked) != asked {
            self.filter.settle();
        }
        let out = write(&mut self.filter);
        if self.screen {
            OPEN.store(self.filter.is_open(), Ordering::Relaxed);
        }
        out
    }
}

fn filter(screen: bool) -> OutputFilter {
    OutputFilter::new(screen.then(width))
}

/// A line in rows of so many columns, with blanks for tabs: the terminal itself would begin a row that is marked by
/// nothing. There is one row at least.
pub fn rows(line: &str, columns: usize) -> Vec<String> {
    let mut rows = Vec::new();
    let (mut row, mut column) = (String::new(), 0);
    for character in line.chars() {
        let (text, wide) = match character {
            '\t' => ("        ", 8 - column % 8),
            _ => ("", character.width().unwrap_or(0)),
        };
        if column + wide > columns && column > 0 {
            rows.push(std::mem::take(&mut row));
            column = 0;
        }
        match character {
            '\t' => row.push_str(&text[..wide]),
            character => row.push(character),
        }
        column += wide;
    }
    rows.push(row);
    rows
}

/// Columns of the terminal.
pub fn width() -> usize {
    usize::from(termimad::terminal_size().0)
}

/// Shows a conversation.
pub struct Terminal {
    /// Only answers, warnings and errors.
    quiet: bool,
    /// A session that is shown again: it all goes to standard output, requests too, for whatever pages or keeps it.
    transcript: bool,
    /// The part that is streaming.
    open: Option<Part>,
    flow: Flow,
    /// The stream that the last event was of.
    printing: Option<String>,
    /// Parts that were streamed since the finished one last came.
    streamed: Vec<Part>,
    answer: Markdown,
}

impl Terminal {
    pub fn new(quiet: bool) -> Terminal {
        Terminal {
            quiet,
            transcript: false,
            open: None,
            flow: Flow::new(std::io::stderr().is_terminal()),
            printing: None,
            streamed: Vec::new(),
            answer: Markdown::new(std::io::stdout().is_terminal()),
        }
    }

    /// Shows a session that was.
    pub fn transcript() -> Terminal {
        Terminal {
            transcript: true,
            flow: Flow::new(std::io::stdout().is_terminal()),
            ..Terminal::new(false)
        }
    }

    fn step(&mut self, text: &str) {
        if !self.quiet {
            self.write(text);
        }
    }

    fn say(&mut self, style: Style, text: &str) {
        self.end_line();
        self.write(&format!("{style}{}{style:#}\n", escape(text)));
    }

    fn write(&mut self, text: &str) {
        // A closed terminal ends the program by its own signal.
        let _ = match self.transcript {
            true => anstream::stdout().lock().write_all(text.as_bytes()),
            false => anstream::stderr().lock().write_all(text.as_bytes()),
        };
    }

    fn heading(&mut self, title: &str) {
        self.end_line();
        self.step(&format!("{HEADING}◆ {title}{HEADING:#}\n"));
    }

    /// Closes a line that output or a stream has left open.
    fn end_line(&mut self) {
        let end = self.flow.end_line();
        self.step(&end);
    }

    /// Text behind a mark on every line.
    fn block(&mut self, mark: &str, style: Style, text: &str) {
        if !self.quiet {
            let out = self.flow.marked(mark, style, text);
            self.step(&out);
        }
    }

    fn delta(&mut self, part: Part, text: &str) {
        if self.open != Some(part) {
            self.close();
            self.open = Some(part);
            match part {
                Part::Plan => self.heading("Plan"),
                Part::Code => self.heading("Code"),
                Part::Answer => self.step("\n"),
            }
        }
        if !self.streamed.contains(&part) {
            self.streamed.push(part);
        }
        match part {
            Part::Plan => self.block("  ", Style::new(), &prose(text)),
            Part::Code => self.block("  ", CODE, &escape(text)),
            Part::Answer => self.answer.push(text),
        }
    }

    fn close(&mut self) {
        if self.open.take() == Some(Part::Answer) {
            self.answer.finish();
        }
        self.end_line();
    }

    /// Whether the part was shown while it came; forgets it.
    fn was_streamed(&mut self, part: Part) -> bool {
        let before = self.streamed.len();
        self.streamed.retain(|streamed| *streamed != part);
        before != self.streamed.len()
    }

    fn rich(&mut self, data: &MimeBundle) {
        let picture = data.keys().any(|mime| mime.starts_with("image/"));
        if picture {
            return;
        }
        if let Some(text) = shown(data) {
            self.end_line();
            self.block("  │ ", Style::new(), &format!("{text}\n"));
        }
    }
}

impl Sink for Terminal {
    fn emit(&mut self, event: Event) {
        if let Event::Delta { of, text } = &event {
            return self.delta(*of, text);
        }
        // Tokens are counted while a part may still be open.
        if matches!(event, Event::Usage { .. }) {
            return;
        }
        // What a cell prints may go on in the line that it has begun, but one stream must not wipe out the other's.
        let printing = match &event {
            Event::Stream { name, .. } => Some(name.clone()),
            _ => None,
        };
        if printing.is_none() || printing != self.printing {
            self.close();
        }
        self.printing = printing;
        match event {
            // An arm for each part that was shown while it came, which must not come twice.
            Event::User { message, files } if self.transcript => {
                self.say(HEADING, &format!("> {message}"));
                for file in files {
                    self.say(DIM, &format!("  with {}", escape_line(&file)));
                }
            }
            Event::Plan { .. } if self.was_streamed(Part::Plan) => {}
            Event::Answer { .. } if self.was_streamed(Part::Answer) => {}
            Event::Plan {
                init_plan, plan, ..
            } => {
                let plan = if plan.trim().is_empty() {
                    init_plan
                } else {
                    plan
                };
                self.heading("Plan");
                self.block("  ", Style::new(), &format!("{}\n", prose(plan.trim_end())));
            }
            Event::Code { .. } if self.was_streamed(Part::Code) => {}
            Event::Code { code, attempt, .. } => {
                match attempt {
                    1 => self.heading("Code"),
                    n => self.heading(&format!("Code, try {n}")),
                }
                self.block("  ", CODE, &format!("{}\n", escape(code.trim_end())));
            }
            Event::Stream { name, text } => {
                let style = if name == "stderr" { DIM } else { Style::new() };
                self.block("  │ ", style, &text);
            }
            Event::Display { data, update, .. } if !update => self.rich(&data),
            Event::Result { data, .. } => self.rich(&data),
            Event::Error {
                ename,
                evalue,
                traceback,
            } => {
                let text = error_text(&ename, &evalue, &traceback);
                self.block("  │ ", Style::new(), &format!("{}\n", text.trim_end()));
            }
            Event::Artifact { path, mime } => {
                self.step(&artifact("  → ", &path, &mime));
            }
            Event::Kernel { state, reason } => match state {
                KernelState::Fresh | KernelState::Kept => {}
                KernelState::Rebuilt => self.say(DIM, &format!("Variables are rebuilt: {reason}.")),
                KernelState::Lost => self.say(
                    WARNING,
                    &format!("The kernel's variables are lost: {reason}. Files are kept."),
                ),
            },
            Event::Notice { level, message } => {
                let style = match level {
                    Level::Info => DIM,
                    Level::Warning => WARNING,
                    Level::Error => ERROR,
                };
                let title = if level == Level::Error { "error: " } else { "" };
                self.say(style, &format!("{title}{message}"));
            }
            Event::Answer { message } => {
                self.answer.push(&message);
                self.answer.finish();
            }
            _ => {}
        }
    }
}

/// The line that names a file, its beginning included.
fn artifact(start: &str, path: &str, mime: &str) -> String {
    let (path, mime) = (escape_line(path), escape_line(mime));
    format!("{start}{path} {DIM}({mime}){DIM:#}\n")
}

/// Shows the outputs of code that the person wrote: what it prints, and values as text.
pub struct Outputs {
    output: Output,
    /// Whether more is shown than errors and warnings.
    all: bool,
    /// What stands between the code and the terminal, where that is not as open to it as to a program of the person's.
    flow: Option<Flow>,
}

impl Outputs {
    /// With everything that the code prints as it is.
    pub fn raw(output: Output, all: bool) -> Outputs {
        Outputs {
            output,
            all,
            flow: None,
        }
    }

    /// Of a kernel that may mean ill. What goes to no terminal is as the code printed it all the same.
    pub fn filtered(output: Output, all: bool) -> Outputs {
        Outputs {
            flow: Some(Flow::new(true)),
            ..Outputs::raw(output, all)
        }
    }

    fn clean(&mut self, terminal: bool, text: String) -> String {
        match &mut self.flow {
            Some(flow) if terminal => flow.marked("", Style::new(), &text),
            _ => text,
        }
    }

    fn print(&mut self, text: String) {
        if !self.all {
            return;
        }
        let text = self.clean(std::io::stdout().is_terminal(), text);
        self.output.write(|| {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        });
    }

    fn show(&mut self, data: &MimeBundle) {
        if let Some(text) = shown(data) {
            self.print(text + "\n");
        }
    }

    /// What the cell's output needs to its end, on the terminal that has it.
    fn finish(&mut self) -> std::io::Result<()> {
        let end = self.flow.as_mut().map(Flow::finish).unwrap_or_default();
        match end.is_empty() {
            true => Ok(()),
            false if std::io::stdout().is_terminal() => {
                let mut out = std::io::stdout().lock();
                out.write_all(end.as_bytes()).and_then(|()| out.flush())
            }
            false => std::io::stderr().lock().write_all(end.as_bytes()),
        }
    }
}

impl Sink for Outputs {
    fn emit(&mut self, event: Event) {
        self.output.follow(&event);
        if self.output.is_abandoned() {
            return;
        }
        let mut err = anstream::stderr();
        let seen = std::io::stderr().is_terminal();
        // Who closes standard error wants no errors.
        let _ = match event {
            Event::Stream { name, text } if name == "stderr" => {
                let text = self.clean(seen, text);
                std::io::stderr().lock().write_all(text.as_bytes())
            }
            Event::Stream { text, .. } => return self.print(text),
            Event::Display { data, update, .. } if !update => return self.show(&data),
            Event::Result { data, .. } => return self.show(&data),
            Event::Error {
                ename,
                evalue,
                traceback,
            } => {
                let text = error_text(&ename, &evalue, &traceback);
                let text = self.clean(seen, text + "\n");
                err.write_all(text.as_bytes())
            }
            Event::Artifact { path, mime } => {
                err.write_all(artifact("→ ", &path, &mime).as_bytes())
            }
            Event::Notice { message, .. } => {
                writeln!(err, "{WARNING}{}{WARNING:#}", escape(&message))
            }
            Event::Kernel {
                state: KernelState::Lost,
                reason,
            } => writeln!(
                err,
                "{WARNING}Variables are lost: {}.{WARNING:#}",
                escape(&reason)
            ),
            Event::Executed { .. } => self.finish(),
            _ => Ok(()),
        };
    }
}

/// An exception as text: its traceback, or without one what it says.
pub fn error_text(ename: &str, evalue: &str, traceback: &[String]) -> String {
    match traceback.is_empty() {
        true => format!("{ename}: {evalue}"),
        false => traceback.join("\n"),
    }
}

/// The form of a rich output that a terminal can show. The plain text of Markdown only says that it is some.
pub fn shown(data: &MimeBundle) -> Option<String> {
    let value = ["text/markdown", "text/plain", "text/latex"]
        .iter()
        .find_map(|mime| data.get(*mime))?;
    Some(text_of(value))
}
