//! Labels of embeddings as the numbers of their classes.

use perennial_formats::Label;
use perennial_upgrade::Truth;

use crate::fail::Failure;

/// The classes of both sides, numbered together.
pub fn classes(one: &[Label], other: &[Label]) -> [Vec<u32>; 2] {
    match Truth::of_labels(one, other) {
        Truth::Classes { queries, gallery } => [queries, gallery],
        Truth::Items(_) => unreachable!("labels become classes"),
    }
}

/// Refuses lists that do not have one entry for each row.
pub fn check_count(name: &str, found: usize, rows: usize) -> Result<(), Failure> {
    if found == rows {
        return Ok(());
    }
    Err(Failure::Argument(format!(
        "{name}: found {found} entries for {rows} rows; there must be one for each"
    )))
}
