//! Ids and repeated options on the command line.

use perennial_core::{ItemId, ItemIdError};

/// Reads an id. clap would otherwise convert every argument as a text, since an id can be made from one.
pub fn parse_id(text: &str) -> Result<ItemId, ItemIdError> {
    text.parse()
}

/// Reads a label.
pub fn parse_label(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("labels of items are whole numbers from 0 to {}", u32::MAX))
}

/// The values of a repeatable option; `None` if it was not given, since an empty condition would match nothing.
pub fn given<T: Clone>(values: &[T]) -> Option<Vec<T>> {
    (!values.is_empty()).then(|| values.to_vec())
}
