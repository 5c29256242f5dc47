//! Events as text for a person: steps on standard error, answers on standard output.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Effects, Style};

use super::markdown::Markdown;
use super::output::Output;
use crate::event::{Event, KernelState, Level, MimeBundle, Part, Sink};
use crate::executor::artifacts::text_of;

const HEADING: Style = Style::new()
    .fg_color(Some(anstyle::Color::Ansi(AnsiColor::Cyan)))
    .effects(Effects::BOLD);
pub const DIM: Style = Style::new().effects(Effects::DIMMED);
pub const WARNING: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
const ERROR: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));
pub const CODE: Style = Style::new().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));

/// Text of foreign origin on its way to a terminal, piece by piece: where in a line it stands.
pub struct Flow {
    at_line_start: bool,
    /// The last character was a carriage return: what comes next starts the line anew, as progress bars do.
    returned: bool,
    /// What starts a line anew.
    anew: &'static str,
}

impl Flow {
    pub fn new(terminal: bool) -> Flow {
        Flow {
            at_line_start: true,
            returned: false,
            anew: match terminal {
                true => "\r\x1b[2K",
                false => "\n",
            },
        }
    }

    /// What closes a line that was left open.
    pub fn end_line(&mut self) -> &'static str {
        self.returned = false;
        match std::mem::replace(&mut self.at_line_start, true) {
            true => "",
            false => "\n",
        }
    }

    /// The text behind a mark on every line.
    pub fn marked(&mut self, mark: &str, style: Style, text: &str) -> String {
        let mut out = String::new();
        for line in text.split_inclusive(['\n', '\r']) {
            if std::mem::take(&mut self.returned) && line != "\n" && !self.at_line_start {
                out.push_str(self.anew);
                self.at_line_start = true;
            }
            let ends = line.ends_with('\n');
            let body = line.trim_end_matches(['\n', '\r']);
            if self.at_line_start && (ends || !body.is_empty()) {
                out.push_str(mark);
                self.at_line_start = false;
            }
            if !body.is_empty() {
                out.push_str(&format!("{style}{}{style:#}", safe(body)));
            }
            if ends {
                out.push('\n');
                self.at_line_start = true;
            }
            self.returned = line.ends_with('\r');
        }
        out
    }
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
        self.write(&format!("{style}{text}{style:#}\n"));
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
        self.step(end);
    }

    /// Text behind a mark on every line.
    fn block(&mut self, mark: &str, style: Style, text: &str) {
        let out = self.flow.marked(mark, style, text);
        self.step(&out);
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
            Part::Plan => self.block("  ", Style::new(), text),
            Part::Code => self.block("  ", CODE, text),
            Part::Answer => self.answer.push(&safe(text)),
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
                self.say(HEADING, &format!("> {}", safe(&message)));
                for file in files {
                    self.say(DIM, &format!("  with {}", safe(&file)));
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
                self.block("  ", Style::new(), &format!("{}\n", plan.trim_end()));
            }
            Event::Code { .. } if self.was_streamed(Part::Code) => {}
            Event::Code { code, attempt, .. } => {
                match attempt {
                    1 => self.heading("Code"),
                    n => self.heading(&format!("Code, try {n}")),
                }
                self.block("  ", CODE, &format!("{}\n", code.trim_end()));
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
                self.step(&format!("  → {} {DIM}({mime}){DIM:#}\n", safe(&path)));
            }
            Event::Kernel { state, reason } => match state {
                KernelState::Fresh | KernelState::Kept => {}
                KernelState::Rebuilt => self.say(DIM, &format!("Variables are rebuilt: {reason}.")),
                KernelState::Lost => self.say(
                    WARNING,
                    &format!(
                        "The kernel's variables are lost: {}. Files are kept.",
                        safe(&reason)
                    ),
                ),
            },
            Event::Notice { level, message } => {
                let style = match level {
                    Level::Info => DIM,
                    Level::Warning => WARNING,
                    Level::Error => ERROR,
                };
                let title = if level == Level::Error { "error: " } else { "" };
                self.say(style, &format!("{title}{}", safe(&message)));
            }
            Event::Answer { message } => {
                self.answer.push(&safe(&message));
                self.answer.finish();
            }
            _ => {}
        }
    }
}

