//! Indexes of mapped vectors in the gallery without a disk: mapped anew by every search.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use perennial_gallery::{
    GalleryError, Hit, IndexKind, IndexProgress, IndexState, Item, MappedIndex, MappedIndexStats,
    MappedIndexes, SearchRequest,
};

use crate::memory_store::{MemoryStore, hit};

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
        let stats = kept.iter().map(|one| MappedIndexStats {
            space: one.space.clone(),
            map: one.map.key().to_owned(),
            dim: one.map.output_dim(),
            items: self.of_space(one.space.as_str()).len() as u64,
            refused: 0,
            ready: self.has_mapped(one.space.as_str(), one.map.key()),
            index: IndexState {
                kind: IndexKind::Exact,
                state: IndexProgress::Ready,
                indexed: 0,
                backlog: 0,
            },
            memory_bytes: 1000,
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
        let kept = self.mapped.kept.lock().unwrap().clone();
        let [space] = request.spaces else {
            panic!("one space at a time: {:?}", request.spaces);
        };
        let missing = || GalleryError::NotMapped {
            space: space.to_string(),
        };
        if self.mapped.lost.swap(false, Ordering::SeqCst) {
            self.mapped.held.store(true, Ordering::SeqCst);
            return Err(missing());
        }
        let index = kept.iter().find(|one| one.is(space, key));
        let map = &index.ok_or_else(missing)?.map;
        assert_eq!(
            (request.dim, request.queries.len()),
            (map.output_dim(), map.output_dim())
        );
        let mapped = |item: Item| {
            let mut embedding = Vec::new();
            map.map(&item.embedding, &mut embedding).unwrap();
            Item { embedding, ..item }
        };
        let items = self.of_space(space.as_str()).into_iter().map(mapped);
        let mut hits: Vec<Hit> = items.map(|item| hit(&item, request.queries)).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        hits.truncate(request.limit);
        Ok(vec![hits])
    }
}
