//! A gallery without a disk, whose disk can fail all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use perennial_gallery::{
    BytesPerVector, Compacted, DiskUse, Filter, GalleryError, GalleryStats, Hit, IndexKind,
    IndexProgress, IndexState, Item, ItemId, Page, SearchRequest, SimplexIdentity, SnapshotInfo,
    StoredItem, Upserted, VectorStore,
};

#[derive(Default)]
pub struct MemoryStore {
    items: Mutex<BTreeMap<ItemId, Item>>,
    identity: Mutex<Option<SimplexIdentity>>,
    pub broken: AtomicBool,
    /// Another compaction runs.
    pub compacting: AtomicBool,
    pub flushed: AtomicBool,
}

impl MemoryStore {
    fn check(&self) -> Result<(), GalleryError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(GalleryError::Storage {
                path: "/secret/gallery".into(),
                problem: "no space left on device".to_owned(),
            });
        }
        Ok(())
    }

    fn stored(item: &Item, with_embedding: bool) -> StoredItem {
        StoredItem {
            id: item.id.clone(),
            model_version: item.model_version.clone(),
            label: item.label,
            payload: item.payload.clone(),
            embedding: with_embedding.then(|| item.embedding.clone()),
        }
    }

    fn passes(filter: &Filter, item: &Item) -> bool {
        filter.matches(&item.id, &item.model_version, item.label, &item.payload)
    }
}

impl VectorStore for MemoryStore {
    fn upsert(&self, items: Vec<Item>) -> Result<Upserted, GalleryError> {
        self.check()?;
        let mut stored = self.items.lock().unwrap();
        let dim = stored.values().next().map(|item| item.embedding.len());
        let mut ids = BTreeSet::new();
        for item in &items {
            item.id.check()?;
            if !ids.insert(&item.id) {
                return Err(GalleryError::DuplicateId {
                    id: item.id.clone(),
                });
            }
            if dim.is_some_and(|dim| dim != item.embedding.len()) {
                return Err(GalleryError::WrongDimension {
                    what: format!("item {}", item.id),
                    found: item.embedding.len(),
                    expected: dim.unwrap(),
                });
            }
            let norm = item
                .embedding
                .iter()
                .map(|value| value * value)
                .sum::<f32>()
                .sqrt();
            if !norm.is_finite() || (norm - 1.0).abs() > 1e-3 {
                let what = format!("item {}", item.id);
                return Err(GalleryError::NotUnit { what, norm });
            }
        }
        let mut upserted = Upserted::default();
        for item in items {
            match stored.insert(item.id.clone(), item) {
                Some(_) => upserted.replaced += 1,
                None => upserted.inserted += 1,
            }
        }
        Ok(upserted)
    }

    fn delete(&self, ids: &[ItemId]) -> Result<usize, GalleryError> {
        self.check()?;
        let mut stored = self.items.lock().unwrap();
        Ok(ids.iter().filter(|id| stored.remove(id).is_some()).count())
    }

    fn delete_where(&self, filter: &Filter) -> Result<usize, GalleryError> {
        if filter.is_empty() && !filter.everything {
            return Err(GalleryError::EmptyFilter);
        }
        let mut stored = self.items.lock().unwrap();
        let before = stored.len();
        stored.retain(|_, item| !Self::passes(filter, item));
        Ok(before - stored.len())
    }

    fn get(&self, ids: &[ItemId], with: bool) -> Result<Vec<StoredItem>, GalleryError> {
        let stored = self.items.lock().unwrap();
        let found = ids.iter().filter_map(|id| stored.get(id));
        Ok(found.map(|item| Self::stored(item, with)).collect())
    }

    fn scroll(
        &self,
        after: Option<&ItemId>,
        limit: usize,
        filter: &Filter,
        with: bool,
    ) -> Result<Page, GalleryError> {
        let stored = self.items.lock().unwrap();
        let mut rest = stored
            .values()
            .filter(|item| after.is_none_or(|after| item.id > *after))
            .filter(|item| Self::passes(filter, item));
        let items: Vec<StoredItem> = rest
            .by_ref()
            .take(limit)
            .map(|item| Self::stored(item, with))
            .collect();
        let next = rest.next().and(items.last()).map(|last| last.id.clone());
        Ok(Page { items, next })
    }

    fn search(&self, request: &SearchRequest<'_>) -> Result<Vec<Hit>, GalleryError> {
        let stored = self.items.lock().unwrap();
        let mut hits: Vec<Hit> = stored
            .values()
            .filter(|item| Self::passes(request.filter, item))
            .map(|item| Hit {
                id: item.id.clone(),
                score: item
                    .embedding
                    .iter()
                    .zip(request.embedding)
                    .map(|(a, b)| a * b)
                    .sum(),
                model_version: item.model_version.clone(),
                label: item.label,
                payload: item.payload.clone(),
            })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        hits.truncate(request.limit);
        Ok(hits)
    }

    fn search_batch(
        &self,
        _: &[f32],
        _: usize,
        _: &Filter,
        _: bool,
    ) -> Result<Vec<Vec<Hit>>, GalleryError> {
        Err(GalleryError::Closed)
    }

    fn count(&self) -> Result<GalleryStats, GalleryError> {
        let stored = self.items.lock().unwrap();
        let mut per_version = BTreeMap::new();
        for item in stored.values() {
            *per_version.entry(item.model_version.clone()).or_default() += 1;
        }
        Ok(GalleryStats {
            items: stored.len() as u64,
            dim: stored.values().next().map(|item| item.embedding.len()),
            per_version,
            index: IndexState {
                kind: IndexKind::Exact,
                state: IndexProgress::Ready,
                indexed: 0,
                backlog: 0,
            },
            bytes_per_vector: BytesPerVector::default(),
            disk: DiskUse::default(),
        })
    }

    fn identity(&self) -> Result<Option<SimplexIdentity>, GalleryError> {
        Ok(*self.identity.lock().unwrap())
    }

    fn set_identity(&self, identity: SimplexIdentity) -> Result<(), GalleryError> {
        *self.identity.lock().unwrap() = Some(identity);
        Ok(())
    }

    fn flush(&self) -> Result<(), GalleryError> {
        self.flushed.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        self.check()?;
        std::fs::write(path, b"snapshot").unwrap();
        Ok(SnapshotInfo {
            items: self.items.lock().unwrap().len() as u64,
            bytes: 8,
            sha256: "ab".repeat(32),
        })
    }

    fn compact(&self) -> Result<Compacted, GalleryError> {
        self.check()?;
        if self.compacting.load(Ordering::SeqCst) {
            return Err(GalleryError::Compacting);
        }
        Ok(Compacted {
            items: self.items.lock().unwrap().len() as u64,
            bytes_before: 9000,
            bytes_after: 4096,
        })
    }

    fn restore(&self, _: &Path) -> Result<SnapshotInfo, GalleryError> {
        Err(GalleryError::Closed)
    }
}
