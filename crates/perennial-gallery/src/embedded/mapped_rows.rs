//! Rows as a map gives them, beside those of the partitions: derived, in memory only, and never the truth about anything.

use super::graph::Graph;
use super::rows::Rows;
use crate::mapped_index::{MappedIndex, VectorMap};
use crate::stats::MappedIndexStats;

/// The items of one space by their mapped vectors.
pub(super) struct MappedRows {
    pub(super) index: MappedIndex,
    /// With the numbers of the rows that they were mapped from.
    pub(super) rows: Rows,
    /// Rows of smaller numbers were looked at.
    pub(super) covered: u64,
    /// Items that the map refuses.
    pub(super) refused: u64,
    /// Whether it has caught up with the space once.
    pub(super) ready: bool,
}

impl MappedRows {
    pub(super) fn new(index: MappedIndex, with_codes: bool) -> Self {
        Self {
            rows: Rows::new(index.map.output_dim(), with_codes),
            index,
            covered: 0,
            refused: 0,
            ready: false,
        }
    }

    pub(super) fn map(&self) -> &dyn VectorMap {
        &*self.index.map
    }

    /// The same index without rows, for a gallery with other rows.
    pub(super) fn emptied(self) -> Self {
        let with_codes = self.rows.with_codes();
        Self::new(self.index, with_codes)
    }

    /// Takes out rows that are gone.
    pub(super) fn remove(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.rows.remove(number);
        }
        if self.rows.live() == 0 && self.rows.slots() > 0 {
            self.rows = Rows::new(self.rows.dim(), self.rows.with_codes());
        }
    }

    pub(super) fn stats(&self, graph: Option<&Graph>) -> MappedIndexStats {
        let bytes = self.rows.bytes() + graph.map_or(0, Graph::bytes);
        MappedIndexStats {
            space: self.index.space.clone(),
            map: self.map().key().to_owned(),
            dim: self.rows.dim(),
            items: self.rows.live() as u64,
            refused: self.refused,
            ready: self.ready,
            memory_bytes: bytes as u64,
        }
    }
}
