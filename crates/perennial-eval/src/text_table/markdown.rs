//! Markdown, with columns of equal width, so that it reads well in a terminal too.

use super::{TextTable, one_line};

/// The table in Markdown's pipe syntax; it ends with a line break.
pub fn render(table: &TextTable) -> String {
    let lines: Vec<Vec<String>> = table
        .lines()
        .map(|cells| cells.into_iter().map(escape).collect())
        .collect();
    // A separator of a column of numbers needs two characters.
    let mut widths = vec![2; table.columns.len()];
    for cells in &lines {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for (index, cells) in lines.iter().enumerate() {
        for ((cell, column), &width) in cells.iter().zip(&table.columns).zip(&widths) {
            out.push_str(&if column.numbers {
                format!("| {cell:>width$} ")
            } else {
                format!("| {cell:<width$} ")
            });
        }
        out.push_str("|\n");
        if index == 0 {
            for (column, &width) in table.columns.iter().zip(&widths) {
                let dashes = "-".repeat(width - 1);
                let end = if column.numbers { ':' } else { '-' };
                out.push_str(&format!("| {dashes}{end} "));
            }
            out.push_str("|\n");
        }
    }
    out
}

/// A text as Markdown shows it: on one line, its own marks escaped. An underscore inside a word is no mark in the dialects that know
/// tables, and stays as it is, so that names can be read in a terminal.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let letters: Vec<char> = one_line(text).collect();
    for (index, &letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| letters.get(index));
        let after = letters.get(index + 1);
        let word = |letter: Option<&char>| letter.is_some_and(|letter| letter.is_alphanumeric());
        let marks = match letter {
            '|' | '\\' | '`' | '*' => true,
            '_' => !(word(before) && word(after)),
            '&' => word(after) || after == Some(&'#'),
            // A tag, but not a number's bound.
            '<' => after.is_some_and(|letter| letter.is_alphabetic() || "/!?".contains(*letter)),
            _ => false,
        };
        if marks {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_escaped() {
        assert_eq!(
            render(&super::super::hostile()),
            "| method          |        AC |\n\
             | --------------- | --------: |\n\
             | a\\|b_c & \"d\", e |      -0.5 |\n\
             | 50 % {x}\\\\~^$#< | 0.1 ± 0.2 |\n"
        );
    }

    #[test]
    fn marks_are_escaped_where_they_mark() {
        assert_eq!(
            escape("low_rank _x_ a*b `c`"),
            "low_rank \\_x\\_ a\\*b \\`c\\`"
        );
        assert_eq!(escape("<b> <0.01"), "\\<b> <0.01");
        assert_eq!(escape("&amp; a & b &#1;"), "\\&amp; a & b \\&#1;");
    }
}
