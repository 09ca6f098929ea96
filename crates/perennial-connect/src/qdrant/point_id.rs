//! Ids of points: numbers and UUIDs.

use std::fmt;

use perennial_core::ItemId;
use serde::{Deserialize, Serialize};

use crate::error::ConnectError;

/// An id as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum PointId {
    /// Any unsigned number of 64 bits.
    Number(u64),
    /// In small letters with hyphens, as servers write it.
    Uuid(String),
}

impl PointId {
    /// The id that a row of a file has.
    ///
    /// # Errors
    /// [`ConnectError::Usage`] for a text that is no UUID.
    pub(super) fn of(id: &ItemId) -> Result<Self, ConnectError> {
        match id {
            ItemId::Number(number) => Ok(Self::Number(*number)),
            ItemId::Text(text) => uuid(text).map(Self::Uuid).ok_or_else(|| {
                ConnectError::Usage(format!(
                    "{text:?} is no id of a point; Qdrant's are numbers and UUIDs"
                ))
            }),
        }
    }

    /// The id for a row of a file.
    pub(super) fn item(&self) -> ItemId {
        match self {
            Self::Number(number) => ItemId::Number(*number),
            Self::Uuid(text) => ItemId::Text(text.clone()),
        }
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Uuid(text) => f.write_str(text),
        }
    }
}

/// A UUID of any common form, as servers write it.
fn uuid(text: &str) -> Option<String> {
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let digits: String = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
        .unwrap_or(text)
        .chars()
        .filter(|&c| c != '-')
        .collect();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(hyphenated(&digits.to_ascii_lowercase()))
}

/// 32 digits as a UUID.
pub(crate) fn hyphenated(digits: &str) -> String {
    format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..32]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_files_are_numbers_and_uuids_of_any_form() {
        let id = |text: &str| PointId::of(&ItemId::Text(text.to_owned()));
        let wanted = PointId::Uuid("936da01f-9abd-4d9d-80c7-02af85c822a8".to_owned());
        for text in [
            "936DA01F9ABD4D9D80C702AF85C822A8",
            "936da01f-9abd-4d9d-80c7-02af85c822a8",
            "urn:uuid:936da01f-9abd-4d9d-80c7-02af85c822a8",
            "{936DA01F-9ABD-4D9D-80C7-02AF85C822A8}",
        ] {
            assert_eq!(id(text).unwrap(), wanted);
        }
        for text in ["abc", "", "936da01f", "z36da01f9abd4d9d80c702af85c822a8"] {
            assert!(id(text).unwrap_err().to_string().contains("UUIDs"));
        }
        let number = PointId::of(&ItemId::Number(u64::MAX)).unwrap();
        let json = serde_json::to_string(&number).unwrap();
        assert_eq!(serde_json::from_str::<PointId>(&json).unwrap(), number);
        assert_eq!(number.item(), ItemId::Number(u64::MAX));
    }
}
