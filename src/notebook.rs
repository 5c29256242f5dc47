//! Jupyter notebooks (nbformat 4): read, run through, write; every field that is not understood is kept.
//!
//! A notebook is held as the JSON it is, not as types: whatever Jupyter or an extension put there comes out
//! again. What is written is what Jupyter itself writes: one space of indent, texts as lists of lines,
//! characters beyond ASCII as they are. Source: nbformat's `nbformat.v4.5.schema.json`.

mod output;
mod target;

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

pub use output::{Output, OutputCollector};
pub use target::Target;

use crate::open;

/// The largest notebook that is read, in bytes.
const LARGEST: u64 = 1 << 30;

/// Cells with this tag are expected to fail; a run goes on behind them.
pub const RAISES_EXCEPTION: &str = "raises-exception";

/// Why a notebook could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotebookError {
    /// The file could not be read.
    #[error("cannot read the notebook {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file could not be written; what was there before is unchanged.
    #[error("cannot write the notebook {}: {source}. What was there before is unchanged", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The bytes are no JSON.
    #[error(
        "not a Jupyter notebook: its JSON is broken ({0}). Open it in Jupyter and save it again, \
         or take an earlier copy from its .ipynb_checkpoints folder"
    )]
    Json(#[from] serde_json::Error),
    /// The JSON is of another major version of the format.
    #[error(
        "this notebook has nbformat {found}, and only nbformat 4 can be used. \
         Convert it: jupyter nbconvert --to notebook --nbformat 4 FILE"
    )]
    Version { found: String },
    /// The JSON is no notebook.
    #[error(
        "not a Jupyter notebook of nbformat 4: {problem}. If Jupyter opens it, \
         convert it: jupyter nbconvert --to notebook --nbformat 4 FILE"
    )]
    Structure { problem: String },
    /// Any of the above, in a file of this name.
    #[error("{}: {source}", path.display())]
    In {
        path: PathBuf,
        source: Box<NotebookError>,
    },
}

/// A code cell, as far as running it is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeCell {
    /// Position among all cells of the notebook; what [`Notebook::set_execution`] takes.
    pub index: usize,
    /// The cell's id; notebooks before 4.5 have none.
    pub id: Option<String>,
    pub source: String,
    pub tags: Vec<String>,
}

impl CodeCell {
    /// Whether the cell is expected to fail.
    pub fn raises_exception(&self) -> bool {
        self.tags.iter().any(|tag| tag == RAISES_EXCEPTION)
    }
}

/// A notebook of nbformat 4, any minor version.
#[derive(Clone, Debug, PartialEq)]
pub struct Notebook {
    cells: Vec<Value>,
    /// Everything of the file; `cells` stands here as `null`, to keep its place.
    root: Map<String, Value>,
}

impl Notebook {
    /// An empty notebook of nbformat 4.5 for the kernelspec `name` of a Python kernel.
    pub fn new(name: &str, display_name: &str) -> Notebook {
        let metadata = json!({
            "kernelspec": {"display_name": display_name, "language": "python", "name": name},
            "language_info": {
                "file_extension": ".py",
                "mimetype": "text/x-python",
                "name": "python",
                "pygments_lexer": "ipython3"
            }
        });
        Notebook {
            cells: Vec::new(),
            root: Map::from_iter([
                ("cells".to_owned(), Value::Null),
                ("metadata".to_owned(), metadata),
                ("nbformat".to_owned(), json!(4)),
                ("nbformat_minor".to_owned(), json!(5)),
            ]),
        }
    }

