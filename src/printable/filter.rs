//! What running code prints, on its way to a terminal.

use unicode_width::UnicodeWidthChar;

use super::{colours, escape, is_unprintable, shapes, write_escaped};

/// Bytes of a control sequence that may wait for its end, and the farthest movement.
const LONGEST_SEQUENCE: usize = 128;
const FARTHEST: usize = 9999;

/// Lets colours pass, and movement and erasing within the lines that were printed through it since
/// [`end_line`](Self::end_line): progress bars, nested ones too. All else that a terminal would obey is shown escaped.
///
/// Each line may have a mark before it, which the code can neither overwrite nor erase. To keep it so, every movement
/// within a line is rewritten as one to a column. Movement up is bounded by the newlines that were printed: lines that
/// the terminal wraps only make the cursor stand lower than is assumed here.
pub struct OutputFilter {
    /// Whether the output goes to a screen where it may be overwritten; else a carriage return begins a line.
    screen: bool,
    /// Columns of the screen, where that is known.
    width: Option<usize>,
    /// The line of the cursor and the last one, counted from the first that may be changed.
    row: usize,
    last_row: usize,
    /// The cursor's column, its mark included.
    column: usize,
    /// Whether something stands in the cursor's line.
    begun: bool,
    /// Without a screen: the last character was a carriage return.
    returned: bool,
    /// Whether a colour may still be in force.
    coloured: bool,
    /// The character before, which a joiner may shape.
    before: Option<char>,
    /// The beginning of a control sequence whose end has not come.
    pending: String,
}

/// The mark before a line, and its columns.
struct Mark<'a> {
    text: &'a str,
    columns: usize,
}

impl OutputFilter {
    /// For a screen of so many columns, or with `None` for text that goes anywhere else.
    pub fn new(screen: Option<usize>) -> OutputFilter {
        OutputFilter {
            screen: screen.is_some(),
            width: screen.filter(|width| *width > 0),
            row: 0,
            last_row: 0,
            column: 0,
            begun: false,
            returned: false,
            coloured: false,
            before: None,
            pending: String::new(),
        }
    }

    /// Whether a line was begun and not ended.
    pub fn is_open(&self) -> bool {
        self.begun || self.row < self.last_row
    }

    /// What closes the line that is open, if one is. Nothing of what was printed can be changed from then on.
    pub fn end_line(&mut self) -> String {
        let open = self.is_open() || !self.pending.is_empty();
        let mut out = self.finish();
        if open {
            out.push('\n');
        }
        self.settle();
        out
    }

    /// What goes below the printed lines, with no colour in force, and shows a control sequence that was cut off.
    pub fn finish(&mut self) -> String {
        let mut out = escape(&std::mem::take(&mut self.pending)).into_owned();
        if std::mem::take(&mut self.coloured) {
            out.push_str("\x1b[0m");
        }
        if self.row < self.last_row {
            out.push_str(&format!("\x1b[{}B\r", self.last_row - self.row));
            self.row = self.last_row;
            self.column = 0;
        }
        out
    }

    /// Something else was shown below: what was printed before cannot be changed from here on.
    pub fn settle(&mut self) {
        (self.row, self.last_row, self.column) = (0, 0, 0);
        (self.begun, self.returned, self.before) = (false, false, None);
    }

    /// The text with `mark` before each line, and with each piece between `style` and `plain`. The mark is the same
    /// until a line has ended.
    pub fn push(&mut self, mark: &str, style: &str, plain: &str, text: &str) -> String {
        let text = std::mem::take(&mut self.pending) + text;
        let mark = Mark {
            text: mark,
            columns: columns(mark),
        };
        let mut out = String::with_capacity(text.len() + 64);
        let mut rest = text.as_str();
        while let Some(character) = rest.chars().next() {
            let length = rest
                .find(|it| is_unprintable(it) && it != '\t')
                .unwrap_or(rest.len());
            if length > 0 {
                self.put(&mut out, &mark, style, plain, &rest[..length]);
                rest = &rest[length..];
                continue;
            }
            if character == '\x1b' {
                match sequence(rest) {
                    Sequence::Unfinished if rest.len() < LONGEST_SEQUENCE => {
                        rest.clone_into(&mut self.pending);
                        break;
                    }
                    Sequence::Control {
                        parameters,
                        end,
                        length,
                    } if self.obey(&mut out, &mark, parameters, end) => {
                        rest = &rest[length..];
                        continue;
                    }
                    _ => {}
                }
            }
            let after = &rest[character.len_utf8()..];
            match character {
                '\n' => self.newline(&mut out, &mark),
                '\r' if self.screen => self.go_to_column(&mut out, &mark, 0, true),
                '\r' => self.returned = true,
                '\x08' if self.screen => {
                    self.go_to_column(&mut out, &mark, self.column.saturating_sub(1), false);
                }
                '\x08' => {}
                character if shapes(self.before, character) => {
                    self.put(
                        &mut out,
                        &mark,
                        style,
                        plain,
                        character.encode_utf8(&mut [0; 4]),
                    );
                }
                character => {
                    let mut escaped = String::new();
                    write_escaped(&mut escaped, character);
                    self.put(&mut out, &mark, style, plain, &escaped);
                    self.before = None;
                }
            }
            rest = after;
        }
        out
    }

