//! The outputs of cells, built up from the events of their execution as Jupyter's front ends do it.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::lines;
use crate::event::{Event, MimeBundle};

/// One output of a code cell, as nbformat 4 knows them.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Stream {
        name: String,
        text: String,
    },
    DisplayData {
        data: MimeBundle,
        metadata: Map<String, Value>,
    },
    ExecuteResult {
        data: MimeBundle,
        metadata: Map<String, Value>,
        execution_count: Option<u64>,
    },
    Error {
        ename: String,
        evalue: String,
        traceback: Vec<String>,
    },
}

impl Output {
    /// What the output says as plain text; empty for a picture.
    pub fn text(&self) -> String {
        match self {
            Output::Stream { text, .. } => text.clone(),
            Output::Error { ename, evalue, .. } => format!("{ename}: {evalue}"),
            Output::DisplayData { data, .. } | Output::ExecuteResult { data, .. } => {
                match data.get("text/plain") {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).collect(),
                    _ => String::new(),
                }
            }
        }
    }

    /// The output as it stands in a notebook's file: valid, whatever the kernel sent.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Output::Stream { name, text } => {
                json!({"name": name, "output_type": "stream", "text": lines(text)})
            }
            Output::DisplayData { data, metadata } => json!({
                "data": bundle(data),
                "metadata": metadata,
                "output_type": "display_data"
            }),
            Output::ExecuteResult {
                data,
                metadata,
                execution_count,
            } => json!({
                "data": bundle(data),
                "execution_count": execution_count,
                "metadata": metadata,
                "output_type": "execute_result"
            }),
            Output::Error {
                ename,
                evalue,
                traceback,
            } => json!({
                "ename": ename,
                "evalue": evalue,
                "output_type": "error",
                "traceback": traceback
            }),
        }
    }
}

/// A MIME bundle in the file's form: sorted, texts as lines. Only JSON types may hold more than text; anything
/// else that a kernel put there is kept as the text of its JSON.
fn bundle(data: &MimeBundle) -> Value {
    let mut data = data.clone();
    data.sort_keys();
    for (mime, value) in &mut data {
        let json_type = mime == "application/json"
            || (mime.starts_with("application/") && mime.ends_with("+json"));
        let by_line = mime.starts_with("text/")
            || ["image/svg+xml", "application/javascript"].contains(&mime.as_str());
        let is_text = match value {
            Value::String(_) => true,
            Value::Array(list) => list.iter().all(Value::is_string),
            _ => false,
        };
        if !json_type && !is_text {
            *value = Value::String(value.to_string());
        }
        if by_line && let Value::String(text) = value {
            *value = json!(lines(text));
        }
    }
    Value::Object(data)
}

/// Collects the outputs of the cells of one run, or one session.
///
/// It holds all cells together because an update of a display changes it wherever it is shown, in earlier cells
/// too. Events that are no output pass by.
#[derive(Debug, Default)]
pub struct OutputCollector {
    cells: Vec<Vec<Output>>,
    /// Where each `display_id` is shown: cell, output in it.
    displays: HashMap<String, Vec<(usize, usize)>>,
    /// `clear_output(wait=True)` was called, and nothing has come since.
    clear_next: bool,
    changed: BTreeSet<usize>,
}

impl OutputCollector {
    /// The outputs that follow belong to a new cell, whose number, counting from 0, is given back.
    pub fn start_cell(&mut self) -> usize {
        let cell = self.cells.len();
        self.cells.push(Vec::new());
        self.changed.insert(cell);
        self.clear_next = false;
        cell
    }

    /// Takes in an event of the current cell. Before the first cell there is nowhere to put it.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Stream { name, text } => self.stream(name, text),
            Event::Display {
                data,
                metadata,
                display_id,
                update,
            } => {
                let output = Output::DisplayData {
                    data: data.clone(),
                    metadata: metadata.clone(),
                };
                if let Some(id) = display_id {
                    self.update(id, data, metadata);
                }
                // An update of a display that nobody has seen shows nothing.
                if !update && let Some(place) = self.push(output) {
                    let id = display_id.iter().cloned();
                    id.for_each(|id| self.displays.entry(id).or_default().push(place));
                }
            }
            Event::Result {
                data,
                metadata,
                execution_count,
            } => {
                self.push(Output::ExecuteResult {
                    data: data.clone(),
                    metadata: metadata.clone(),
                    execution_count: *execution_count,
                });
            }
            Event::Error {
                ename,
                evalue,
                traceback,
            } => {
                self.push(Output::Error {
                    ename: ename.clone(),
                    evalue: evalue.clone(),
                    traceback: traceback.clone(),
                });
            }
            Event::ClearOutput { wait: true } => self.clear_next = true,
            Event::ClearOutput { wait: false } => self.clear(),
            _ => {}
        }
    }

    /// The outputs of a cell so far; none for a number that was not given out.
    pub fn outputs(&self, cell: usize) -> &[Output] {
        self.cells.get(cell).map_or(&[], Vec::as_slice)
    }

    /// The cells whose outputs have changed since this was last asked.
    pub fn take_changed(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.changed).into_iter().collect()
    }

    /// The outputs of all cells.
    pub fn into_cells(self) -> Vec<Vec<Output>> {
        self.cells
    }

    /// Text goes on where text of the same stream ended.
    fn stream(&mut self, name: &str, text: &str) {
        self.clear_if_due();
        if let Some(cell) = self.cells.last_mut()
            && let Some(Output::Stream {
                name: last,
                text: t,
            }) = cell.last_mut()
            && last == name
        {
            t.push_str(text);
            self.changed.insert(self.cells.len() - 1);
            return;
        }
        self.push(Output::Stream {
            name: name.to_owned(),
            text: text.to_owned(),
        });
    }

    fn push(&mut self, output: Output) -> Option<(usize, usize)> {
        self.clear_if_due();
        let cell = self.cells.len().checked_sub(1)?;
        self.changed.insert(cell);
        self.cells[cell].push(output);
        Some((cell, self.cells[cell].len() - 1))
    }

    /// Shows new data wherever `id` is shown.
    fn update(&mut self, id: &str, data: &MimeBundle, metadata: &Map<String, Value>) {
        for &(cell, at) in self.displays.get(id).into_iter().flatten() {
            self.cells[cell][at] = Output::DisplayData {
                data: data.clone(),
                metadata: metadata.clone(),
            };
            self.changed.insert(cell);
        }
    }

    fn clear_if_due(&mut self) {
        if self.clear_next {
            self.clear();
        }
    }

    /// Empties the current cell, and forgets the displays that were in it.
    fn clear(&mut self) {
        self.clear_next = false;
        if let Some(outputs) = self.cells.last_mut() {
            outputs.clear();
            let cell = self.cells.len() - 1;
            self.changed.insert(cell);
            for places in self.displays.values_mut() {
                places.retain(|place| place.0 != cell);
            }
            self.displays.retain(|_, places| !places.is_empty());
        }
    }
}
