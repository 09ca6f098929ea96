//! Comma-separated values, as RFC 4180 describes them, with line feeds.

use super::{TextTable, one_line};

/// The table with its header; cells with commas or quotation marks are quoted.
pub fn render(table: &TextTable) -> String {
    let mut out = String::new();
    for cells in table.lines() {
        let cells: Vec<String> = cells.into_iter().map(escape).collect();
        out.push_str(&cells.join(","));
        out.push('\n');
    }
    out
}

fn escape(cell: &str) -> String {
    let cell: String = one_line(cell).collect();
    if cell.contains([',', '"']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_and_quotes_stay_in_their_cell() {
        assert_eq!(
            render(&super::super::hostile()),
            "method,AC\n\"a|b_c & \"\"d\"\", e\",-0.5\n50 % {x}\\~^$#<,0.1 ± 0.2\n"
        );
    }
}
