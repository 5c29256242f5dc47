//! What one cell and one round of code may put into the log of a session. The rest is kept as files, up to a bound.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::event::{Event, Level, MimeBundle};
use crate::executor::artifacts::{Folder, text_of};
use crate::executor::clip::clip;

/// Bytes of what a cell prints and raises, of its rich outputs, and of all that the cells of a round put out.
const CELL_TEXT: usize = 1 << 20;
const CELL_DISPLAYS: usize = 8 << 20;
const ROUND: usize = 64 << 20;
/// Outputs of a cell, of whatever size.
const CELL_EVENTS: usize = 10_000;
/// Bytes of the files with rich outputs of a round that are not in the log.
const ROUND_FILES: usize = 256 << 20;
/// Bytes that are always there for the beginning and the end of a text.
const LEAST: usize = 200;
/// Characters of the plain text of a rich output that is not in the log.
const PLAIN: usize = 2000;

/// What a round has put into the log so far.
pub(super) struct LogBudget {
    outputs: PathBuf,
    /// Made for the first rich output that is kept as a file.
    folder: Option<Folder>,
    cell: Spent,
    round: usize,
    files: usize,
}

/// What the running cell has.
#[derive(Default)]
struct Spent {
    text: usize,
    /// Nothing further that it prints is taken.
    text_cut: bool,
    displays: usize,
    events: usize,
}

impl LogBudget {
    /// For one round; what has no place in the log goes to the folder `outputs`.
    pub(super) fn new(outputs: PathBuf) -> LogBudget {
        LogBudget {
            outputs,
            folder: None,
            cell: Spent::default(),
            round: 0,
            files: 0,
        }
    }

    /// What the log gets of an event.
    pub(super) fn logged(&mut self, event: &Event) -> Option<Event> {
        match event {
            Event::Code { .. } => self.cell = Spent::default(),
            Event::Stream { .. }
            | Event::Display { .. }
            | Event::Result { .. }
            | Event::ClearOutput { .. }
            | Event::Error { .. }
            | Event::Artifact { .. } => {
                self.cell.events += 1;
                if self.cell.events > CELL_EVENTS {
                    return (self.cell.events == CELL_EVENTS + 1).then(|| Event::Notice {
                        level: Level::Warning,
                        message: "further outputs of this cell are not in the log".into(),
                    });
                }
            }
            _ => {}
        }
        match event {
            Event::Stream { name, text } => Some(Event::Stream {
                name: name.clone(),
                text: self.text(text)?,
            }),
            Event::Error {
                ename,
                evalue,
                traceback,
            } => {
                let size = ename.len() + evalue.len() + total(traceback);
                let room = self.room(CELL_TEXT, self.cell.text);
                if size <= room {
                    self.cell.text += size;
                    self.round += size;
                    return Some(event.clone());
                }
                Some(Event::Error {
                    ename: clip(ename, LEAST),
                    evalue: clip(evalue, PLAIN),
                    traceback: vec![clip(&traceback.join("\n"), PLAIN)],
                })
            }
            Event::Display {
                data,
                metadata,
                display_id,
                update,
            } => {
                let (data, metadata) = self.rich(data, metadata, *update);
                Some(Event::Display {
                    data,
                    metadata,
                    display_id: display_id.clone(),
                    update: *update,
                })
            }
            Event::Result {
                data,
                metadata,
                execution_count,
            } => {
                let (data, metadata) = self.rich(data, metadata, false);
                Some(Event::Result {
                    data,
                    metadata,
                    execution_count: *execution_count,
                })
            }
            event => Some(event.clone()),
        }
    }

    /// Bytes that are left of `most` for the cell, which has spent so many.
    fn room(&self, most: usize, spent: usize) -> usize {
        most.saturating_sub(spent)
            .min(ROUND.saturating_sub(self.round))
    }

    fn text(&mut self, text: &str) -> Option<String> {
        if self.cell.text_cut {
            return None;
        }
        let room = self.room(CELL_TEXT, self.cell.text);
        self.cell.text += text.len();
        self.round += text.len().min(room);
        if text.len() <= room {
            return Some(text.to_owned());
        }
        self.cell.text_cut = true;
        let text = clip(text, room.max(LEAST));
        Some(text + "\n[… further output of this cell is not in the log …]\n")
    }

    fn rich(
        &mut self,
        data: &MimeBundle,
        metadata: &Map<String, Value>,
        update: bool,
    ) -> (MimeBundle, Map<String, Value>) {
        let size = size(data) + size(metadata);
        let room = self.room(CELL_DISPLAYS, self.cell.displays);
        if size <= room {
            self.cell.displays += size;
            self.round += size;
            return (data.clone(), metadata.clone());
        }
        // Each frame of an animation would be another file.
        let place = match update {
            true => None,
            false => self.keep(data),
        };
        let place = match place {
            Some(name) => format!("is in outputs/{name}"),
            None => "is left out".to_owned(),
        };
        let types: Vec<&str> = data.keys().take(5).map(String::as_str).collect();
        let plain = data.get("text/plain").map(text_of).unwrap_or_default();
        let text = format!(
            "{}\n[… an output of {:.1} MiB ({}) is too large for the log and {place} …]",
            clip(&plain, PLAIN),
            size as f64 / f64::from(1 << 20),
            clip(&types.join(", "), LEAST),
        );
        let data = Map::from_iter([("text/plain".to_owned(), text.trim_start().into())]);
        (data, Map::new())
    }

