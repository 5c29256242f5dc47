use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::event::Event;

fn to_string(notebook: &Notebook) -> String {
    let mut bytes = Vec::new();
    notebook.write_to(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// A notebook of 4.4, hence without ids, as Jupyter writes it, with fields of other tools.
const FOREIGN: &str = r##"{
 "cells": [
  {
   "cell_type": "markdown",
   "metadata": {},
   "source": [
    "# 销售\n",
    "text"
   ]
  },
  {
   "cell_type": "code",
   "execution_count": 3,
   "metadata": {
    "tags": [
     "raises-exception",
     "slides"
    ],
    "vendor": {
     "x": 51.248178375505404
    }
   },
   "outputs": [],
   "source": "a = 1\nb",
   "unknown": [
    1.5,
    {}
   ]
  }
 ],
 "metadata": {
  "kernelspec": {
   "display_name": "Python 3",
   "language": "Python",
   "name": "python3"
  },
  "zebra": null,
  "apple": 1
 },
 "nbformat": 4,
 "nbformat_minor": 4,
 "top": "kept"
}
"##;

#[test]
fn what_is_not_understood_comes_out_as_it_went_in_floats_to_the_last_bit() {
    let notebook = Notebook::parse(FOREIGN.as_bytes()).unwrap();
    assert_eq!(to_string(&notebook), FOREIGN);
}

#[test]
fn code_cells_give_source_id_and_tags() {
    let notebook = Notebook::parse(FOREIGN.as_bytes()).unwrap();
    let cells = notebook.code_cells();
    assert_eq!(cells.len(), 1);
    assert_eq!((cells[0].index, cells[0].source.as_str()), (1, "a = 1\nb"));
    assert_eq!(cells[0].id, None);
    assert!(cells[0].raises_exception());
    assert_eq!(notebook.kernel_name(), Some("python3"));
    assert_eq!(notebook.language().as_deref(), Some("python"));
}

#[test]
fn odd_cells_and_missing_fields_are_no_fault() {
    let notebook = Notebook::parse(
        br#"{"nbformat": 4, "cells": [{}, {"cell_type": "code"}, {"cell_type": "code", "source": ["a\n", "b", 5], "metadata": {"tags": "x"}, "id": 5}]}"#,
    )
    .unwrap();
    let cells = notebook.code_cells();
    assert_eq!(cells[0].source, "");
    assert_eq!(cells[1].source, "a\nb");
    assert!(cells[1].tags.is_empty() && cells[1].id.is_none());
    assert_eq!(notebook.kernel_name(), None);
    assert_eq!(notebook.language(), None);
}

#[test]
fn outputs_replace_the_old_ones_of_that_cell_alone() {
    let mut notebook = Notebook::parse(FOREIGN.as_bytes()).unwrap();
    let stream = [Output::Stream {
        name: "stdout".into(),
        text: "一\n二".into(),
    }];
    notebook.set_execution(1, &stream, Some(9));
    let cell = &notebook.cells[1];
    assert_eq!(cell["execution_count"], 9);
    assert_eq!(
        cell["outputs"],
        json!([{"name": "stdout", "output_type": "stream", "text": ["一\n", "二"]}])
    );
    assert_eq!(cell["unknown"], json!([1.5, {}]));
    let before = notebook.clone();
    notebook.set_execution(0, &stream, Some(1));
    notebook.set_execution(7, &stream, Some(1));
    assert_eq!(notebook, before, "a markdown cell has no outputs");
}

#[test]
fn a_new_notebook_has_ids_and_metadata_and_is_written_as_jupyter_writes() {
    let mut notebook = Notebook::new("python3", "Python 3 (ipykernel)");
    notebook.push_markdown("你好\n\nworld");
    let cell = notebook.push_code("1 + 1\n", &[]);
    let result = Output::ExecuteResult {
        data: json!({"text/plain": "2"}).as_object().unwrap().clone(),
        metadata: Map::new(),
        execution_count: Some(1),
    };
    notebook.set_execution(cell, &[result], Some(1));
    notebook.push_code("", &[RAISES_EXCEPTION]);
    assert_eq!(
        to_string(&notebook),
        r#"{
 "cells": [
  {
   "cell_type": "markdown",
   "id": "cell-1",
   "metadata": {},
   "source": [
    "你好\n",
    "\n",
    "world"
   ]
  },
  {
   "cell_type": "code",
   "execution_count": 1,
   "id": "cell-2",
   "metadata": {},
   "outputs": [
    {
     "data": {
      "text/plain": [
       "2"
      ]
     },
     "execution_count": 1,
     "metadata": {},
     "output_type": "execute_result"
    }
   ],
   "source": [
    "1 + 1\n"
   ]
  },
  {
   "cell_type": "code",
   "execution_count": null,
   "id": "cell-3",
   "metadata": {
    "tags": [
     "raises-exception"
    ]
   },
   "outputs": [],
   "source": []
  }
 ],
 "metadata": {
  "kernelspec": {
   "display_name": "Python 3 (ipykernel)",
   "language": "python",
   "name": "python3"
  },
  "language_info": {
   "file_extension": ".py",
   "mimetype": "text/x-python",
   "name": "python",
   "pygments_lexer": "ipython3"
  }
 },
 "nbformat": 4,
 "nbformat_minor": 5
}
"#
    );
}

