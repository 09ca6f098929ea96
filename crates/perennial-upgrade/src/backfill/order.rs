//! The orders of a backfill.

use serde::{Deserialize, Serialize};

/// The order of a backfill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// What searches found most often, then what they found with the lowest standard score, then the spaces that are served worst, then
    /// by id.
    #[default]
    Retrieved,
    /// What searches found with the lowest standard score, then the spaces that are served worst, then what was found most often,
    /// then by id.
    WorstServed,
    /// By id alone.
    Id,
}
