//! A session as a notebook: what was asked, planned, run and answered, with the outputs that there were.

use super::history::{Cell, Round, Step, conversation};
use crate::event::{Event, KernelState, Status};
use crate::notebook::{Notebook, RAISES_EXCEPTION};
use crate::printable::is_unprintable;

/// The notebook of a session's events: valid nbformat 4.5, the same for the same events.
///
/// Requests, plans and answers are markdown cells. A cell that failed is tagged `raises-exception`, so that "run
/// all" gets past it.
pub fn notebook<'a>(events: impl IntoIterator<Item = &'a Event>) -> Notebook {
    let mut notebook = Notebook::new("python3", "Python 3 (ipykernel)");
    for round in conversation(events) {
        push_round(&mut notebook, &round);
    }
    notebook
}

fn push_round(notebook: &mut Notebook, round: &Round) {
    if !round.message.is_empty() || !round.files.is_empty() {
        let mut text = quoted(&round.message);
        if !round.files.is_empty() {
            let files: Vec<String> = round.files.iter().map(|file| escaped(file)).collect();
            text += &format!("\n\nFiles: {}", files.join(", "));
        }
        notebook.push_markdown(&text);
    }
    let mut shown = None;
    for step in &round.steps {
        match step {
            // The Planner repeats its plan with every reply.
            Step::Plan { plan, .. } if shown == Some(plan) => {}
            Step::Plan { plan, .. } => {
                notebook.push_markdown(&format!("**Plan**\n\n{plan}"));
                shown = Some(plan);
            }
            Step::Cell(cell) => push_cell(notebook, cell),
            Step::Kernel { state, reason } => {
                let became = match state {
                    KernelState::Fresh | KernelState::Kept => continue,
                    KernelState::Rebuilt => "a new kernel, in which the cells were run again",
                    KernelState::Lost => "a new kernel; the variables were lost",
                };
                notebook.push_markdown(&format!("**Kernel**: {became}. {}", escaped(reason)));
            }
        }
    }
    if let Some(answer) = &round.answer {
        notebook.push_markdown(answer);
    }
}

fn push_cell(notebook: &mut Notebook, cell: &Cell) {
    if !cell.thought.trim().is_empty() {
        notebook.push_markdown(&cell.thought);
    }
    let tags: &[&str] = match cell.status {
        Some(Status::Ok) => &[],
        _ => &[RAISES_EXCEPTION],
    };
    let index = notebook.push_code(&cell.code, tags);
    notebook.set_execution(index, &cell.outputs, cell.execution_count);
}

/// A person's text as a quotation, in its own lines, none of it taken for markdown.
fn quoted(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    // Markdown ends a line at a carriage return, too.
    let lines: Vec<&str> = text.trim_end().split(['\n', '\r']).collect();
    let quoted = lines.iter().enumerate().map(|(at, line)| {
        let next = lines
            .get(at + 1)
            .is_some_and(|next| !next.trim().is_empty());
        let line = escaped(line);
        match (line.is_empty(), next) {
            (true, _) => ">".to_owned(),
            // A backslash at the end keeps the line break.
            (false, true) => format!("> {line}\\"),
            (false, false) => format!("> {line}"),
        }
    });
    quoted.collect::<Vec<_>>().join("\n")
}

