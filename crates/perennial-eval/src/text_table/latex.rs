//! LaTeX: a `tabular` that needs no package.

use super::{TextTable, one_line};

/// The table as a `tabular`; it ends with a line break.
pub fn render(table: &TextTable) -> String {
    let columns: String = table
        .columns
        .iter()
        .map(|column| if column.numbers { 'r' } else { 'l' })
        .collect();
    let mut out = format!("\\begin{{tabular}}{{{columns}}}\n\\hline\n");
    for (index, cells) in table.lines().enumerate() {
        let cells: Vec<String> = cells.into_iter().map(escape).collect();
        out.push_str(&cells.join(" & "));
        out.push_str(" \\\\\n");
        if index == 0 {
            out.push_str("\\hline\n");
        }
    }
    out.push_str("\\hline\n\\end{tabular}\n");
    out
}

/// A text as LaTeX shows it: on one line, its own marks escaped, signs of numbers in mathematical type.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = one_line(text).peekable();
    let mut before = None;
    while let Some(letter) = letters.next() {
        let number_follows = letters.peek().is_some_and(char::is_ascii_digit);
        let starts = before.is_none_or(|before| matches!(before, ' ' | '[' | '('));
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(letter);
            }
            '\\' => out.push_str("\\textbackslash{}"),
            '~' => out.push_str("$\\sim$"),
            '^' => out.push_str("\\textasciicircum{}"),
            '±' => out.push_str("$\\pm$"),
            '<' | '>' | '|' => out.extend(['$', letter, '$']),
            '"' => out.push_str("''"),
            '-' | '+' if starts && number_follows => out.extend(['$', letter, '$']),
            _ => out.push(letter),
        }
        before = Some(letter);
    }
    // A row that starts with a bracket would be taken as an option of the line break before it.
    if out.starts_with('[') {
        out.insert_str(0, "{}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_escaped() {
        assert_eq!(
            render(&super::super::hostile()),
            "\\begin{tabular}{lr}\n\\hline\nmethod & AC \\\\\n\\hline\n\
             a$|$b\\_c \\& ''d'', e & $-$0.5 \\\\\n\
             50 \\% \\{x\\}\\textbackslash{}$\\sim$\\textasciicircum{}\\$\\#$<$ & 0.1 $\\pm$ 0.2 \\\\\n\
             \\hline\n\\end{tabular}\n"
        );
        assert_eq!(
            escape("[-0.1, +0.2] d-Simplex"),
            "{}[$-$0.1, $+$0.2] d-Simplex"
        );
    }
}
