//! The keys of the console: Enter goes on while the kernel calls the code incomplete, Tab completes through the kernel.

use std::cell::Cell;
use std::time::Duration;

use rustyline::completion::{Completer, Pair};
use rustyline::history::DefaultHistory;
use rustyline::line_buffer::LineBuffer;
use rustyline::{
    Changeset, Cmd, ConditionalEventHandler, Context, Editor, Event, EventContext, EventHandler,
    Helper, Highlighter, Hinter, KeyCode, KeyEvent, Modifiers, RepeatCount, Validator,
};
use tokio::runtime::Handle;

use super::COMMANDS;
use crate::kernel::Client;
use crate::printable::{is_unprintable, prose};
use crate::protocol::content::{CompleteRequest, Completeness, HistoryRequest, IsCompleteRequest};
use crate::protocol::{Channel, Content};

/// How long a kernel may take to say whether code is complete, and what it can become.
const COMPLETENESS: Duration = Duration::from_millis(1000);
const COMPLETION: Duration = Duration::from_secs(3);
/// How long it may take to tell its history, and how much of that is wanted.
const HISTORY: Duration = Duration::from_secs(2);
const LINES: u64 = 500;
/// The longest line of the past that is offered, in bytes, and the most completions.
const LONGEST: usize = 64 << 10;
const MATCHES: usize = 1000;
const INDENT: &str = "    ";

/// The kernel, for the thread of the line editor.
#[derive(Clone)]
struct Oracle {
    client: Client,
    runtime: Handle,
}

impl Oracle {
    /// `None` where the kernel is busy or gone.
    fn ask(&self, content: Content, patience: Duration) -> Option<Content> {
        let asked = tokio::time::timeout(patience, self.client.ask(Channel::Shell, content));
        let reply = self.runtime.block_on(asked).ok()?;
        Some(reply.ok()?.content)
    }
}

/// Completes through the kernel.
#[derive(Helper, Highlighter, Hinter, Validator)]
pub struct Typing {
    oracle: Oracle,
    /// Bytes behind the cursor that the completion replaces too.
    beyond: Cell<usize>,
}

impl Typing {
    /// For a kernel; to be made where the runtime is.
    pub fn new(client: Client) -> Typing {
        Typing {
            oracle: Oracle {
                client,
                runtime: Handle::current(),
            },
            beyond: Cell::new(0),
        }
    }

    /// Gives the keys to an editor that has this helper.
    pub fn bind(editor: &mut Editor<Typing, DefaultHistory>) {
        let Some(oracle) = editor.helper().map(|typing| typing.oracle.clone()) else {
            return;
        };
        let enter = KeyEvent(KeyCode::Enter, Modifiers::NONE);
        let tab = KeyEvent(KeyCode::Tab, Modifiers::NONE);
        editor.bind_sequence(enter, EventHandler::Conditional(Box::new(Enter(oracle))));
        editor.bind_sequence(tab, EventHandler::Conditional(Box::new(Tab)));
    }
}

impl Completer for Typing {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        self.beyond.set(0);
        if let Some(name) = line[..pos].strip_prefix('/') {
            let known = COMMANDS.iter().filter(|known| known.starts_with(name));
            return Ok((1, known.map(|known| pair(known)).collect()));
        }
        let request = CompleteRequest {
            code: line.to_owned(),
            cursor_pos: Some(line[..pos].chars().count() as u64),
        };
        let Some(Content::CompleteReply(reply)) = self.oracle.ask(request.into(), COMPLETION)
        else {
            return Ok((pos, Vec::new()));
        };
        let start = byte_of(line, reply.cursor_start).min(pos);
        let end = byte_of(line, reply.cursor_end);
        self.beyond.set(end.saturating_sub(pos));
        let harmless = |text: &&String| !text.chars().any(is_unprintable);
        let matches = reply.matches.iter().filter(harmless).take(MATCHES);
        Ok((start, matches.map(|text| pair(text)).collect()))
    }

    fn update(&self, line: &mut LineBuffer, start: usize, elected: &str, changes: &mut Changeset) {
        let end = (line.pos() + self.beyond.take()).min(line.as_str().len());
        line.replace(start..end, elected, changes);
    }
}