/// One line of plain text, in markdown that shows it as it is. A backslash before punctuation does that (CommonMark
/// 0.31, section 2.4) but for two cases: indentation, and the marks of formulas, `$`, `\(` and `\[`, which Jupyter looks
/// for in what the markdown has become, though not within `<code>`.
fn escaped(line: &str) -> String {
    let text = line.trim();
    let indent = line.chars().take_while(|char| char.is_whitespace()).count();
    let mut escaped = String::with_capacity(line.len());
    if !text.is_empty() {
        escaped += &"&nbsp;".repeat(indent);
    }
    let mut number = true;
    for (at, char) in text.char_indices() {
        // `1.` and `1)` begin a list, and so do `+` and `-`; `=` underlines a heading.
        let begins = at == 0 && matches!(char, '+' | '-' | '=');
        let numbers = at > 0 && number && matches!(char, '.' | ')');
        number &= char.is_ascii_digit();
        match char {
            '$' => escaped += r"<code>\$</code>",
            '\\' if text[at + 1..].starts_with(['(', '[']) => escaped += "<code>&#92;</code>",
            '\\' => escaped += "&#92;",
            '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '~' | '|' | '&' | '!' => {
                escaped.push('\\');
                escaped.push(char);
            }
            _ if is_unprintable(char) => escaped.push(' '),
            _ if begins || numbers => {
                escaped.push('\\');
                escaped.push(char);
            }
            _ => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn exported(events: Value) -> Value {
        let events: Vec<Event> = serde_json::from_value(events).unwrap();
        serde_json::to_value(notebook(&events)).unwrap()
    }

    fn sources(notebook: &Value) -> Vec<(String, String)> {
        let cells = notebook["cells"].as_array().unwrap().iter();
        let text = |cell: &Value| {
            let lines = cell["source"].as_array().unwrap().iter();
            lines.map(|line| line.as_str().unwrap()).collect()
        };
        cells
            .map(|cell| (cell["cell_type"].as_str().unwrap().to_owned(), text(cell)))
            .collect()
    }

    fn cell(kind: &str, source: &str) -> (String, String) {
        (kind.to_owned(), source.to_owned())
    }

    #[test]
    fn a_session_becomes_cells_in_its_order_with_real_outputs() {
        let notebook = exported(json!([
            {"event": "user", "message": "画图", "files": ["销售_1.csv"]},
            {"event": "plan", "init_plan": "", "plan": "1. plot", "current_plan_step": "1"},
            {"event": "code", "code": "1/0", "thought": "", "attempt": 1},
            {"event": "error", "ename": "ZeroDivisionError", "evalue": "d", "traceback": ["t"]},
            {"event": "executed", "status": "error", "execution_count": 1, "seconds": 0},
            {"event": "plan", "init_plan": "", "plan": "1. plot", "current_plan_step": "1"},
            {"event": "kernel", "state": "lost", "reason": "signal 9"},
            {"event": "code", "code": "a = 1\na", "thought": "Try *again*.", "attempt": 2},
            {"event": "stream", "name": "stdout", "text": "x\ny"},
            {"event": "display", "data": {"image/png": "QUJD"}, "metadata": {"image/png": {"width": 5}}},
            {"event": "result", "data": {"text/plain": "1"}, "execution_count": 2},
            {"event": "executed", "status": "ok", "execution_count": 2, "seconds": 0},
            {"event": "answer", "message": "**Done**"},
            {"event": "done", "status": "ok", "execution_count": 2, "seconds": 0}
        ]));
        assert_eq!(
            sources(&notebook),
            [
                cell("markdown", "> 画图\n\nFiles: 销售\\_1.csv"),
                cell("markdown", "**Plan**\n\n1. plot"),
                cell("code", "1/0"),
                cell(
                    "markdown",
                    "**Kernel**: a new kernel; the variables were lost. signal 9"
                ),
                cell("markdown", "Try *again*."),
                cell("code", "a = 1\na"),
                cell("markdown", "**Done**"),
            ]
        );
        let cells = &notebook["cells"];
        assert_eq!(cells[2]["metadata"]["tags"], json!(["raises-exception"]));
        assert_eq!(cells[2]["outputs"][0]["ename"], "ZeroDivisionError");
        assert_eq!(cells[5]["metadata"], json!({}));
        assert_eq!(cells[5]["execution_count"], 2);
        assert_eq!(
            cells[5]["outputs"],
            json!([
                {"name": "stdout", "output_type": "stream", "text": ["x\n", "y"]},
                {"data": {"image/png": "QUJD"}, "metadata": {"image/png": {"width": 5}},
                 "output_type": "display_data"},
                {"data": {"text/plain": ["1"]}, "execution_count": 2, "metadata": {},
                 "output_type": "execute_result"}
            ])
        );
        assert_eq!(
            (&notebook["nbformat"], &notebook["nbformat_minor"]),
            (&json!(4), &json!(5))
        );
    }

    #[test]
    fn a_persons_text_stays_text() {
        for (text, expected) in [
            ("# a *b* _c_ `d`", r"> \# a \*b\* \_c\_ \`d\`"),
            (
                "1. a\n2) b\n-c\n+ d",
                "> 1\\. a\\\n> 2\\) b\\\n> \\-c\\\n> \\+ d",
            ),
            (
                "a\n\n    b\n===",
                "> a\n>\n> &nbsp;&nbsp;&nbsp;&nbsp;b\\\n> \\===",
            ),
            (
                "<script>x</script> [a](b) ![c] &lt;",
                r"> \<script\>x\</script\> \[a\](b) \!\[c\] \&lt;",
            ),
            ("$5 and C:\\x", r"> <code>\$</code>5 and C:&#92;x"),
            (r"\(x\[", r"> <code>&#92;</code>(x<code>&#92;</code>\["),
            ("a\r# b\r\n\0c\n", "> a\\\n> \\# b\\\n>  c"),
            ("3.14 is 1-2", r"> 3\.14 is 1-2"),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn the_same_events_give_the_same_notebook() {
        let events =
            json!([{"event": "user", "message": "a"}, {"event": "answer", "message": "b"}]);
        assert_eq!(exported(events.clone()), exported(events));
    }
}