    /// Reads the JSON of a notebook.
    pub fn parse(bytes: &[u8]) -> Result<Notebook, NotebookError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let structure = |problem: &str| NotebookError::Structure {
            problem: problem.to_owned(),
        };
        let Value::Object(mut root) = serde_json::from_slice(bytes)? else {
            return Err(structure("the JSON is not an object"));
        };
        match root.get("nbformat") {
            Some(version) if version.as_u64() == Some(4) => {}
            Some(version @ Value::Number(_)) => {
                return Err(NotebookError::Version {
                    found: version.to_string(),
                });
            }
            Some(_) => return Err(structure("its `nbformat` is not a number")),
            None => return Err(structure("it has no `nbformat`")),
        }
        let Some(Value::Array(cells)) = root.get_mut("cells").map(Value::take) else {
            return Err(structure("its `cells` is not a list"));
        };
        if let Some(at) = cells.iter().position(|cell| !cell.is_object()) {
            return Err(structure(&format!("cell {} is not an object", at + 1)));
        }
        Ok(Notebook { cells, root })
    }

    /// Reads a notebook's file.
    pub fn read(path: &Path) -> Result<Notebook, NotebookError> {
        let bytes = open::read_input(path, LARGEST).map_err(|source| NotebookError::Read {
            path: path.to_owned(),
            source,
        })?;
        Notebook::parse(&bytes).map_err(|source| NotebookError::In {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// The name of the kernelspec that the notebook asks for.
    pub fn kernel_name(&self) -> Option<&str> {
        self.field("metadata")["kernelspec"]["name"].as_str()
    }

    /// The programming language that the notebook says it is in, in lower case.
    pub fn language(&self) -> Option<String> {
        let metadata = self.field("metadata");
        [
            &metadata["kernelspec"]["language"],
            &metadata["language_info"]["name"],
        ]
        .iter()
        .find_map(|name| name.as_str())
        .map(str::to_lowercase)
    }

    /// The kernelspec that it was saved with.
    pub fn kernel(&self) -> Option<String> {
        let name = &self.field("metadata")["kernelspec"]["name"];
        name.as_str().map(str::to_owned)
    }

    /// A field of the notebook itself; `null` where there is none.
    fn field(&self, key: &str) -> &Value {
        self.root.get(key).unwrap_or(&Value::Null)
    }

    /// The code cells, in order.
    pub fn code_cells(&self) -> Vec<CodeCell> {
        let code = |cell: &&Value| cell["cell_type"] == "code";
        let cells = self.cells.iter().enumerate();
        cells
            .filter(|(_, cell)| code(cell))
            .map(|(index, cell)| CodeCell {
                index,
                id: cell["id"].as_str().map(str::to_owned),
                source: joined(&cell["source"]),
                tags: strings(&cell["metadata"]["tags"])
                    .map(str::to_owned)
                    .collect(),
            })
            .collect()
    }

    /// Replaces the outputs and the execution count of the code cell at `index` (see [`CodeCell::index`]).
    /// Any other index changes nothing.
    pub fn set_execution(
        &mut self,
        index: usize,
        outputs: &[Output],
        execution_count: Option<u64>,
    ) {
        if let Some(Value::Object(cell)) = self.cells.get_mut(index)
            && cell.get("cell_type").is_some_and(|kind| kind == "code")
        {
            cell.insert("execution_count".into(), json!(execution_count));
            let outputs = outputs.iter().map(Output::to_json).collect();
            cell.insert("outputs".into(), Value::Array(outputs));
        }
    }

    /// Appends a markdown cell.
    pub fn push_markdown(&mut self, source: &str) {
        self.push(json!({
            "cell_type": "markdown",
            "id": null,
            "metadata": {},
            "source": lines(source)
        }));
    }

    /// Appends a code cell that has not been run, and gives its index for [`Notebook::set_execution`].
    pub fn push_code(&mut self, source: &str, tags: &[&str]) -> usize {
        let metadata = if tags.is_empty() {
            json!({})
        } else {
            json!({ "tags": tags })
        };
        self.push(json!({
            "cell_type": "code",
            "execution_count": null,
            "id": null,
            "metadata": metadata,
            "outputs": [],
            "source": lines(source)
        }))
    }

    /// Appends a cell under the next free id. Ids count, so that the same content gives the same file.
    fn push(&mut self, mut cell: Value) -> usize {
        let index = self.cells.len();
        if self.field("nbformat_minor").as_u64() >= Some(5) {
            let taken: HashSet<&str> = self.cells.iter().filter_map(|c| c["id"].as_str()).collect();
            let mut number = index + 1;
            while taken.contains(format!("cell-{number}").as_str()) {
                number += 1;
            }
            cell["id"] = format!("cell-{number}").into();
        } else if let Some(cell) = cell.as_object_mut() {
            cell.shift_remove("id");
        }
        self.cells.push(cell);
        index
    }

    /// Writes the notebook's JSON.
    pub fn write_to(&self, mut writer: impl Write) -> io::Result<()> {
        let formatter = PrettyFormatter::with_indent(b" ");
        self.serialize(&mut Serializer::with_formatter(&mut writer, formatter))?;
        writer.write_all(b"\n")
    }

    /// Saves the notebook in one step: a reader of `path` sees the old file or the new one, and a fault leaves
    /// the old one. The mode of an existing file is kept, a symbolic link stays one, and what is not a regular
    /// file (`/dev/stdout`) is written to.
    pub fn save(&self, path: &Path) -> Result<(), NotebookError> {
        Target::settle(path)?.save(self)
    }
}

impl Serialize for Notebook {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(self.root.len()))?;
        for (key, value) in &self.root {
            if key == "cells" {
                map.serialize_entry(key, &self.cells)?;
            } else {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

/// A text as nbformat allows it, one string or a list of strings, in one piece.
fn joined(text: &Value) -> String {
    match text {
        Value::String(text) => text.clone(),
        text => strings(text).collect(),
    }
}

/// The strings of a list; nothing, if it is no list.
fn strings(list: &Value) -> impl Iterator<Item = &str> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str)
}

/// A text as Jupyter writes it: a list of lines, each with its line ending. Lines end where they end for
/// Python's `str.splitlines`, which is what nbformat uses.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        let crlf = char == '\r' && chars.peek().is_some_and(|(_, next)| *next == '\n');
        let ends = matches!(
            char,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        );
        if ends && !crlf {
            let end = at + char.len_utf8();
            lines.push(&text[start..end]);
            start = end;
        }
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}

#[cfg(test)]
mod tests;