    /// Keeps a rich output as a file, and gives its name.
    fn keep(&mut self, data: &MimeBundle) -> Option<String> {
        let bytes = serde_json::to_vec(data).ok()?;
        if self.files + bytes.len() > ROUND_FILES {
            return None;
        }
        let outputs = &self.outputs;
        let folder = self.folder.get_or_insert_with(|| Folder::settle(outputs));
        let path = folder.write_new("display", "json", &bytes).ok()?;
        self.files += bytes.len();
        Some(path.file_name()?.to_string_lossy().into_owned())
    }
}

fn total(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}

/// About the bytes that the values take as JSON.
fn size(values: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len() + 2,
            Value::Array(values) => values.iter().map(|value| of(value) + 1).sum::<usize>() + 2,
            Value::Object(values) => size(values),
            _ => 8,
        }
    }
    let entries = values.iter();
    entries
        .map(|(key, value)| key.len() + 4 + of(value))
        .sum::<usize>()
        + 2
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn display(megabytes: usize, update: bool) -> Event {
        let data = json!({"text/plain": "<Figure>", "image/png": "A".repeat(megabytes << 20)});
        Event::Display {
            data: data.as_object().unwrap().clone(),
            metadata: Map::new(),
            display_id: None,
            update,
        }
    }

    fn code() -> Event {
        Event::Code {
            code: "x".into(),
            thought: String::new(),
            attempt: 1,
        }
    }

    fn logged(budget: &mut LogBudget, event: &Event) -> usize {
        let event = budget.logged(event);
        event.map_or(0, |event| serde_json::to_string(&event).unwrap().len())
    }

    #[test]
    fn large_displays_are_kept_beside_the_log_with_words_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut budget = LogBudget::new(folder.path().join("outputs"));
        budget.logged(&code());
        assert_eq!(budget.logged(&display(5, false)), Some(display(5, false)));
        let Some(Event::Display { data, .. }) = budget.logged(&display(6, false)) else {
            panic!();
        };
        let text = data["text/plain"].as_str().unwrap();
        assert_eq!(
            text,
            "<Figure>\n[… an output of 6.0 MiB (text/plain, image/png) is too large for the log and is in \
             outputs/display.json …]"
        );
        let kept = std::fs::read(folder.path().join("outputs/display.json")).unwrap();
        let kept: Value = serde_json::from_slice(&kept).unwrap();
        assert_eq!(kept["image/png"].as_str().unwrap().len(), 6 << 20);
        budget.logged(&display(6, true));
        assert_eq!(
            std::fs::read_dir(folder.path().join("outputs"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn no_cell_and_no_round_fills_the_log_or_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut budget = LogBudget::new(folder.path().to_owned());
        let stream = Event::Stream {
            name: "stdout".into(),
            text: "x".repeat(3 << 20),
        };
        let raised = Event::Error {
            ename: "E".repeat(3 << 20),
            evalue: "e".repeat(3 << 20),
            traceback: vec!["t".repeat(3 << 20); 3],
        };
        let mut round = 0;
        for _ in 0..20 {
            budget.logged(&code());
            let mut cell = 0;
            for event in [
                &stream,
                &raised,
                &display(7, false),
                &display(7, false),
                &stream,
            ] {
                cell += logged(&mut budget, event);
            }
            assert!(cell < CELL_TEXT + CELL_DISPLAYS + (64 << 10), "{cell}");
            round += cell;
        }
        assert!(round < ROUND + (1 << 20), "{round}");
        let files = std::fs::read_dir(folder.path()).unwrap();
        let files: u64 = files.map(|it| it.unwrap().metadata().unwrap().len()).sum();
        assert!(files <= ROUND_FILES as u64, "{files}");
    }

    #[test]
    fn outputs_without_end_are_cut_once() {
        let mut budget = LogBudget::new(PathBuf::from("nowhere"));
        budget.logged(&code());
        let clear = Event::ClearOutput { wait: true };
        let taken = (0..3 * CELL_EVENTS).filter_map(|_| budget.logged(&clear));
        let taken: Vec<Event> = taken.collect();
        assert_eq!(taken.len(), CELL_EVENTS + 1);
        assert!(matches!(taken.last(), Some(Event::Notice { .. })));
        // The next cell has its own.
        budget.logged(&code());
        assert_eq!(budget.logged(&clear), Some(clear));
    }
}
