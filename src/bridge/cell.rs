//! The agent's work as the outputs of the cell that asked for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::front::Desk;
use crate::event::{Event, KernelState, Level, Part, Sink, Status};
use crate::printable::prose;
use crate::protocol::RawMessage;
use crate::protocol::content::{DisplayData, Stream, Transient, UpdateDisplayData};

/// How often a growing text is sent anew.
const FRAME: Duration = Duration::from_millis(100);

/// Renders events into one cell. What running code puts out is not among it: that reaches the cell as it is.
pub struct Cell {
    page: Arc<Page>,
    /// The code that was written last and has not run to its end.
    code: Option<String>,
    /// The code to offer, piece by piece.
    offered: Vec<String>,
    answer: String,
    count: Option<u64>,
}

/// Where a cell is shown, and the text that grows there.
pub struct Page {
    desk: Desk,
    request: RawMessage,
    /// Whether the front end can replace what it shows. One that names the cell keeps it on the screen.
    live: bool,
    growing: Mutex<Option<Growing>>,
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
            page: Arc::new(Page {
                desk,
                request,
                live: metadata.contains_key("cellId"),
                growing: Mutex::default(),
            }),
            code: None,
            offered: Vec::new(),
            answer: String::new(),
            count: None,
        }
    }

    /// The code to offer as the next cell: all that ran well, in its order, as a later piece builds on an earlier one.
    pub fn offered(&mut self) -> Option<String> {
        let pieces = std::mem::take(&mut self.offered);
        (!pieces.is_empty()).then(|| pieces.join("\n\n"))
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
        self.offered = self.code.take().into_iter().collect();
    }

    /// For who shows something between what the agent shows.
    pub fn page(&self) -> Arc<Page> {
        self.page.clone()
    }

    pub fn note(&self, text: &str) {
        self.page.print("stderr", &format!("{text}\n"));
    }
}

impl Page {
    pub fn print(&self, name: &str, text: &str) {
        let (name, text) = (name.into(), text.to_owned());
        self.desk.publish(&self.request, Stream { name, text });
    }

    fn grow(&self, part: Part, text: &str) {
        if !self.live {
            return;
        }
        let mut slot = self.growing();
        let growing = match &mut *slot {
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
            self.show_growing(growing);
        }
    }

    /// Shows all of a text that has stopped growing for now.
    pub fn catch_up(&self) {
        if let Some(growing) = &mut *self.growing() {
            self.show_growing(growing);
        }
    }

    fn show_growing(&self, growing: &mut Growing) {
        let data = bundle(growing.part, &growing.text);
        let first = growing.shown.replace(Instant::now()).is_none();
        self.display(data, Some(growing.display_id.clone()), !first);
    }

    /// Shows a part that is complete, in the place where it grew.
    fn show(&self, part: Part, text: &str) {
        let data = bundle(part, text);
        match self.growing().take() {
            Some(growing) if growing.part == part && growing.shown.is_some() => {
                self.display(data, Some(growing.display_id), true);
            }
            _ => self.display(data, None, false),
        }
    }

    fn growing(&self) -> std::sync::MutexGuard<'_, Option<Growing>> {
        // A text that lacks its last piece is as good as any.
        self.growing.lock().unwrap_or_else(PoisonError::into_inner)
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
            Event::Delta { of, text } => self.page.grow(of, &text),
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
                // The only step of a plan need not be told twice.
                let step = match current_plan_step.trim() {
                    step if step.is_empty() || step == plan.trim() => String::new(),
                    step => format!("\n\n*{step}*"),
                };
                self.page.show(Part::Plan, &format!("{plan}{step}"));
            }
            Event::Code { code, attempt, .. } => {
                if attempt > 1 {
                    self.note(&format!("Try {attempt}:"));
                }
                self.page.show(Part::Code, &code);
                self.code = Some(code);
            }
            Event::Executed {
                status,
                execution_count,
                ..
            } => {
                self.count = execution_count.or(self.count);
                if status == Status::Ok {
                    let piece = self.code.take();
                    let piece = piece.map(|code| code.trim_end().to_owned());
                    self.offered.extend(piece);
                }
            }
            Event::Answer { message } => {
                self.page.show(Part::Answer, &message);
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

/// Text of a model's, without what would steer a terminal.
pub fn clean(text: &str) -> String {
    prose(text).into_owned()
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
