//! Embedding spaces: what a producer of embeddings produces.
//!
//! A model version has a space of its own, under the version's name. An encoder of another program, or the model of an API, has one under a
//! name that the user registers. Vectors of different spaces must not be compared unless a measurement allows it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name::{NameError, check_name};

/// The name of a space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpaceId(String);

impl SpaceId {
    /// Takes a name.
    ///
    /// # Errors
    /// [`NameError`] for a name that is empty, too long, or holds a control character.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        check_name(&name)?;
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SpaceId {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl From<SpaceId> for String {
    fn from(id: SpaceId) -> Self {
        id.0
    }
}

impl FromStr for SpaceId {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How vectors of a space are compared by the program that made them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// The cosine of the angle.
    #[default]
    Cosine,
    /// The dot product of vectors of any length.
    Dot,
    /// The Euclidean distance.
    Euclidean,
}

/// What is embedded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// Pictures.
    #[default]
    Image,
    /// Texts.
    Text,
    /// Sounds.
    Audio,
    /// Anything else, or several.
    Other,
}

/// A space as a file refers to it: as much of its identity as the file knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceRef {
    /// The length of its vectors.
    pub dim: usize,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SpaceId>,
    /// Identifies the producer: the SHA-256 of a version's weights and preprocessing, or of an outside encoder's embeddings of fixed inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// Two references to different spaces where one space was needed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpaceMismatch {
    /// The vectors have different lengths.
    #[error("the vectors have {found} dimensions, but {expected} are needed for {space}")]
    Dim {
        /// The space needed.
        space: String,
        /// Its dimension.
        expected: usize,
        /// The dimension found.
        found: usize,
    },
    /// The names differ.
    #[error("the vectors are of space {found}, but {expected} is needed")]
    Name {
        /// The space needed.
        expected: SpaceId,
        /// The space found.
        found: SpaceId,
    },
    /// The names agree, but another encoder is behind one of them.
    #[error(
        "the vectors are of another encoder named {space}: its fingerprint is {found}, but {expected} is needed"
    )]
    Fingerprint {
        /// The name of both.
        space: String,
        /// The fingerprint needed.
        expected: String,
        /// The fingerprint found.
        found: String,
    },
}

impl SpaceRef {
    /// A space of which only the dimension is known.
    pub fn unnamed(dim: usize) -> Self {
        Self {
            dim,
            id: None,
            fingerprint: None,
        }
    }

    /// A named space.
    pub fn named(id: SpaceId, dim: usize) -> Self {
        Self {
            dim,
            id: Some(id),
            fingerprint: None,
        }
    }

    /// Says whether `found` may be this space: nothing that both know differs. A fingerprint decides where both have one, so that a
    /// renamed encoder is still recognised.
    ///
    /// # Errors
    /// [`SpaceMismatch`], with what differs.
    pub fn accept(&self, found: &Self) -> Result<(), SpaceMismatch> {
        if self.dim != found.dim {
            return Err(SpaceMismatch::Dim {
                space: self.to_string(),
                expected: self.dim,
                found: found.dim,
            });
        }
        match (&self.fingerprint, &found.fingerprint) {
            (Some(expected), Some(fingerprint)) if expected == fingerprint => return Ok(()),
            (Some(expected), Some(fingerprint)) => {
                return Err(SpaceMismatch::Fingerprint {
                    space: self.to_string(),
                    expected: expected.clone(),
                    found: fingerprint.clone(),
                });
            }
            _ => {}
        }
        match (&self.id, &found.id) {
            (Some(expected), Some(found)) if expected != found => Err(SpaceMismatch::Name {
                expected: expected.clone(),
                found: found.clone(),
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for SpaceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => id.fmt(f),
            None => write!(f, "an unnamed space of {} dimensions", self.dim),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(name: Option<&str>, fingerprint: Option<&str>) -> SpaceRef {
        SpaceRef {
            dim: 4,
            id: name.map(|name| SpaceId::new(name).unwrap()),
            fingerprint: fingerprint.map(str::to_owned),
        }
    }

    #[test]
    fn only_what_both_know_can_differ() {
        let known = space(Some("a"), Some("1"));
        for found in [
            space(None, None),
            space(Some("a"), None),
            space(None, Some("1")),
            space(Some("renamed"), Some("1")),
        ] {
            assert_eq!(known.accept(&found), Ok(()), "{found:?}");
        }
        for found in [
            space(Some("b"), None),
            space(Some("a"), Some("2")),
            space(None, Some("2")),
            SpaceRef::unnamed(5),
        ] {
            assert!(known.accept(&found).is_err(), "{found:?}");
        }
    }

    #[test]
    fn names_are_checked_when_read() {
        assert!(serde_json::from_str::<SpaceId>("\"minilm\"").is_ok());
        assert!(serde_json::from_str::<SpaceId>("\"\"").is_err());
    }
}
