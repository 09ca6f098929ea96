//! The label of an item: its class.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use thiserror::Error as ThisError;

/// The longest text label, in bytes.
pub const MAX_LABEL_BYTES: usize = 1024;

/// A label that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error(
    "label {label:?} {problem}; use an integer of 64 bits, or a text of 1 to {MAX_LABEL_BYTES} bytes without control characters"
)]
pub struct LabelError {
    /// The start of the label.
    pub label: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The class of an item, as a number or a text; in JSON without further wrapping.
///
/// **As text**, in files that hold nothing but texts, [`FromStr`] and [`Display`](fmt::Display) are each other's inverse: what is
/// written as integers of 64 bits are (digits without leading zero, with or without a minus) is a number, and everything else is a
/// text. A text that would be taken for a number, or that begins with a quotation mark, is written as a JSON string: `"12"`.
///
/// **Order.** Numbers come before texts; numbers by value, texts by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum Label {
    /// Any integer of 64 bits.
    Number(i64),
    /// 1 to [`MAX_LABEL_BYTES`] bytes without control characters.
    Text(String),
}

impl Label {
    /// Says whether the label can be stored.
    ///
    /// # Errors
    /// [`LabelError`] for a text that is empty, too long or holds a control character.
    pub fn check(&self) -> Result<(), LabelError> {
        let Self::Text(text) = self else {
            return Ok(());
        };
        let problem = if text.is_empty() {
            "is empty".to_owned()
        } else if text.len() > MAX_LABEL_BYTES {
            format!("has {} bytes", text.len())
        } else if text.chars().any(char::is_control) {
            "holds a control character".to_owned()
        } else {
            return Ok(());
        };
        Err(refusal(text, problem))
    }
}

fn refusal(label: &str, problem: impl Into<String>) -> LabelError {
    LabelError {
        label: label.chars().take(MAX_LABEL_BYTES).collect(),
        problem: problem.into(),
    }
}

/// The number that a text stands for, if it is written as numbers are.
fn plain_number(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    // Only the one spelling that writing gives: no plus, no leading zero, no "-0".
    (number.to_string() == text).then_some(number)
}

impl FromStr for Label {
    type Err = LabelError;

    /// # Errors
    /// [`LabelError`] for a text that cannot be stored, or that begins with a quotation mark but is no JSON string.
    fn from_str(text: &str) -> Result<Self, LabelError> {
        let label = if let Some(number) = plain_number(text) {
            Self::Number(number)
        } else if text.starts_with('"') {
            let quoted = serde_json::from_str(text).map_err(|_| {
                refusal(
                    text,
                    "starts with a quotation mark but is not a JSON string",
                )
            });
            Self::Text(quoted?)
        } else {
            Self::Text(text.to_owned())
        };
        label.check()?;
        Ok(label)
    }
}

impl fmt::Display for Label {
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

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not derived: an untagged enum keeps a copy of whatever comes, a list of millions included.
        struct Class;

        impl Visitor<'_> for Class {
            type Value = Label;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label: an integer of 64 bits or a text")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Label, E> {
                Ok(Label::Number(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Label, E> {
                i64::try_from(number).map(Label::Number).map_err(|_| {
                    E::custom(refusal(
                        &number.to_string(),
                        "is larger than 64 signed bits hold",
                    ))
                })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Label, E> {
                Ok(Label::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Class)
    }
}

impl From<i64> for Label {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Label {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<&str> for Label {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_plain_integers_are_numbers() {
        for (text, number) in [("0", 0), ("-7", -7), ("9223372036854775807", i64::MAX)] {
            assert_eq!(text.parse::<Label>().unwrap(), Label::Number(number));
        }
        for text in ["00", "-0", "+5", "1.0", " 5", "9223372036854775808", "cat"] {
            assert_eq!(text.parse::<Label>().unwrap(), Label::from(text));
        }
        for text in ["", "\"", "a\nb", "\"\"", &"x".repeat(MAX_LABEL_BYTES + 1)] {
            let error = text.parse::<Label>().unwrap_err();
            assert!(error.to_string().starts_with("label "), "{text:?}: {error}");
        }
    }

    #[test]
    fn json_keeps_the_kind() {
        for (json, label) in [("-3", Label::from(-3_i64)), ("\"3\"", Label::from("3"))] {
            assert_eq!(serde_json::from_str::<Label>(json).unwrap(), label);
            assert_eq!(serde_json::to_string(&label).unwrap(), json);
        }
        for json in ["1.5", "true", "[1]", "9223372036854775808"] {
            assert!(serde_json::from_str::<Label>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn labels_read_back_from_their_text(text in r#"["0-9+ a-zä\\-]{1,6}|-?[0-9]{1,20}"#, number: i64) {
            for label in [Label::Text(text), Label::Number(number)] {
                prop_assert_eq!(label.to_string().parse::<Label>().unwrap(), label);
            }
        }
    }
}
