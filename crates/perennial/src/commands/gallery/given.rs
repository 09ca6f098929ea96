//! Ids and repeated options on the command line.

use perennial_core::{ItemId, ItemIdError};

/// Reads an id. clap would otherwise convert every argument as a text, since an id can be made from one.
pub fn parse_id(text: &str) -> Result<ItemId, ItemIdError> {
    text.parse()
}

/// The values of a repeatable option; `None` if it was not given, since an empty condition would match nothing.
pub fn given<T: Clone>(values: &[T]) -> Option<Vec<T>> {
    (!values.is_empty()).then(|| values.to_vec())
}