fn pair(text: &str) -> Pair {
    Pair {
        display: text.to_owned(),
        replacement: text.to_owned(),
    }
}

/// Where a code point of the text is, in bytes; its end where there are fewer.
fn byte_of(text: &str, code_point: u64) -> usize {
    let nth = usize::try_from(code_point).unwrap_or(usize::MAX);
    text.char_indices()
        .nth(nth)
        .map_or(text.len(), |(byte, _)| byte)
}

struct Enter(Oracle);

impl ConditionalEventHandler for Enter {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        let (code, pos) = (context.line(), context.pos());
        let newline = |indent: &str| Some(Cmd::Insert(1, format!("\n{indent}")));
        if code.starts_with('/') {
            return match code.ends_with('\\') {
                true => newline(""),
                false => Some(Cmd::AcceptLine),
            };
        }
        if code.trim().is_empty() {
            return Some(Cmd::AcceptLine);
        }
        if code.contains('\n') && pos < code.trim_end().len() {
            return newline("");
        }
        let request = IsCompleteRequest {
            code: code.to_owned(),
        };
        match self.0.ask(request.into(), COMPLETENESS) {
            Some(Content::IsCompleteReply(reply)) => match reply.status {
                Completeness::Incomplete => {
                    let blank = |character: &char| [' ', '\t'].contains(character);
                    newline(&reply.indent.chars().take_while(blank).collect::<String>())
                }
                Completeness::Unknown if goes_on(code) => newline(""),
                _ => Some(Cmd::AcceptLine),
            },
            _ if goes_on(code) => newline(""),
            _ => Some(Cmd::AcceptLine),
        }
    }
}

/// Whether code goes on, where the kernel does not say: after a colon or a backslash, and in a block until an empty
/// line.
fn goes_on(code: &str) -> bool {
    let last = code.lines().next_back().unwrap_or_default();
    let open = last.trim_end().ends_with([':', '\\', '(', '[', '{', ',']);
    open || code.contains('\n') && !code.ends_with('\n') && !last.trim().is_empty()
}

struct Tab;

impl ConditionalEventHandler for Tab {
    /// At the beginning of a line it indents.
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        let before = context.line().get(..context.pos())?;
        let line = before.rsplit('\n').next().unwrap_or_default();
        line.trim()
            .is_empty()
            .then(|| Cmd::Insert(1, INDENT.to_owned()))
    }
}

/// The last lines that the kernel has run, whoever typed them.
pub async fn history(client: &Client) -> Vec<String> {
    let asked = client.ask(Channel::Shell, HistoryRequest::tail(LINES).into());
    let Ok(Ok(reply)) = tokio::time::timeout(HISTORY, asked).await else {
        return Vec::new();
    };
    let Content::HistoryReply(reply) = reply.content else {
        return Vec::new();
    };
    let harmless = |text: &&str| text.len() <= LONGEST && prose(text) == **text;
    let lines = reply.history.iter().map(|entry| entry.2.input());
    lines.filter(harmless).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_code_points_and_never_beyond_the_text() {
        assert_eq!(byte_of("数据.a", 3), "数据.".len());
        assert_eq!(byte_of("😀x", 1), 4);
        assert_eq!(byte_of("ab", 2), 2);
        assert_eq!(byte_of("ab", u64::MAX), 2);
    }

    #[test]
    fn without_the_kernels_word_a_block_ends_with_an_empty_line() {
        assert!(goes_on("for i in x:"));
        assert!(goes_on("for i in x:\n    i"));
        assert!(!goes_on("for i in x:\n    i\n"));
        assert!(!goes_on("for i in x:\n    i\n    "));
        assert!(!goes_on("x = 1"));
    }
}
