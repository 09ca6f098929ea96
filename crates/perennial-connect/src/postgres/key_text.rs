//! Keys and labels as texts: how files name what columns of any type hold.

use perennial_core::ItemId;
use perennial_formats::{Label, LabelError};

use super::table::VectorTable;
use crate::error::ConnectError;

/// An id as the server writes a key.
pub(super) fn id_text(id: &ItemId) -> String {
    match id {
        ItemId::Number(number) => number.to_string(),
        ItemId::Text(text) => text.clone(),
    }
}

/// A label as the server writes the value of its column.
pub(super) fn label_text(label: &Label) -> String {
    match label {
        Label::Number(number) => number.to_string(),
        Label::Text(text) => text.clone(),
    }
}

/// The error of ids that were to be keys, where the key's type has no such values.
pub(super) fn not_of_type(error: ConnectError, table: &VectorTable) -> ConnectError {
    match error {
        // Data exceptions: a text that is no number, a number that is too large.
        ConnectError::Server { message, code } if code.starts_with("22") => {
            ConnectError::Usage(format!(
                "an id of the file can be no key of {}.{}, whose column {} is of type {} ({message}); correct or remove the row",
                table.schema, table.name, table.key, table.key_type
            ))
        }
        other => other,
    }
}

/// A key as an id: what is written as numbers are is a number.
pub(super) fn item_id(text: String) -> Result<ItemId, ConnectError> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &u64| number.to_string() == text);
    let id = number.map_or(ItemId::Text(text), ItemId::Number);
    id.check()
        .map_err(|error| ConnectError::Value(format!("a key that files cannot hold: {error}")))?;
    Ok(id)
}

/// A value of a column as the label of a row; an empty one is none.
pub(super) fn row_label(text: String, row: &ItemId) -> Result<Option<Label>, ConnectError> {
    if text.is_empty() {
        return Ok(None);
    }
    let label = read_label(text);
    label.map(Some).map_err(|problem| {
        ConnectError::Value(format!(
            "a label of row {row} that files cannot hold: {problem}"
        ))
    })
}

/// A value of a column as a label.
///
/// # Errors
/// What files cannot hold.
pub(super) fn read_label(text: String) -> Result<Label, LabelError> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &i64| number.to_string() == text);
    let label = number.map_or(Label::Text(text), Label::Number);
    label.check()?;
    Ok(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_ids() {
        let id = |text: &str| item_id(text.to_owned()).ok();
        assert_eq!(id("12"), Some(ItemId::Number(12)));
        assert_eq!(id("-12"), Some(ItemId::Text("-12".to_owned())));
        assert_eq!(id("012"), Some(ItemId::Text("012".to_owned())));
        assert_eq!(id(""), None);
        assert_eq!(read_label("-3".to_owned()).unwrap(), Label::Number(-3));
        assert!(read_label("a\nb".to_owned()).is_err());
    }
}
