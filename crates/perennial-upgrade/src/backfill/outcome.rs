//! What became of some items of a backfill.

use perennial_gallery::{ItemId, StoredItem};

use super::failure::Failure;

/// Items by what became of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Embedded again.
    pub done: Vec<ItemId>,
    /// Changed or deleted by others since they were read, and left alone.
    pub changed: Vec<ItemId>,
    /// Kept as they are, with the reasons.
    pub failed: Vec<(StoredItem, Failure)>,
}
