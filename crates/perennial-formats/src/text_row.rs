//! Texts of tables, row by row.

use perennial_core::ItemId;

use crate::error::FormatError;

/// Names of columns that an error lists.
const LISTED: usize = 20;

/// Which columns of a table are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextColumns {
    /// The column with the texts.
    pub text: String,
    /// The column with the ids; none where rows are not named.
    pub id: Option<String>,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRow {
    /// The text.
    pub text: String,
    /// The id, where a column was named for it.
    pub id: Option<ItemId>,
}

/// A table that is read in batches, so that it may be larger than memory.
pub trait TextReader: Send {
    /// The number of rows, for formats that know it in advance.
    fn rows(&self) -> Option<u64>;

    /// The next rows, at most `max_rows` of them (0 counts as 1) and at least one; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read or is damaged, or a row has no text or no id that can be used; rows and lines are counted from the file's
    /// start. The reader must not be used afterwards.
    fn next(&mut self, max_rows: usize) -> Result<Option<Vec<TextRow>>, FormatError>;
}

/// What is said about a table without a column.
pub(crate) fn without_column(name: &str, columns: &[String]) -> String {
    let shown: Vec<&str> = columns.iter().take(LISTED).map(String::as_str).collect();
    let more = match columns.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "has no column {name:?}; its columns are {}{more}",
        shown.join(", ")
    )
}