    /// Characters that take their place in the line.
    fn put(&mut self, out: &mut String, mark: &Mark, style: &str, plain: &str, text: &str) {
        if std::mem::take(&mut self.returned) && self.begun {
            out.push('\n');
            self.begun = false;
        }
        self.begin(out, mark);
        out.push_str(style);
        out.push_str(text);
        out.push_str(plain);
        for character in text.chars() {
            self.column += match character {
                '\t' => 8 - self.column % 8,
                character => character.width().unwrap_or(0),
            };
        }
        if let Some(width) = self.width {
            // The terminal has gone on in a line below.
            self.column %= width;
        }
        self.before = text.chars().next_back();
    }

    /// Puts the mark before a line that has none yet.
    fn begin(&mut self, out: &mut String, mark: &Mark) {
        if !std::mem::replace(&mut self.begun, true) {
            out.push_str(mark.text);
            self.column = mark.columns;
        }
    }

    fn newline(&mut self, out: &mut String, mark: &Mark) {
        self.returned = false;
        self.begin(out, mark);
        out.push('\n');
        self.row += 1;
        self.last_row = self.last_row.max(self.row);
        (self.column, self.begun, self.before) = (0, false, None);
    }

    /// Goes to a column of the line; with `again`, the mark is written once more.
    fn go_to_column(&mut self, out: &mut String, mark: &Mark, column: usize, again: bool) {
        if again || !self.begun {
            out.push('\r');
            out.push_str(mark.text);
            self.begun = true;
            self.column = mark.columns;
        }
        let last = self.width.map_or(FARTHEST, |width| width - 1);
        let column = column.clamp(mark.columns, last.max(mark.columns));
        if column != self.column {
            out.push_str(&format!("\x1b[{}G", column + 1));
        }
        (self.column, self.before) = (column, None);
    }

    /// Goes up or down by lines, to a column.
    fn go_to_row(&mut self, out: &mut String, mark: &Mark, row: usize, column: usize) {
        let row = row.min(self.last_row);
        match row.cmp(&self.row) {
            std::cmp::Ordering::Less => out.push_str(&format!("\x1b[{}A", self.row - row)),
            std::cmp::Ordering::Greater => out.push_str(&format!("\x1b[{}B", row - self.row)),
            std::cmp::Ordering::Equal => {}
        }
        self.row = row;
        self.go_to_column(out, mark, column, true);
    }

    /// Carries a control sequence out, as far as it may go; false where it is none that may.
    fn obey(&mut self, out: &mut String, mark: &Mark, parameters: &str, end: char) -> bool {
        if end == 'm' {
            let plain = |it: char| it.is_ascii_digit() || matches!(it, ';' | ':');
            if !parameters.chars().all(plain) {
                return false;
            }
            if let Some(kept) = colours(parameters) {
                self.coloured = kept != "0";
                out.push_str(&format!("\x1b[{kept}m"));
            }
            return true;
        }
        // Whether the cursor is seen is no business of the code's, and bars of some libraries try to hide it.
        if matches!((parameters, end), ("?25", 'l' | 'h')) {
            return true;
        }
        let number = match parameters {
            "" => None,
            digits => match digits.parse::<usize>() {
                Ok(number) => Some(number.min(FARTHEST)),
                Err(_) => return false,
            },
        };
        let count = number.unwrap_or(1).max(1);
        let erased = number.unwrap_or(0);
        match end {
            'A' | 'B' | 'C' | 'D' | 'E' | 'F' | 'G' if !self.screen => true,
            'K' if !self.screen && erased <= 2 => true,
            'J' if !self.screen && erased == 0 => true,
            'A' => {
                let column = self.column;
                self.go_to_row(out, mark, self.row.saturating_sub(count), column);
                true
            }
            'B' => {
                let column = self.column;
                self.go_to_row(out, mark, self.row + count, column);
                true
            }
            'E' => {
                self.go_to_row(out, mark, self.row + count, 0);
                true
            }
            'F' => {
                self.go_to_row(out, mark, self.row.saturating_sub(count), 0);
                true
            }
            'C' => {
                self.go_to_column(out, mark, self.column + count, false);
                true
            }
            'D' => {
                self.go_to_column(out, mark, self.column.saturating_sub(count), false);
                true
            }
            'G' => {
                self.go_to_column(out, mark, mark.columns + count - 1, false);
                true
            }
            'K' if erased <= 2 => {
                let column = self.column;
                out.push_str(&format!("\x1b[{erased}K"));
                if erased > 0 {
                    self.go_to_column(out, mark, column, true);
                }
                true
            }
            'J' if erased == 0 => {
                out.push_str("\x1b[J");
                self.last_row = self.row;
                true
            }
            _ => false,
        }
    }
}

