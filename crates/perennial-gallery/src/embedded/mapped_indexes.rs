//! The indexes of mapped vectors that a gallery is told to keep.

use std::collections::BTreeMap;

use super::EmbeddedGallery;
use super::graph::Graph;
use super::mapped_rows::MappedRows;
use super::rows::Rows;
use super::state::RowsId;
use crate::error::GalleryError;
use crate::item::Hit;
use crate::mapped_index::{MappedIndex, MappedIndexes};
use crate::stats::MappedIndexStats;
use crate::store::SearchRequest;

impl MappedIndexes for EmbeddedGallery {
    fn offers_mapped(&self) -> bool {
        true
    }

    fn keep_mapped(&self, wanted: &[MappedIndex]) -> Result<(), GalleryError> {
        let with_codes = self.shared.with_codes();
        let is_wanted = |one: &MappedIndex| {
            let same = |other: &&MappedIndex| other.is(&one.space, one.map.key());
            wanted.iter().find(same).is_some()
        };
        let mut gone: BTreeMap<u32, MappedRows> = BTreeMap::new();
        {
            // Not while someone holds the state for long: readers would wait behind this.
            let _turn = self.shared.mapping_turn();
            let mut state = self.shared.state_mut();
            let unwanted: Vec<u32> = state
                .mapped
                .iter()
                .filter(|(_, kept)| !is_wanted(&kept.index))
                .map(|(&index, _)| index)
                .collect();
            for index in unwanted {
                gone.extend(state.mapped.remove(&index).map(|rows| (index, rows)));
            }
            for one in wanted {
                let is_kept = |kept: &MappedRows| kept.index.is(&one.space, one.map.key());
                if !state.mapped.values().any(is_kept) {
                    let index = self.shared.next_mapped();
                    let rows = MappedRows::new(one.clone(), with_codes);
                    state.mapped.insert(index, rows);
                }
            }
        }
        // Much memory is given back here, for which no reader waits.
        for (index, rows) in gone {
            self.shared.set_graph(RowsId::Mapped(index), None);
            let space = &rows.index.space;
            tracing::info!(%space, "an index of mapped vectors is let go");
        }
        self.indexer.wake();
        Ok(())
    }

    fn has_mapped(&self, space: &str, key: &str) -> bool {
        let state = self.shared.state();
        let mut ready = state.mapped.values().filter(|mapped| mapped.ready);
        ready.any(|mapped| mapped.index.space.as_str() == space && mapped.map().key() == key)
    }

    fn mapped(&self) -> Vec<MappedIndexStats> {
        let state = self.shared.state();
        let stats = state.mapped.iter().map(|(&index, mapped)| {
            let graph = self.shared.graph(RowsId::Mapped(index));
            let index = self.index_state(&mapped.rows, graph.as_deref());
            mapped.stats(index, graph.as_deref())
        });
        stats.collect()
    }

    fn mapped_bytes(&self, items: u64, dim: usize) -> u64 {
        let config = &self.shared.config;
        let row = Rows::row_bytes(dim, self.shared.with_codes());
        let has_graph = items as usize >= config.hnsw_from && !self.shared.read_only;
        let node = if has_graph {
            Graph::node_bytes(dim, &config.hnsw)
        } else {
            0
        };
        items.saturating_mul((row + node) as u64)
    }

    fn search_mapped(
        &self,
        key: &str,
        request: &SearchRequest<'_>,
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        self.steady(|| self.find_mapped(key, request))
    }
}

#[cfg(test)]
mod tests;