/// Shows the outputs of code that the person wrote: what it prints as it is, values as text.
pub struct Outputs {
    output: Output,
    /// Whether more is shown than errors and warnings.
    all: bool,
    /// Of a kernel of somebody else's, at a terminal: what could steer that is left out.
    flow: Option<Flow>,
}

impl Outputs {
    pub fn new(output: Output, all: bool) -> Outputs {
        Outputs {
            output,
            all,
            flow: None,
        }
    }

    /// Of a kernel that may mean ill.
    pub fn foreign(output: Output) -> Outputs {
        let terminal = std::io::stdout().is_terminal() || std::io::stderr().is_terminal();
        Outputs {
            flow: terminal.then(|| Flow::new(true)),
            ..Outputs::new(output, true)
        }
    }

    fn clean(&mut self, text: String) -> String {
        match &mut self.flow {
            Some(flow) => flow.marked("", Style::new(), &text),
            None => text,
        }
    }

    fn print(&mut self, text: String) {
        if !self.all {
            return;
        }
        let text = self.clean(text);
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
}

impl Sink for Outputs {
    fn emit(&mut self, event: Event) {
        self.output.follow(&event);
        if self.output.is_abandoned() {
            return;
        }
        let mut err = anstream::stderr();
        // Who closes standard error wants no errors.
        let _ = match event {
            Event::Stream { name, text } if name == "stderr" => {
                let text = self.clean(text);
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
                let text = self.clean(text + "\n");
                err.write_all(text.as_bytes())
            }
            Event::Artifact { path, mime } => writeln!(err, "→ {path} {DIM}({mime}){DIM:#}"),
            Event::Notice { message, .. } => writeln!(err, "{WARNING}{message}{WARNING:#}"),
            Event::Kernel {
                state: KernelState::Lost,
                reason,
            } => writeln!(err, "{WARNING}Variables are lost: {reason}.{WARNING:#}"),
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

/// Text of foreign origin without what could steer the terminal: of the escape sequences, only colours stay, and a
/// carriage return ends the line.
pub fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) =
        rest.find(|character: char| character.is_control() && !matches!(character, '\n' | '\t'))
    {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(colour) = colour_at(rest) {
            out.push_str(colour);
            rest = &rest[colour.len()..];
        } else {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            if rest.starts_with('\r') && !rest.starts_with("\r\n") {
                out.push('\n');
            }
            rest = &rest[length..];
        }
    }
    out + rest
}

/// The sequence `ESC [ … m` at the start of the text.
fn colour_at(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\x1b[")?;
    let length = body.find(|character: char| !character.is_ascii_digit() && character != ';')?;
    body[length..].starts_with('m').then(|| &text[..length + 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_progress_bar_stays_on_its_line() {
        let shown = |anew, pieces: &[&str]| {
            let mut flow = Flow::new(true);
            flow.anew = anew;
            let marked = |piece: &&str| flow.marked("| ", Style::new(), piece);
            pieces.iter().map(marked).collect::<String>()
        };
        let bar = ["\r 10%", "\r 20%\r", "\n", "done\r\n", "\r\n"];
        assert_eq!(shown("<", &bar), "|  10%<|  20%\n| done\n| \n");
        assert_eq!(shown("\n", &bar), "|  10%\n|  20%\n| done\n| \n");
    }

    #[test]
    fn colours_pass_and_commands_to_the_terminal_do_not() {
        assert_eq!(safe("\x1b[31mred\x1b[0m"), "\x1b[31mred\x1b[0m");
        assert_eq!(safe("\x1b]52;c;aGk=\x07hi"), "]52;c;aGk=hi");
        assert_eq!(safe("\x1b[2Jhi\u{9b}1m"), "[2Jhi1m");
        assert_eq!(safe("10%\r20%\r\n"), "10%\n20%\n");
    }
}