/// Columns of a text, its colours left out.
fn columns(text: &str) -> usize {
    let mut rest = text;
    let mut columns = 0;
    while let Some(character) = rest.chars().next() {
        let length = match sequence(rest) {
            Sequence::Control { length, .. } => length,
            _ => {
                columns += character.width().unwrap_or(0);
                character.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    columns
}

enum Sequence<'a> {
    /// `ESC [ parameters end`, of so many bytes.
    Control {
        parameters: &'a str,
        end: char,
        length: usize,
    },
    Unfinished,
    /// Another sequence, or none.
    Other,
}

/// The control sequence (ECMA-48: CSI) at the start of a text.
fn sequence(text: &str) -> Sequence<'_> {
    let Some(rest) = text.strip_prefix('\x1b') else {
        return Sequence::Other;
    };
    if rest.is_empty() {
        return Sequence::Unfinished;
    }
    let Some(body) = rest.strip_prefix('[') else {
        return Sequence::Other;
    };
    let length = body
        .find(|it: char| !matches!(it, ' '..='?'))
        .unwrap_or(body.len());
    match body[length..].chars().next() {
        None => Sequence::Unfinished,
        Some(end @ '@'..='~') => Sequence::Control {
            parameters: &body[..length],
            end,
            length: 2 + length + 1,
        },
        Some(_) => Sequence::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::printable::tests::HOSTILE;

    /// A screen as terminals have it, as far as the filter uses one: it knows no other sequence.
    struct Screen {
        lines: Vec<Vec<char>>,
        row: usize,
        column: usize,
        width: usize,
    }

    impl Screen {
        fn new(width: usize, above: &[&str]) -> Screen {
            let mut lines: Vec<Vec<char>> = above.iter().map(|it| it.chars().collect()).collect();
            lines.push(Vec::new());
            Screen {
                row: lines.len() - 1,
                lines,
                column: 0,
                width,
            }
        }

        fn down(&mut self) {
            self.row += 1;
            if self.row == self.lines.len() {
                self.lines.push(Vec::new());
            }
        }

        fn write(&mut self, text: &str) {
            let mut rest = text;
            while let Some(character) = rest.chars().next() {
                if let Sequence::Control {
                    parameters,
                    end,
                    length,
                } = sequence(rest)
                {
                    let number: usize = parameters.parse().unwrap_or(0);
                    match end {
                        'A' => self.row = self.row.saturating_sub(number),
                        'B' => self.row = (self.row + number).min(self.lines.len() - 1),
                        'G' => self.column = (number - 1).min(self.width - 1),
                        'K' => {
                            let line = &mut self.lines[self.row];
                            match number {
                                0 => line.truncate(self.column),
                                1 => {
                                    let end = line.len().min(self.column + 1);
                                    line[..end].fill(' ');
                                }
                                _ => line.clear(),
                            }
                        }
                        'J' => {
                            self.lines[self.row].truncate(self.column);
                            self.lines.truncate(self.row + 1);
                        }
                        'm' => {}
                        other => panic!("no terminal of this test obeys {other}"),
                    }
                    rest = &rest[length..];
                    continue;
                }
                match character {
                    '\n' => {
                        self.down();
                        self.column = 0;
                    }
                    '\r' => self.column = 0,
                    character => {
                        assert!(!is_unprintable(character) || character == '\t', "{text:?}");
                        if self.column >= self.width {
                            self.down();
                            self.column = 0;
                        }
                        let line = &mut self.lines[self.row];
                        if line.len() <= self.column {
                            line.resize(self.column + 1, ' ');
                        }
                        line[self.column] = character;
                        self.column += 1;
                    }
                }
                rest = &rest[character.len_utf8()..];
            }
        }

        fn lines(&self) -> Vec<String> {
            let text = |line: &Vec<char>| line.iter().collect::<String>().trim_end().to_owned();
            self.lines.iter().map(text).collect()
        }
    }

    fn shown(pieces: &[&str]) -> Vec<String> {
        let mut screen = Screen::new(40, &["above"]);
        let mut filter = OutputFilter::new(Some(40));
        for piece in pieces {
            screen.write(&filter.push("| ", "", "", piece));
        }
        screen.write(&filter.end_line());
        screen.lines()
    }

    #[test]
    fn nested_progress_bars_look_right_however_they_are_cut() {
        // As tqdm writes an outer bar and one below it.
        let bars = "\router 0/2\n\rinner 1/2\x1b[A\n\rinner 2/2\x1b[A\router 1/2\n\x1b[K\rinner 1/2\x1b[A\n\rinner \
                    2/2\x1b[A\router 2/2\n\n";
        let expected = ["above", "| outer 2/2", "| inner 2/2", ""];
        assert_eq!(shown(&[bars]), expected);
        let cut: Vec<String> = bars.chars().map(String::from).collect();
        let cut: Vec<&str> = cut.iter().map(String::as_str).collect();
        assert_eq!(shown(&cut), expected);
        // As rich does it: the cursor hidden, lines erased one by one.
        let live = "\x1b[?25lone\ntwo\n\x1b[1A\x1b[2K\x1b[1A\x1b[2K\rONE\nTWO\n\x1b[?25h";
        assert_eq!(shown(&[live]), ["above", "| ONE", "| TWO", ""]);
        // As Keras does it.
        assert_eq!(
            shown(&["1/3\x08\x08\x082/3\x08\x08\x083/3\n"]),
            ["above", "| 3/3", ""]
        );
    }

    #[test]
    fn what_was_there_before_stays() {
        for hostile in [
            "\x1b[99A\x1b[2Kevil",
            "\x1b[F\x1b[Jevil",
            "a\nb\x1b[5A\r\x1b[2Kevil",
            "\x1b[1K\x1b[D\x08evil",
        ] {
            let lines = shown(&[hostile]);
            assert_eq!(lines[0], "above", "{hostile:?}");
            assert_eq!(lines[1], "| evil", "{hostile:?}");
        }
        let mut filter = OutputFilter::new(Some(40));
        filter.push("", "", "", "one\ntwo\n");
        filter.end_line();
        assert_eq!(filter.push("", "", "", "\x1b[Aup"), "\rup");
    }

    #[test]
    fn what_no_line_needs_is_shown_escaped_and_colours_end() {
        let mut filter = OutputFilter::new(Some(40));
        let out = filter.push(
            "",
            "",
            "",
            "\x1b]52;c;aGk=\x07\x1b[2J\u{9b}5A\u{202e}\x1b[8mx",
        );
        assert_eq!(out, "\\x1b]52;c;aGk=\\x07\\x1b[2J\\x9b5A\\u202ex");
        assert_eq!(filter.push("", "", "", "\x1b[1;8;31mred"), "\x1b[1;31mred");
        assert_eq!(filter.end_line(), "\x1b[0m\n");
        assert_eq!(filter.push("", "", "", "x\x1b["), "x");
        assert_eq!(filter.end_line(), "\\x1b[\n");
    }

    #[test]
    fn without_a_screen_a_return_begins_a_line_and_movement_is_left_out() {
        let mut filter = OutputFilter::new(None);
        let mut shown = String::new();
        for piece in [
            "\r 10%",
            "\r 20%\r",
            "\n",
            "\x1b[Adone\x08\x1b[K\r\n",
            "\r\n",
            "\x1b[2J",
        ] {
            shown += &filter.push("| ", "", "", piece);
        }
        assert_eq!(shown, "|  10%\n|  20%\n| done\n| \n| \\x1b[2J");
    }

    proptest! {
        #[test]
        fn no_output_changes_what_is_above_or_the_marks(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(HOSTILE).prop_map(str::to_owned),
                    "[a-z ]{0,30}",
                    "\n|\r|\x08",
                    "\x1b\\[[0-9]{0,2}[A-GJKm]",
                ],
                0..40,
            ),
            width in 10usize..60,
        ) {
            let mut screen = Screen::new(width, &["first", "second"]);
            let mut filter = OutputFilter::new(Some(width));
            for piece in &pieces {
                screen.write(&filter.push("| ", "", "", piece));
                let lines = screen.lines();
                prop_assert_eq!(&lines[..2], ["first", "second"]);
                prop_assert!(lines.get(2).is_none_or(|it| it.is_empty() || it.starts_with('|')), "{:?}", lines);
            }
        }
    }
}
