//! Rows as a map gives them, beside those of the partitions: derived, in memory only, and never the truth about anything.

use std::collections::BTreeSet;

use super::graph::Graph;
use super::rows::Rows;
use crate::mapped_index::{MappedIndex, VectorMap};
use crate::stats::{IndexState, MappedIndexStats};

/// The items of one space by their mapped vectors.
pub(super) struct MappedRows {
    pub(super) index: MappedIndex,
    /// With the numbers of the rows that they were mapped from.
    pub(super) rows: Rows,
    /// Rows of smaller numbers were looked at.
    pub(super) covered: u64,
    /// Numbers of rows that the map refuses.
    pub(super) refused: BTreeSet<u64>,
    /// Whether it has caught up with the space once.
    pub(super) ready: bool,
}

impl MappedRows {
    pub(super) fn new(index: MappedIndex, with_codes: bool) -> Self {
        Self {
            rows: Rows::new(index.map.output_dim(), with_codes),
            index,
            covered: 0,
            refused: BTreeSet::new(),
            ready: false,
        }
    }

    pub(super) fn map(&self) -> &dyn VectorMap {
        &*self.index.map
    }

    /// The same index without rows, for a gallery with other rows.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.index.clone(), self.rows.with_codes())
    }

    /// Takes out rows that are gone. Gives back what held them once all are, to be let go when no reader waits.
    pub(super) fn remove(&mut self, numbers: impl IntoIterator<Item = u64>) -> Option<Rows> {
        for number in numbers {
            self.rows.remove(number);
            self.refused.remove(&number);
        }
        let is_empty = self.rows.live() == 0 && self.rows.slots() > 0;
        is_empty.then(|| self.rows.replace_by_none())
    }

    pub(super) fn stats(&self, index: IndexState, graph: Option<&Graph>) -> MappedIndexStats {
        let bytes = self.rows.bytes() + graph.map_or(0, Graph::bytes);
        MappedIndexStats {
            space: self.index.space.clone(),
            map: self.map().key().to_owned(),
            dim: self.rows.dim(),
            items: self.rows.live() as u64,
            refused: self.refused.len() as u64,
            ready: self.ready,
            index,
            memory_bytes: bytes as u64,
        }
    }
}
