//! What an upstream is asked for.

use perennial_encode::{InputType, endpoint};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::client_key::ClientKey;

/// How inputs are to be embedded.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    /// None for inputs that get no prefix.
    pub(crate) input_type: Option<InputType>,
    /// Whether embeddings are of unit length (`true`) or as the encoder makes them (`false`); without it, as the upstream gives them.
    pub(crate) normalize: Option<bool>,
    /// Whether inputs that are too long are cut, where the upstream can.
    pub(crate) truncate: Option<bool>,
    /// At which end.
    pub(crate) truncation_direction: Option<TruncationDirection>,
    pub(crate) client_key: ClientKey,
}

impl Asked {
    /// What the upstream is told.
    pub(super) fn told(&self) -> endpoint::Asked {
        endpoint::Asked {
            normalize: self.normalize,
            truncate: self.truncate,
            truncation_direction: self.truncation_direction.map(|end| match end {
                TruncationDirection::Left => endpoint::TruncationDirection::Left,
                TruncationDirection::Right => endpoint::TruncationDirection::Right,
            }),
        }
    }
}

/// The end at which an input that is too long is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) enum TruncationDirection {
    /// The beginning is left out.
    Left,
    /// The end is left out.
    Right,
}
