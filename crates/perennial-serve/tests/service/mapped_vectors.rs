//! Indexes of mapped vectors in the gallery without a disk: mapped anew by every search.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use perennial_gallery::request_checks::{check_dim_of_space, check_search};
use perennial_gallery::{
    GalleryError, Hit, IndexKind, IndexProgress, IndexState, Item, MappedIndex, MappedIndexStats,
    MappedIndexes, SearchRequest,
};

use crate::memory_store::{MemoryStore, best};

#[derive(Default)]
pub struct MappedVectors {
    kept: Mutex<Vec<MappedIndex>>,
    /// How often indexes were wanted.
    pub wanted: AtomicUsize,
    /// Indexes stay half-built.
    pub held: AtomicBool,
    /// The next search finds that its index is gone; it stays half-built from then on.
    pub lost: AtomicBool,
    /// As in a gallery that lies in a database.
    pub not_offered: AtomicBool,
}

impl MappedIndexes for MemoryStore {
    fn offers_mapped(&self) -> bool {
        !self.mapped.not_offered.load(Ordering::SeqCst)
    }

    fn keep_mapped(&self, wanted: &[MappedIndex]) -> Result<(), GalleryError> {
        assert!(self.offers_mapped());
        self.mapped.wanted.fetch_add(wanted.len(), Ordering::SeqCst);
        *self.mapped.kept.lock().unwrap() = wanted.to_vec();
        Ok(())
    }

    fn has_mapped(&self, space: &str, key: &str) -> bool {
        let kept = self.mapped.kept.lock().unwrap();
        let mut kept = kept.iter();
        let is_kept = kept.any(|one| one.space.as_str() == space && one.map.key() == key);
        is_kept && !self.mapped.held.load(Ordering::SeqCst)
    }

    fn mapped(&self) -> Vec<MappedIndexStats> {
        let kept = self.mapped.kept.lock().unwrap().clone();
        let stats = kept.iter().map(|one| {
            let all = self.mappable(one).len();
            let items = self.mapped_items(one).len();
            MappedIndexStats {
                space: one.space.clone(),
                map: one.map.key().to_owned(),
                dim: one.map.output_dim(),
                items: items as u64,
                refused: (all - items) as u64,
                ready: self.has_mapped(one.space.as_str(), one.map.key()),
                index: IndexState {
                    kind: IndexKind::Exact,
                    state: IndexProgress::Ready,
                    indexed: 0,
                    backlog: 0,
                },
                memory_bytes: 1000,
            }
        });
        stats.collect()
    }

    fn mapped_bytes(&self, items: u64, dim: usize) -> u64 {
        items * dim as u64 * 1_000_000
    }

    fn search_mapped(
        &self,
        key: &str,
        request: &SearchRequest<'_>,
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_search(request)?;
        let kept = self.mapped.kept.lock().unwrap().clone();
        let lost = self.mapped.lost.swap(false, Ordering::SeqCst);
        if lost {
            self.mapped.held.store(true, Ordering::SeqCst);
        }
        let mut items = Vec::new();
        for space in request.spaces {
            let mut kept = kept.iter();
            let index = kept.find(|one| !lost && one.is(space, key));
            let index = index.ok_or_else(|| GalleryError::NotMapped {
                space: space.to_string(),
            })?;
            check_dim_of_space(request, space, index.map.output_dim())?;
            items.extend(self.mapped_items(index));
        }
        Ok(best(items.iter(), request))
    }
}

impl MemoryStore {
    /// The items of an index's space that have the dimension of its map.
    fn mappable(&self, index: &MappedIndex) -> Vec<Item> {
        let mut items = self.of_space(index.space.as_str());
        items.retain(|item| item.embedding.len() == index.map.input_dim());
        items
    }

    /// Those that the map does not refuse, with their mapped vectors.
    fn mapped_items(&self, index: &MappedIndex) -> Vec<Item> {
        let mapped = |item: Item| {
            let mut embedding = Vec::new();
            index.map.map(&item.embedding, &mut embedding).ok()?;
            Some(Item { embedding, ..item })
        };
        self.mappable(index)
            .into_iter()
            .filter_map(mapped)
            .collect()
    }
}
