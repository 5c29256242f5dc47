//! The agent's work as the outputs of the cell that asked for it.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::front::Desk;
use crate::event::{Event, KernelState, Level, Part, Sink, Status};
use crate::protocol::RawMessage;
use crate::protocol::content::{DisplayData, Stream, Transient, UpdateDisplayData};

/// How often a growing text is sent anew.
const FRAME: Duration = Duration::from_millis(100);

/// Renders events into one cell. What running code puts out is not among it: that reaches the cell as it is.
pub struct Cell {
    desk: Desk,
    request: RawMessage,
    /// Whether the front end can replace what it shows. One that names the cell keeps it on the screen.
    live: bool,
    growing: Option<Growing>,
    /// The last code that ran to its end, or was written and not run.
    code: Option<String>,
    offered: Option<String>,
    answer: String,
    count: Option<u64>,
}

/// A text that is still arriving.
struct Growing {
    part: Part,
    text: String,
    display_id: String,
    shown: Option<Instant>,
}

impl Cell {
    pub fn new(desk: Desk, request: RawMessage) -> Cell {
        let metadata: Map<String, Value> =
            serde_json::from_slice(&request.metadata).unwrap_or_default();
        Cell {
            desk,
            request,
            live: metadata.contains_key("cellId"),
            growing: None,
            code: None,
            offered: None,
            answer: String::new(),
            count: None,
        }
    }

    /// The code to offer as the next cell.
    pub fn offered(&mut self) -> Option<String> {
        self.offered.take()
    }

    /// The number of the last run.
    pub fn count(&self) -> Option<u64> {
        self.count
    }

    /// The last answer, for the reply of a request that failed.
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// Code that was written and is not run here.
    pub fn offer_last(&mut self) {
        self.offered = self.code.take();
    }

    pub fn note(&self, text: &str) {
        let text = format!("{text}\n");
        let name = "stderr".into();
        self.desk.publish(&self.request, Stream { name, text });
    }

    fn grow(&mut self, part: Part, text: &str) {
        if !self.live {
            return;
        }
        let growing = match &mut self.growing {
            Some(growing) if growing.part == part => growing,
            slot => slot.insert(Growing {
                part,
                text: String::new(),
                display_id: uuid::Uuid::new_v4().to_string(),
                shown: None,
            }),
        };
        growing.text.push_str(text);
        if growing.shown.is_none_or(|shown| shown.elapsed() >= FRAME) {
            let data = bundle(part, &growing.text);
            let first = growing.shown.replace(Instant::now()).is_none();
            let display_id = growing.display_id.clone();
            self.display(data, Some(display_id), !first);
        }
    }

    /// Shows a part that is complete, in the place where it grew.
    fn show(&mut self, part: Part, data: Map<String, Value>) {
        match self.growing.take() {
            Some(growing) if growing.part == part && growing.shown.is_some() => {
                self.display(data, Some(growing.display_id), true);
            }
            _ => self.display(data, None, false),
        }
    }

    fn display(&self, data: Map<String, Value>, display_id: Option<String>, update: bool) {
        let transient = Transient {
            display_id,
            ..Transient::default()
        };
        let metadata = Map::new();
        match update {
            true => self.desk.publish(
                &self.request,
                UpdateDisplayData {
                    data,
                    metadata,
                    transient,
                },
            ),
            false => self.desk.publish(
                &self.request,
                DisplayData {
                    data,
                    metadata,
                    transient,
                },
            ),
        }
    }
}

impl Sink for Cell {
    fn emit(&mut self, event: Event) {
        match event {
            Event::Delta { of, text } => self.grow(of, &text),
            Event::Plan {
                plan,
                init_plan,
                current_plan_step,
            } => {
                let plan = if plan.trim().is_empty() {
                    init_plan
                } else {
                    plan
                };
                let step = match current_plan_step.trim() {
                    "" => String::new(),
                    step => format!("\n\n*{step}*"),
                };
                self.show(Part::Plan, bundle(Part::Plan, &format!("{plan}{step}")));
            }
            Event::Code { code, attempt, .. } => {
                if attempt > 1 {
                    self.note(&format!("Try {attempt}:"));
                }
                self.show(Part::Code, bundle(Part::Code, &code));
                self.code = Some(code);
            }
            Event::Executed {
                status,
                execution_count,
                ..
            } => {
                self.count = execution_count.or(self.count);
                if status == Status::Ok {
                    self.offered = self.code.take();
                }
            }
            Event::Answer { message } => {
                self.show(Part::Answer, bundle(Part::Answer, &message));
                self.answer = message;
            }
            // What a kernel raised has a traceback, and is there already.
            Event::Error {
                ename,
                evalue,
                traceback,
            } if traceback.is_empty() => self.note(&format!("{ename}: {evalue}")),
            Event::Kernel {
                state: KernelState::Lost,
                reason,
            } => self.note(&format!("Variables are lost: {reason}.")),
            Event::Notice { level, message } if level != Level::Error => self.note(&message),
            _ => {}
        }
    }
}

/// A part as Markdown, and as plain text for front ends that have none.
fn bundle(part: Part, text: &str) -> Map<String, Value> {
    let text = clean(text);
    let (markdown, plain) = match part {
        Part::Plan => (format!("**Plan**\n\n{text}"), format!("Plan\n{text}")),
        Part::Code => {
            let fence = fence(&text);
            (format!("{fence}python\n{text}\n{fence}"), text)
        }
        Part::Answer => (text.clone(), text),
    };
    Map::from_iter([
        ("text/markdown".to_owned(), json!(markdown)),
        ("text/plain".to_owned(), json!(plain)),
    ])
}

/// A fence that the text cannot close.
fn fence(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max();
    "`".repeat(longest.unwrap_or_default().max(2) + 1)
}

/// Text of a model's without what would steer a terminal.
pub fn clean(text: &str) -> String {
    let harmless = |character: &char| !character.is_control() || matches!(character, '\n' | '\t');
    text.chars().filter(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_cannot_leave_its_fence_nor_steer_a_terminal() {
        let data = bundle(Part::Code, "print('''```''')\x1b[2J");
        let markdown = data["text/markdown"].as_str().unwrap();
        assert!(
            markdown.starts_with("````python\n") && markdown.ends_with("\n````"),
            "{markdown}"
        );
        assert!(!data["text/plain"].as_str().unwrap().contains('\x1b'));
    }
}
