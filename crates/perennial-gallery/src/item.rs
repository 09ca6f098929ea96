//! Stored items and search hits.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::bounded_json;
use crate::error::GalleryError;

/// The longest text id, in bytes.
pub const MAX_ID_BYTES: usize = 1024;
/// The longest name of a model version, in bytes.
pub const MAX_VERSION_BYTES: usize = 64;
/// The largest payload, in bytes of compact JSON.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024;
/// The largest dimension of an embedding.
pub const MAX_DIM: usize = 16_384;
/// The most items, ids or queries in one call.
pub const MAX_BATCH: usize = 10_000;
/// How far the length of an embedding may be from 1.
pub const NORM_TOLERANCE: f32 = 1e-3;

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
    /// [`GalleryError::InvalidId`] for a text that is empty, too long or holds a control character.
    pub fn check(&self) -> Result<(), GalleryError> {
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
        Err(GalleryError::InvalidId { id, problem })
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
    type Err = GalleryError;

    /// # Errors
    /// [`GalleryError::InvalidId`] for a text that cannot be stored, or that begins with a quotation mark but is no JSON string.
    fn from_str(text: &str) -> Result<Self, GalleryError> {
        let id = if let Some(number) = plain_number(text) {
            Self::Number(number)
        } else if text.starts_with('"') {
            let quoted = serde_json::from_str(text).map_err(|_| GalleryError::InvalidId {
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

/// One item on its way into the gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Under which it is found again; an item of the same id is replaced.
    pub id: ItemId,
    /// A unit vector, `[dim]`.
    pub embedding: Vec<f32>,
    /// The model version that produced the embedding.
    pub model_version: String,
    /// The class, where it is known.
    #[serde(default)]
    pub label: Option<u32>,
    /// Anything else worth keeping, at most [`MAX_PAYLOAD_BYTES`] as compact JSON.
    #[serde(default, deserialize_with = "bounded_json::payload")]
    pub payload: Map<String, Value>,
}

impl Item {
    /// Says whether the item can be stored in a gallery whose vectors have this dimension, once there is one.
    ///
    /// # Errors
    /// The first thing wrong with id, version, vector or payload, naming the item.
    pub fn check(&self, dim: Option<usize>) -> Result<(), GalleryError> {
        self.id.check()?;
        let version = &self.model_version;
        if version.is_empty()
            || version.len() > MAX_VERSION_BYTES
            || version.chars().any(char::is_control)
        {
            return Err(GalleryError::InvalidVersion {
                id: self.id.clone(),
                version: version.chars().take(MAX_VERSION_BYTES).collect(),
            });
        }
        check_vector(&self.embedding, dim, || format!("item {}", self.id))?;
        let bytes = crate::payload::json_size(&self.payload);
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(GalleryError::PayloadTooLarge {
                id: self.id.clone(),
                bytes,
            });
        }
        Ok(())
    }
}

/// Says whether a vector is a unit vector of the right dimension; `what` names it.
pub(crate) fn check_vector(
    vector: &[f32],
    dim: Option<usize>,
    what: impl Fn() -> String,
) -> Result<(), GalleryError> {
    let found = vector.len();
    if let Some(expected) = dim.filter(|&dim| dim != found) {
        let what = what();
        return Err(GalleryError::WrongDimension {
            what,
            found,
            expected,
        });
    }
    if found == 0 || found > MAX_DIM {
        return Err(GalleryError::UnsupportedDimension {
            what: what(),
            found,
        });
    }
    if let Some(index) = vector.iter().position(|value| !value.is_finite()) {
        return Err(GalleryError::NonFinite {
            what: what(),
            index,
        });
    }
    let square: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
    let norm = square.sqrt() as f32;
    if (norm - 1.0).abs() > NORM_TOLERANCE {
        return Err(GalleryError::NotUnit { what: what(), norm });
    }
    Ok(())
}

/// One item as the gallery holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredItem {
    /// Under which it is found.
    pub id: ItemId,
    /// The model version that produced the embedding.
    pub model_version: String,
    /// The class, where it is known.
    pub label: Option<u32>,
    /// What was stored with it.
    pub payload: Map<String, Value>,
    /// The unit vector, `[dim]`, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<Vec<f32>>,
}

/// One search result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The item found.
    pub id: ItemId,
    /// Its cosine similarity to the query, computed in f32.
    pub score: f32,
    /// The model version that produced its embedding.
    pub model_version: String,
    /// Its class, where it is known.
    pub label: Option<u32>,
    /// What was stored with it.
    pub payload: Map<String, Value>,
}

/// The simplex that the embeddings of one gallery share. Only models of one simplex can be compatible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimplexIdentity {
    /// Prototypes of the simplex, `K`; its embeddings have `K - 1` dimensions.
    pub vertices: usize,
}

impl SimplexIdentity {
    /// The dimension of embeddings in this simplex.
    ///
    /// # Errors
    /// [`GalleryError::InvalidIdentity`] where no such simplex exists or its dimension exceeds [`MAX_DIM`].
    pub fn dim(&self) -> Result<usize, GalleryError> {
        match self.vertices {
            2.. if self.vertices - 1 <= MAX_DIM => Ok(self.vertices - 1),
            vertices => Err(GalleryError::InvalidIdentity { vertices }),
        }
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
            assert!(error.is_invalid_input(), "{text:?}: {error}");
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
