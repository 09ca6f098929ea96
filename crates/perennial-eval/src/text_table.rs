//! A table of text, and its forms for documents: [`markdown`], [`csv`], [`latex`].

pub mod csv;
pub mod latex;
pub mod markdown;

/// A table of text. Every row has one cell for each column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextTable {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    numbers: bool,
}

impl TextTable {
    /// A table without columns.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a column of text, set to the left.
    #[must_use]
    pub fn text(self, name: impl Into<String>) -> Self {
        self.column(name.into(), false)
    }

    /// Adds a column of numbers, set to the right.
    #[must_use]
    pub fn numbers(self, name: impl Into<String>) -> Self {
        self.column(name.into(), true)
    }

    fn column(mut self, name: String, numbers: bool) -> Self {
        self.columns.push(Column { name, numbers });
        self
    }

    /// Adds a row.
    ///
    /// # Panics
    /// For a number of cells other than that of the columns.
    pub fn push(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "one cell for each column");
        self.rows.push(cells);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The header and the rows, one after the other.
    fn lines(&self) -> impl Iterator<Item = Vec<&str>> {
        let header = self.columns.iter().map(|column| column.name.as_str());
        let rows = self.rows.iter();
        std::iter::once(header.collect())
            .chain(rows.map(|row| row.iter().map(String::as_str).collect()))
    }
}

/// A text as one line that no terminal acts upon: control characters, line breaks among them, become spaces.
fn one_line(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
}

#[cfg(test)]
pub(crate) fn hostile() -> TextTable {
    let mut table = TextTable::new().text("method").numbers("AC");
    table.push(vec!["a|b_c & \"d\", e".to_owned(), "-0.5".to_owned()]);
    table.push(vec!["50 %\n{x}\\~^$#<".to_owned(), "0.1 ± 0.2".to_owned()]);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "one cell for each column")]
    fn rows_have_a_cell_for_each_column() {
        TextTable::new().text("a").push(Vec::new());
    }

    #[test]
    fn no_form_passes_control_characters_on_to_a_terminal() {
        let mut table = TextTable::new().text("a");
        table.push(vec!["x\u{1b}[2J".to_owned()]);
        for text in [
            markdown::render(&table),
            latex::render(&table),
            csv::render(&table),
        ] {
            assert!(!text.contains('\u{1b}'), "{text:?}");
        }
        assert_eq!((table.len(), table.is_empty()), (1, false));
    }
}
