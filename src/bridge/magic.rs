//! The cells that are the agent's: `%%ask` and `%fix`.

use bytes::Bytes;

use crate::agent::Extent;
use crate::protocol::{Content, RawMessage};

/// What every cell of the agent's holds somewhere; others are not looked into.
const MARKS: [&[u8]; 2] = [b"%ask", b"%fix"];

/// How a cell is to be written.
pub const USAGE: &str = "Write %%ask on the cell's first line and the request below it, or %ask and the request as the \
    only line; %fix after a cell that failed. Options on the first line: --plan-only, --no-run, --model NAME, \
    --approve never|risky|always";

/// What a cell asks of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Empty where only the last failure is to be mended.
    pub request: String,
    /// The cell that failed last is what it is about.
    pub fix: bool,
    pub extent: Extent,
    pub model: Option<String>,
    pub approve: Option<String>,
}

/// Whether a message may hold a cell of the agent's, without reading it.
fn may_be(message: &RawMessage) -> bool {
    message
        .peek()
        .is_ok_and(|peek| peek.msg_type == "execute_request")
        && MARKS.iter().any(|mark| contains(&message.content, mark))
}

/// The wish in a message; what is wrong with it where it cannot be read. `None` for every other message.
pub fn of(message: &RawMessage) -> Option<Result<Wish, String>> {
    // What a Heddle runs in a kernel that it has joined is marked.
    if !may_be(message) || contains(&message.metadata, b"\"heddle\"") {
        return None;
    }
    match Content::decode("execute_request", &message.content) {
        Content::ExecuteRequest(cell) if !cell.silent => parse(&cell.code),
        _ => None,
    }
}

fn contains(content: &Bytes, mark: &[u8]) -> bool {
    content.windows(mark.len()).any(|window| window == mark)
}

/// Reads a cell. A magic counts on the first line that is not blank, or as the only statement.
fn parse(code: &str) -> Option<Result<Wish, String>> {
    let code = code.trim();
    let (first, rest) = code.split_once('\n').unwrap_or((code, ""));
    match split(first).0 {
        "%%ask" => return Some(options(split(first).1, rest, false)),
        "%%fix" => return Some(options(split(first).1, rest, true)),
        _ => {}
    }
    let line = only_statement(code)?;
    match split(line).0 {
        "%ask" => Some(options(split(line).1, "", false)),
        "%fix" => Some(options(split(line).1, "", true)),
        _ => None,
    }
}

/// The one line that is neither blank nor a comment.
fn only_statement(code: &str) -> Option<&str> {
    let lines = code.lines().map(str::trim);
    let mut statements = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = statements.next()?;
    statements.next().is_none().then_some(line)
}

fn options(line: &str, rest: &str, fix: bool) -> Result<Wish, String> {
    let mut wish = Wish {
        request: String::new(),
        fix,
        extent: Extent::Run,
        model: None,
        approve: None,
    };
    let mut line = line.trim_start();
    while let Some(option) = line.strip_prefix("--") {
        let (name, after) = split(option);
        let (name, given) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        line = after;
        let mut value = || match given {
            Some(value) => Ok(value.to_owned()),
            None => {
                let (value, after) = split(line);
                line = after;
                match value.is_empty() {
                    true => Err(format!("--{name} needs a value. {USAGE}")),
                    false => Ok(value.to_owned()),
                }
            }
        };
        match name {
            "plan-only" => wish.extent = Extent::Plan,
            "no-run" => wish.extent = Extent::Code,
            "model" => wish.model = Some(value()?),
            "approve" => {
                let when = value()?;
                if !["never", "risky", "always"].contains(&&*when) {
                    return Err(format!("--approve {when}: never, risky or always. {USAGE}"));
                }
                wish.approve = Some(when);
            }
            // Two dashes alone end the options, as everywhere.
            "" => break,
            _ => return Err(format!("there is no option --{name}. {USAGE}")),
        }
    }
    wish.request = format!("{line}\n{rest}").trim().to_owned();
    match wish.request.is_empty() && !fix {
        true => Err(format!("the request is empty. {USAGE}")),
        false => Ok(wish),
    }
}

/// The first word, and what follows it.
fn split(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: &str) -> Wish {
        parse(code).unwrap().unwrap()
    }

    #[test]
    fn a_request_may_stand_on_the_line_below_it_or_both() {
        assert_eq!(read("%%ask\n计算总和\n").request, "计算总和");
        assert_eq!(read("  \n%%ask plot it\nin red").request, "plot it\nin red");
        assert_eq!(read("%ask what is x?").request, "what is x?");
        assert_eq!(read("# why\n\n  # so\n%ask x?\n# done").request, "x?");
        assert!(read("# again\n%fix").fix);
        assert!(read("%fix").fix);
        assert_eq!(read("%fix but keep the name").request, "but keep the name");
    }

    #[test]
    fn options_come_first_and_are_checked() {
        let wish = read("%%ask --no-run --model gpt-x --approve=always\nsum");
        assert_eq!(wish.extent, Extent::Code);
        assert_eq!(wish.model.as_deref(), Some("gpt-x"));
        assert_eq!(wish.approve.as_deref(), Some("always"));
        assert_eq!(read("%%ask --plan-only\nx").extent, Extent::Plan);
        assert_eq!(read("%ask -- --odd request").request, "--odd request");
        for wrong in [
            "%%ask --modl x\ny",
            "%%ask --approve maybe\ny",
            "%%ask --model",
            "%%ask",
        ] {
            let error = parse(wrong).unwrap().unwrap_err();
            assert!(error.contains("%%ask on the cell's first line"), "{error}");
        }
    }

    #[test]
    fn other_cells_are_not_the_agents() {
        for code in [
            "x = 1\n%ask y",
            "%ask a\nb",
            "%asking",
            "print('%%ask')",
            "# %%ask\n",
            "%%time\n%ask x",
            "# first\n%%ask\nx",
            "# a\ny = 1\n%ask x",
            "# %ask x",
        ] {
            assert_eq!(parse(code), None, "{code}");
        }
    }
}
