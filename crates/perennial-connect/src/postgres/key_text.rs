//! Keys and labels as texts: how files name what columns of any type hold.

use perennial_core::ItemId;
use perennial_formats::Label;

use crate::error::ConnectError;

/// An id as the server writes a key.
pub(super) fn id_text(id: &ItemId) -> String {
    match id {
        ItemId::Number(number) => number.to_string(),
        ItemId::Text(text) => text.clone(),
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

/// A value of a column as a label.
pub(super) fn read_label(text: String) -> Result<Label, ConnectError> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &i64| number.to_string() == text);
    let label = number.map_or(Label::Text(text), Label::Number);
    label
        .check()
        .map_err(|error| ConnectError::Value(format!("a label that files cannot hold: {error}")))?;
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
