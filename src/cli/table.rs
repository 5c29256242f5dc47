//! Tables for a terminal, aligned by display width: a Chinese character takes two columns.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr;

use crate::printable::escape_line;

/// Lines of a table with a header; columns are two spaces apart. What a terminal would obey in a cell is escaped.
pub fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[Cow<'_, str>; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| escape_line(cell)))
        .collect();
    let mut widths = header.map(UnicodeWidthStr::width);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |cells: [&str; N]| {
        let mut text = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            text.push_str(cell);
            if column + 1 < N {
                text.push_str(&" ".repeat(width - cell.width() + 2));
            }
        }
        text.trim_end().to_owned() + "\n"
    };
    let mut text = line(header);
    for row in &rows {
        text.push_str(&line(row.each_ref().map(|cell| &**cell)));
    }
    text
}

/// At most `width` columns of a text's first line.
pub fn shortened(text: &str, width: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let whole = line.len() == text.trim().len();
    let line = escape_line(line);
    if line.width() <= width && whole {
        return line.into_owned();
    }
    let mut short = String::new();
    for character in line.chars() {
        if (short.clone() + character.encode_utf8(&mut [0; 4])).width() + 1 > width {
            break;
        }
        short.push(character);
    }
    short + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_under_wide_characters() {
        let rows = [
            ["销售趋势".to_owned(), "ok".to_owned()],
            ["sum".to_owned(), "error".to_owned()],
        ];
        let text = table(["what", "status"], &rows);
        assert_eq!(text, "what      status\n销售趋势  ok\nsum       error\n");
    }

    #[test]
    fn a_long_text_is_cut_by_columns() {
        assert_eq!(shortened("中文中文中文", 7), "中文中…");
        assert_eq!(shortened("one\ntwo", 10), "one…");
        assert_eq!(shortened("one", 10), "one");
    }
}
