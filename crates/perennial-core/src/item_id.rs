//! The id of an item: of a query, a gallery item, a row of a file.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use thiserror::Error as ThisError;

/// The longest text id, in bytes.
pub const MAX_ID_BYTES: usize = 1024;

/// An id that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error(
    "id {id:?} {problem}; use a number, or a text of 1 to {MAX_ID_BYTES} bytes without control characters"
)]
pub struct ItemIdError {
    /// The start of the id.
    pub id: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The name of an item: a number or a text, in JSON without further wrapping.
///
/// **As text**, on a command line or in a URL, [`FromStr`] and [`Display`](fmt::Display) are each other's
/// inverse: digits without sign, space or leading zero that fit 64 bits are a number, and everything else is a text, `007` and
/// `+5` included. A text that would be taken for a number, or that begins with a quotation mark, is written as a JSON string:
/// `"12"`.
///
/// **Order.** Numbers come before texts; numbers by value, texts by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum ItemId {
    /// Any unsigned number of 64 bits.
    Number(u64),
    /// 1 to [`MAX_ID_BYTES`] bytes without control characters.
    Text(String),
}

impl ItemId {
    /// Says whether the id can be stored.
    ///
    /// # Errors
    /// [`ItemIdError`] for a text that is empty, too long or holds a control character.
    pub fn check(&self) -> Result<(), ItemIdError> {
        let Self::Text(text) = self else {
            return Ok(());
        };
        let problem = if text.is_empty() {
            "is empty".to_owned()
        } else if text.len() > MAX_ID_BYTES {
            format!("has {} bytes", text.len())
        } else if text.chars().any(char::is_control) {
            "holds a control character".to_owned()
        } else {
            return Ok(());
        };
        // The start is enough to find a long id again, and keeps the message short.
        let id = text.chars().take(MAX_ID_BYTES).collect();
        Err(ItemIdError { id, problem })
    }
}

impl<'de> Deserialize<'de> for ItemId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not derived: an untagged enum keeps a copy of whatever comes, a list of millions included.
        struct Id;

        impl Visitor<'_> for Id {
            type Value = ItemId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a text")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<ItemId, E> {
                Ok(ItemId::Number(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ItemId, E> {
                Ok(ItemId::Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<ItemId, E> {
                Ok(ItemId::Text(text))
            }
        }

        deserializer.deserialize_any(Id)
    }
}

/// The number that a text stands for, if it is written as numbers are.
fn plain_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    // More digits than fit 64 bits are a text.
    (digits && !leading_zero)
        .then(|| text.parse().ok())
        .flatten()
}

impl FromStr for ItemId {
    type Err = ItemIdError;

    /// # Errors
    /// [`ItemIdError`] for a text that cannot be stored, or that begins with a quotation mark but is no JSON string.
    fn from_str(text: &str) -> Result<Self, ItemIdError> {
        let id = if let Some(number) = plain_number(text) {
            Self::Number(number)
        } else if text.starts_with('"') {
            let quoted = serde_json::from_str(text).map_err(|_| ItemIdError {
                id: text.chars().take(MAX_ID_BYTES).collect(),
                problem: "starts with a quotation mark but is not a JSON string".to_owned(),
            });
            Self::Text(quoted?)
        } else {
            Self::Text(text.to_owned())
        };
        id.check()?;
        Ok(id)
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) if plain_number(text).is_some() || text.starts_with('"') => {
                Value::from(text.as_str()).fmt(f)
            }
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl From<u64> for ItemId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for ItemId {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for ItemId {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_plain_digits_are_numbers() {
        for (text, number) in [("0", 0), ("5", 5), ("18446744073709551615", u64::MAX)] {
            assert_eq!(text.parse::<ItemId>().unwrap(), ItemId::Number(number));
        }
        for text in [
            "00",
            "+5",
            "-1",
            "007",
            " 5",
            "5 ",
            "1e3",
            "0x5",
            "5.0",
            "1_000",
            "٣",
            "cat-7",
            "18446744073709551616",
            "99999999999999999999999",
        ] {
            assert_eq!(text.parse::<ItemId>().unwrap(), ItemId::from(text));
        }
        assert_eq!("\"12\"".parse::<ItemId>().unwrap(), ItemId::from("12"));
        assert_eq!("\"\\\"x\"".parse::<ItemId>().unwrap(), ItemId::from("\"x"));
        for text in [
            "",
            "\"",
            "\"a",
            "\"a\" b",
            "\"\"",
            "a\nb",
            &"x".repeat(MAX_ID_BYTES + 1),
        ] {
            let error = text.parse::<ItemId>().unwrap_err();
            assert!(error.to_string().starts_with("id "), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn ids_read_back_from_their_text(text in r#"["0-9+ a-zä\\]{1,6}|[0-9]{1,22}"#, number: u64) {
            for id in [ItemId::Text(text), ItemId::Number(number)] {
                prop_assert_eq!(id.to_string().parse::<ItemId>().unwrap(), id);
            }
        }
    }
}
