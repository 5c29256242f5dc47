//! Text of any length, cut to a budget at both ends: what a model gets to read.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The most of one text that is kept on disk, in bytes.
const FILE_LIMIT: u64 = 64 << 20;

/// Collects text; keeps its head and its tail within a budget of characters, and the whole in a file once it is longer.
pub struct Clip {
    budget: usize,
    head: String,
    head_chars: usize,
    tail: String,
    chars: usize,
    file: Whole,
}

/// The file with the whole text, made only when it is needed.
enum Whole {
    Planned(PathBuf),
    /// With the bytes that it got, and would have got without its limit.
    Open(BufWriter<File>, PathBuf, u64),
    /// It could not be written; the text is cut all the same.
    None,
}

impl Clip {
    /// `file` is where the whole text goes if it is longer than `budget` characters.
    pub fn new(budget: usize, file: Option<PathBuf>) -> Self {
        Clip {
            budget,
            head: String::new(),
            head_chars: 0,
            tail: String::new(),
            chars: 0,
            file: file.map_or(Whole::None, Whole::Planned),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.chars == 0
    }

    pub fn push(&mut self, text: &str) {
        let chars = text.chars().count();
        self.save(text, self.chars + chars > self.budget);
        self.chars += chars;
        let room = (self.budget / 2).saturating_sub(self.head_chars);
        let cut = byte_of_char(text, room);
        self.head.push_str(&text[..cut]);
        self.head_chars += room.min(chars);
        let rest = &text[cut..];
        // Only the end of a long piece can survive; the rest need not be copied first.
        self.tail
            .push_str(&rest[start_of_last(rest, self.budget)..]);
        if self.tail.len() > self.budget.saturating_mul(8) {
            self.trim_tail();
        }
    }

    fn trim_tail(&mut self) {
        let keep = self.budget - self.head_chars;
        self.tail.drain(..start_of_last(&self.tail, keep));
    }

    fn save(&mut self, text: &str, overflows: bool) {
        if let Whole::Planned(path) = &self.file
            && overflows
        {
            self.file = match begin(path, &[&self.head, &self.tail]) {
                Ok((writer, path)) => Whole::Open(writer, path, 0),
                Err(_) => Whole::None,
            };
        }
        if let Whole::Open(writer, _, bytes) = &mut self.file {
            let room = usize::try_from(FILE_LIMIT.saturating_sub(*bytes)).unwrap_or(usize::MAX);
            *bytes += text.len() as u64;
            let text = &text[..text.floor_char_boundary(room)];
            if writer.write_all(text.as_bytes()).is_err() {
                self.file = Whole::None;
            }
        }
    }

    /// The text, or its two ends around a line that says what is missing and where the whole is, named as seen from
    /// `folder`.
    pub fn finish(mut self, folder: &Path) -> String {
        self.trim_tail();
        if self.chars <= self.budget {
            return overwritten(&(self.head + &self.tail));
        }
        let left_out = self.chars - self.head_chars - self.tail.chars().count();
        let mut whole = String::new();
        if let Whole::Open(writer, path, bytes) = &mut self.file
            && writer.flush().is_ok()
        {
            let path = path.strip_prefix(folder).unwrap_or(path).display();
            whole = match *bytes > FILE_LIMIT {
                true => format!("; the first {} MiB are in {path}", FILE_LIMIT >> 20),
                false => format!("; the whole text is in {path}"),
            };
        }
        format!(
            "{}\n[… {left_out} characters left out{whole} …]\n{}",
            overwritten(&self.head),
            overwritten(&self.tail)
        )
    }
}

/// Makes the file; under another name (`1-stdout-2.txt`) where an earlier kernel of the session has left one.
fn begin(path: &Path, so_far: &[&str]) -> std::io::Result<(BufWriter<File>, PathBuf)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut free = path.to_path_buf();
    let mut number = 1;
    let file = loop {
        match File::create_new(&free) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            made => break made?,
        }
        free = path.with_file_name(format!("{stem}-{number}.txt"));
    };
    let mut writer = BufWriter::new(file);
    for text in so_far {
        writer.write_all(text.as_bytes())?;
    }
    Ok((writer, free))
}

/// The byte at which character `n` begins, or the end.
fn byte_of_char(text: &str, n: usize) -> usize {
    text.char_indices().nth(n).map_or(text.len(), |(at, _)| at)
}

/// The byte at which the last `n` characters begin.
fn start_of_last(text: &str, n: usize) -> usize {
    match n {
        0 => text.len(),
        n => text.char_indices().rev().nth(n - 1).map_or(0, |(at, _)| at),
    }
}

/// What a terminal would show of lines that a progress bar wrote over and over.
fn overwritten(text: &str) -> String {
    if !text.contains('\r') {
        return text.to_owned();
    }
    let shown = |line: &str| {
        let line = line.trim_end_matches('\r');
        line.rsplit('\r').next().unwrap_or(line).to_owned()
    };
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}

/// The same for a text that is at hand as a whole.
pub fn clip(text: &str, budget: usize) -> String {
    let mut clip = Clip::new(budget, None);
    clip.push(text);
    clip.finish(Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_both_ends_and_points_to_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outputs/1.txt");
        let mut out = Clip::new(20, Some(file.clone()));
        let text: String = (0..1000).map(|n| format!("{n}，")).collect();
        for piece in text.split_inclusive('，') {
            out.push(piece);
        }
        let shown = out.finish(folder.path());
        assert!(shown.starts_with("0，1，2，"), "{shown}");
        assert!(shown.ends_with("999，"), "{shown}");
        assert!(shown.contains("in outputs/1.txt"), "{shown}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);

        let mut out = Clip::new(20, Some(file.clone()));
        out.push(&"later".repeat(10));
        let shown = out.finish(folder.path());
        assert!(shown.contains("in outputs/1-2.txt"), "{shown}");
        assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    }

    #[test]
    fn shows_the_last_state_of_a_progress_bar() {
        assert_eq!(clip("10%\r50%\r100%\ndone", 100), "100%\ndone");
    }

    proptest! {
        #[test]
        fn text_within_the_budget_is_whole_and_longer_text_within_it(pieces in prop::collection::vec("[a中\u{1F600}]{0,30}", 0..20), budget in 0usize..200) {
            let text = pieces.concat();
            let mut out = Clip::new(budget, None);
            for piece in &pieces {
                out.push(piece);
            }
            let shown = out.finish(Path::new(""));
            if text.chars().count() <= budget {
                prop_assert_eq!(shown, text);
            } else {
                prop_assert!(shown.chars().count() <= budget + 60);
            }
        }
    }
}