#[test]
fn cells_added_to_a_notebook_get_a_free_id_or_none_before_4_5() {
    let mut notebook = Notebook::parse(
        br#"{"cells": [{"cell_type": "raw", "id": "cell-2"}], "nbformat": 4, "nbformat_minor": 5}"#,
    )
    .unwrap();
    notebook.push_markdown("x");
    assert_eq!(notebook.cells[1]["id"], "cell-3");
    let mut old = Notebook::parse(FOREIGN.as_bytes()).unwrap();
    old.push_markdown("x");
    assert_eq!(old.cells[2].get("id"), None);
}

#[test]
fn what_is_no_notebook_of_version_4_is_refused_with_the_way_out() {
    for (bytes, words) in [
        (&b"{\"nbformat\": 3, \"worksheets\": []}"[..], "nbformat 3"),
        (b"{\"nbformat\": 5, \"cells\": []}", "nbformat 5"),
        (b"{\"nbformat\": \"4\", \"cells\": []}", "not a number"),
        (b"{\"cells\": []}", "no `nbformat`"),
        (b"{\"nbformat\": 4}", "`cells` is not a list"),
        (b"{\"nbformat\": 4, \"cells\": [{}, 1]}", "cell 2"),
        (b"[]", "not an object"),
    ] {
        let message = Notebook::parse(bytes).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
        assert!(
            message.contains("jupyter nbconvert --to notebook --nbformat 4"),
            "{message}"
        );
    }
    for bytes in [&b""[..], b"{\"cells\": [", b"\xff\xfe", &[b'['; 100_000]] {
        let message = Notebook::parse(bytes).unwrap_err().to_string();
        assert!(message.contains("JSON is broken"), "{message}");
    }
    let message = Notebook::read(Path::new("/nonexistent/a.ipynb"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("/nonexistent/a.ipynb"), "{message}");
}

#[test]
fn lines_end_where_python_ends_them() {
    // From Python: 'a\r\nb\rc\x0bd\x0ce\x1cf\x85g\u2028h\n\n'.splitlines(True)
    let text = "a\r\nb\rc\x0bd\x0ce\x1cf\u{85}g\u{2028}h\n\n";
    let expected = [
        "a\r\n",
        "b\r",
        "c\x0b",
        "d\x0c",
        "e\x1c",
        "f\u{85}",
        "g\u{2028}",
        "h\n",
        "\n",
    ];
    assert_eq!(lines(text), expected);
    assert_eq!(lines(""), Vec::<&str>::new());
}

#[test]
fn saving_keeps_mode_and_link_and_leaves_nothing_else_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("笔记.ipynb");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let link = folder.path().join("link.ipynb");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let notebook = Notebook::parse(FOREIGN.as_bytes()).unwrap();
    notebook.save(&link).unwrap();
    assert_eq!(Notebook::read(&path).unwrap(), notebook);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_fault_in_saving_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let notebook = Notebook::new("python3", "Python 3");
    let message = notebook.save(folder.path()).unwrap_err().to_string();
    assert!(message.contains("directory"), "{message}");
    #[cfg(target_os = "linux")]
    {
        let full = notebook
            .save(Path::new("/dev/full"))
            .unwrap_err()
            .to_string();
        assert!(
            full.contains("/dev/full") && full.contains("No space"),
            "{full}"
        );
    }
    assert!(notebook.save(&folder.path().join("no/a.ipynb")).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn stream(name: &str, text: &str) -> Event {
    Event::Stream {
        name: name.into(),
        text: text.into(),
    }
}

fn display(text: &str, id: Option<&str>, update: bool) -> Event {
    Event::Display {
        data: json!({ "text/plain": text }).as_object().unwrap().clone(),
        metadata: Map::new(),
        display_id: id.map(str::to_owned),
        update,
    }
}

/// The texts of a cell's outputs.
fn texts(collector: &OutputCollector, cell: usize) -> Vec<String> {
    let text = |output: &Output| match output {
        Output::Stream { text, .. } => text.clone(),
        Output::DisplayData { data, .. } | Output::ExecuteResult { data, .. } => {
            data["text/plain"].as_str().unwrap().to_owned()
        }
        Output::Error { ename, .. } => ename.clone(),
    };
    collector.outputs(cell).iter().map(text).collect()
}

#[test]
fn text_of_one_stream_is_one_output_until_something_comes_between() {
    let mut collector = OutputCollector::default();
    collector.add(&stream("stdout", "nowhere"));
    let cell = collector.start_cell();
    for (name, text) in [
        ("stdout", "a\r"),
        ("stdout", "b"),
        ("stderr", "c"),
        ("stdout", "d"),
    ] {
        collector.add(&stream(name, text));
    }
    assert_eq!(texts(&collector, cell), ["a\rb", "c", "d"]);
    collector.start_cell();
    collector.add(&stream("stdout", "e"));
    assert_eq!(texts(&collector, 1), ["e"]);
}

#[test]
fn an_update_changes_the_display_wherever_it_is_shown() {
    let mut collector = OutputCollector::default();
    let first = collector.start_cell();
    collector.add(&display("1", Some("id"), false));
    collector.add(&display("other", None, false));
    let second = collector.start_cell();
    collector.add(&display("2", Some("id"), false));
    collector.take_changed();
    let third = collector.start_cell();
    collector.add(&display("3", Some("id"), true));
    collector.add(&display("x", Some("unknown"), true));
    assert_eq!(texts(&collector, first), ["3", "other"]);
    assert_eq!(texts(&collector, second), ["3"]);
    assert!(collector.outputs(third).is_empty());
    assert_eq!(collector.take_changed(), [first, second, third]);
}

#[test]
fn clear_output_empties_the_cell_at_once_or_when_the_next_output_comes() {
    let mut collector = OutputCollector::default();
    let cell = collector.start_cell();
    collector.add(&display("1", Some("id"), false));
    collector.add(&Event::ClearOutput { wait: true });
    assert_eq!(texts(&collector, cell), ["1"]);
    collector.add(&display("2", Some("id"), true));
    assert_eq!(texts(&collector, cell), ["2"], "an update is no new output");
    collector.add(&stream("stdout", "a"));
    assert_eq!(texts(&collector, cell), ["a"]);
    collector.add(&display("3", Some("id"), true));
    assert_eq!(texts(&collector, cell), ["a"], "the display is gone");
    collector.add(&Event::ClearOutput { wait: false });
    assert!(collector.outputs(cell).is_empty());
    collector.add(&Event::ClearOutput { wait: true });
    let next = collector.start_cell();
    collector.add(&stream("stdout", "b"));
    assert_eq!(texts(&collector, next), ["b"]);
}

#[test]
fn a_bundle_is_valid_whatever_the_kernel_sent() {
    let output = Output::DisplayData {
        data: json!({
            "text/plain": ["a\n", "b"],
            "text/html": "<a>\n</a>",
            "image/png": "QUJD\nREVG",
            "text/x-odd": {"a": 1},
            "image/x-odd": [1, "b"],
            "application/vnd.x+json": {"q": "a\nb"},
            "application/json": "a\nb"
        })
        .as_object()
        .unwrap()
        .clone(),
        metadata: Map::new(),
    };
    assert_eq!(
        output.to_json()["data"].to_string(),
        r#"{"application/json":"a\nb","application/vnd.x+json":{"q":"a\nb"},"image/png":"QUJD\nREVG","#
            .to_owned()
            + r#""image/x-odd":"[1,\"b\"]","text/html":["<a>\n","</a>"],"text/plain":["a\n","b"],"text/x-odd":["{\"a\":1}"]}"#
    );
}

proptest::proptest! {
    #[test]
    fn lines_lose_nothing(text in ".*") {
        proptest::prop_assert_eq!(lines(&text).concat(), text);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = Notebook::parse(&bytes);
    }
}
