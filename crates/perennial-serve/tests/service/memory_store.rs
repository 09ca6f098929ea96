//! A gallery without a disk, whose disk can fail all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::mapped_vectors::MappedVectors;

use perennial_core::SpaceId;
use perennial_gallery::exchange::{read_snapshot, write_snapshot};
use perennial_gallery::request_checks::{
    check_delete_where, check_dim_of_space, check_page, check_search,
};
use perennial_gallery::{
    BytesPerVector, Compacted, DiskUse, Filter, GalleryError, GalleryStats, Hit, IndexKind,
    IndexProgress, IndexState, Item, ItemId, Maintenance, MappedIndexes, Moves, Page, Replacement,
    SearchRequest, SnapshotInfo, Snapshots, SpaceStats, StoreSpace, StoredItem, Upserted,
    VectorStore, compare_all,
};

#[derive(Default)]
pub struct MemoryStore {
    content: Mutex<Content>,
    pub broken: AtomicBool,
    /// From the next write on, nothing can be counted.
    pub uncountable_after_write: AtomicBool,
    pub uncountable: AtomicBool,
    /// Others write to it as well, as to a database.
    pub shared: AtomicBool,
    /// Another compaction runs.
    pub compacting: AtomicBool,
    pub flushed: AtomicBool,
    pub mapped: MappedVectors,
    /// What another process does right before items are replaced, once.
    pub before_replacing: Mutex<Option<Others>>,
    /// What happens right before items are stored, once.
    pub before_storing: Mutex<Option<Others>>,
    /// What happens before every page.
    pub before_page: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    /// What happens around every search.
    pub around_search: Mutex<Option<Watch>>,
}

type Others = Box<dyn FnOnce(&MemoryStore) + Send>;
/// Is told the spaces.
pub type Watch = Arc<dyn Fn(&MemoryStore, &[SpaceId], Moment) + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

#[derive(Default)]
struct Content {
    items: BTreeMap<ItemId, Item>,
    spaces: BTreeMap<String, StoreSpace>,
    moves: Moves,
}

impl Content {
    fn items_of(&self, space: &str) -> u64 {
        let items = self.items.values();
        items.filter(|item| item.model_version == space).count() as u64
    }

    /// The dimension of all items, where they have one.
    fn dim(&self) -> Option<usize> {
        let dims = self.items.values().map(|item| item.embedding.len());
        let dims: BTreeSet<usize> = dims.collect();
        dims.first().copied().filter(|_| dims.len() == 1)
    }

    fn upsert(&mut self, items: Vec<Item>) -> Result<Upserted, GalleryError> {
        let mut spaces = self.spaces.clone();
        let mut ids = BTreeSet::new();
        for item in &items {
            let known = spaces.get(&item.model_version);
            item.check(known.map(|space| space.dim))?;
            if !ids.insert(&item.id) {
                return Err(GalleryError::DuplicateId {
                    id: item.id.clone(),
                });
            }
            let id = SpaceId::new(item.model_version.as_str()).unwrap();
            let new = StoreSpace {
                id,
                dim: item.embedding.len(),
                simplex: None,
            };
            spaces.entry(item.model_version.clone()).or_insert(new);
        }
        self.spaces = spaces;
        let before = self.items.clone();
        let mut upserted = Upserted::default();
        for item in items {
            let space = item.model_version.clone();
            match self.items.insert(item.id.clone(), item) {
                Some(old) => {
                    if old.model_version != space {
                        self.moves.note(&space);
                    }
                    upserted.replaced += 1;
                }
                None => upserted.inserted += 1,
            }
        }
        self.forget_emptied(&before);
        Ok(upserted)
    }

    /// Forgets spaces that have lost their last item, but those of a simplex.
    fn forget_emptied(&mut self, before: &BTreeMap<ItemId, Item>) {
        for item in before.values() {
            let space = item.model_version.as_str();
            if self.items_of(space) == 0
                && self
                    .spaces
                    .get(space)
                    .is_some_and(|space| space.simplex.is_none())
            {
                self.spaces.remove(space);
            }
        }
    }
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

    fn check_countable(&self) -> Result<(), GalleryError> {
        if self.uncountable.load(Ordering::SeqCst) {
            return Err(GalleryError::Storage {
                path: "/secret/gallery".into(),
                problem: "cannot be read".to_owned(),
            });
        }
        Ok(())
    }

    /// The items of a space.
    pub fn of_space(&self, space: &str) -> Vec<Item> {
        let content = self.content.lock().unwrap();
        let items = content.items.values();
        items
            .filter(|item| item.model_version == space)
            .cloned()
            .collect()
    }

    fn items(&self) -> u64 {
        self.content.lock().unwrap().items.len() as u64
    }
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

fn hit(item: &Item, query: &[f32]) -> Hit {
    Hit {
        id: item.id.clone(),
        score: item.embedding.iter().zip(query).map(|(a, b)| a * b).sum(),
        model_version: item.model_version.clone(),
        label: item.label,
        payload: item.payload.clone(),
    }
}

fn passes(filter: &Filter, item: &Item) -> bool {
    filter.matches(&item.id, &item.model_version, item.label, &item.payload)
}

/// The best of some items for each query, among those that pass the filter.
pub fn best<'a>(
    items: impl Iterator<Item = &'a Item> + Clone,
    request: &SearchRequest<'_>,
) -> Vec<Vec<Hit>> {
    let of_query = |query: &[f32]| {
        let passing = items.clone().filter(|item| passes(request.filter, item));
        let mut hits: Vec<Hit> = passing.map(|item| hit(item, query)).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
        hits.truncate(request.limit);
        hits
    };
    request.queries.chunks(request.dim).map(of_query).collect()
}

impl VectorStore for MemoryStore {
    fn spaces(&self) -> Result<Vec<SpaceStats>, GalleryError> {
        self.check_countable()?;
        let content = self.content.lock().unwrap();
        let stats = content.spaces.values().map(|space| SpaceStats {
            space: space.clone(),
            items: content.items_of(space.id.as_str()),
        });
        Ok(stats.collect())
    }

    fn create_space(&self, space: &StoreSpace) -> Result<(), GalleryError> {
        self.check()?;
        space.check()?;
        let mut content = self.content.lock().unwrap();
        let id = space.id.as_str();
        if let Some(known) = content.spaces.get(id)
            && content.items_of(id) > 0
        {
            if known.dim != space.dim {
                return Err(GalleryError::WrongDimension {
                    what: format!("space {id}"),
                    found: space.dim,
                    expected: known.dim,
                });
            }
            let vertices = |space: &StoreSpace| space.simplex.map_or(0, |simplex| simplex.vertices);
            let (stored, given) = (vertices(known), vertices(space));
            if stored != 0 && given != 0 && stored != given {
                return Err(GalleryError::IdentityMismatch { stored, given });
            }
            if given == 0 {
                return Ok(());
            }
        }
        content.spaces.insert(id.to_owned(), space.clone());
        Ok(())
    }

    fn upsert(&self, items: Vec<Item>) -> Result<Upserted, GalleryError> {
        self.check()?;
        let before = self.before_storing.lock().unwrap().take();
        if let Some(before) = before {
            before(self);
        }
        let mut content = self.content.lock().unwrap();
        let upserted = content.upsert(items)?;
        if self.uncountable_after_write.load(Ordering::SeqCst) {
            self.uncountable.store(true, Ordering::SeqCst);
        }
        Ok(upserted)
    }

    fn replace_unchanged(&self, items: Vec<Replacement>) -> Result<Vec<ItemId>, GalleryError> {
        self.check()?;
        if let Some(others) = self.before_replacing.lock().unwrap().take() {
            others(self);
        }
        let mut content = self.content.lock().unwrap();
        let ids = items
            .iter()
            .filter_map(|one| content.items.get(&one.read.id));
        let now: Vec<StoredItem> = ids.map(|item| stored(item, true)).collect();
        for one in &items {
            one.item().check(None)?;
        }
        let (items, changed) = compare_all(&items, &now);
        content.upsert(items)?;
        Ok(changed)
    }

    fn delete(&self, ids: &[ItemId]) -> Result<usize, GalleryError> {
        self.check()?;
        let mut content = self.content.lock().unwrap();
        let before = content.items.clone();
        let deleted = ids
            .iter()
            .filter(|id| content.items.remove(id).is_some())
            .count();
        content.forget_emptied(&before);
        Ok(deleted)
    }

    fn delete_where(&self, filter: &Filter) -> Result<usize, GalleryError> {
        check_delete_where(filter)?;
        let mut content = self.content.lock().unwrap();
        let before = content.items.clone();
        content.items.retain(|_, item| !passes(filter, item));
        let deleted = before.len() - content.items.len();
        content.forget_emptied(&before);
        Ok(deleted)
    }

    fn get(&self, ids: &[ItemId], with: bool) -> Result<Vec<StoredItem>, GalleryError> {
        let content = self.content.lock().unwrap();
        let found = ids.iter().filter_map(|id| content.items.get(id));
        Ok(found.map(|item| stored(item, with)).collect())
    }

    fn scroll(
        &self,
        after: Option<&ItemId>,
        limit: usize,
        filter: &Filter,
        with: bool,
    ) -> Result<Page, GalleryError> {
        check_page(after, limit, filter)?;
        let before = self.before_page.lock().unwrap().clone();
        if let Some(before) = before {
            before();
        }
        let content = self.content.lock().unwrap();
        let mut rest = content
            .items
            .values()
            .filter(|item| after.is_none_or(|after| item.id > *after))
            .filter(|item| passes(filter, item));
        let items: Vec<StoredItem> = rest
            .by_ref()
            .take(limit)
            .map(|item| stored(item, with))
            .collect();
        let next = rest.next().and(items.last()).map(|last| last.id.clone());
        Ok(Page { items, next })
    }

    fn search(&self, request: &SearchRequest<'_>) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_search(request)?;
        let watch = self.around_search.lock().unwrap().clone();
        let tell = |moment| {
            if let Some(watch) = &watch {
                watch(self, request.spaces, moment);
            }
        };
        tell(Moment::Before);
        let found = self.found(request)?;
        tell(Moment::After);
        Ok(found)
    }

    fn sample(&self, space: &SpaceId, limit: usize, _: u64) -> Result<Vec<f32>, GalleryError> {
        let content = self.content.lock().unwrap();
        let items = content.items.values();
        let items = items.filter(|item| item.model_version == space.as_str());
        Ok(items
            .take(limit)
            .flat_map(|item| item.embedding.clone())
            .collect())
    }
}

impl MemoryStore {
    fn found(&self, request: &SearchRequest<'_>) -> Result<Vec<Vec<Hit>>, GalleryError> {
        let content = self.content.lock().unwrap();
        for id in request.spaces {
            if let Some(space) = content.spaces.get(id.as_str()) {
                check_dim_of_space(request, id, space.dim)?;
            }
        }
        let items = content.items.values().filter(|item| {
            let version = &item.model_version;
            request.spaces.iter().any(|id| id.as_str() == version)
        });
        Ok(best(items, request))
    }
}

impl Snapshots for MemoryStore {
    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        self.check()?;
        let content = self.content.lock().unwrap();
        let spaces: Vec<StoreSpace> = content.spaces.values().cloned().collect();
        write_snapshot(path, &spaces, content.items.len() as u64, |add| {
            content.items.values().try_for_each(add)
        })
    }

    fn restore(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        self.check()?;
        let mut restored = Content::default();
        let known = &mut restored.spaces;
        let spaces = |spaces: &[StoreSpace]| {
            let named = spaces.iter().cloned();
            known.extend(named.map(|space| (space.id.to_string(), space)));
            Ok(())
        };
        let items = &mut restored.items;
        let info = read_snapshot(path, spaces, |item| {
            items.insert(item.id.clone(), item);
            Ok(())
        })?;
        let mut content = self.content.lock().unwrap();
        restored.moves = content.moves.clone();
        for space in restored.spaces.keys() {
            restored.moves.note(space);
        }
        *content = restored;
        Ok(info)
    }
}

impl Maintenance for MemoryStore {
    fn is_shared(&self) -> bool {
        self.shared.load(Ordering::SeqCst)
    }

    fn moves(&self) -> Option<Moves> {
        let is_shared = self.is_shared();
        (!is_shared).then(|| self.content.lock().unwrap().moves.clone())
    }

    fn stats(&self) -> Result<GalleryStats, GalleryError> {
        self.check_countable()?;
        let mapped = self.mapped();
        let content = self.content.lock().unwrap();
        let mut per_version = BTreeMap::new();
        for item in content.items.values() {
            *per_version.entry(item.model_version.clone()).or_default() += 1;
        }
        Ok(GalleryStats {
            items: content.items.len() as u64,
            dim: content.dim(),
            per_version,
            index: IndexState {
                kind: IndexKind::Exact,
                state: IndexProgress::Ready,
                indexed: 0,
                backlog: 0,
            },
            bytes_per_vector: BytesPerVector::default(),
            disk: DiskUse::default(),
            partitions: Vec::new(),
            mapped,
        })
    }

    fn flush(&self) -> Result<(), GalleryError> {
        self.flushed.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn compact(&self) -> Result<Compacted, GalleryError> {
        self.check()?;
        if self.compacting.load(Ordering::SeqCst) {
            return Err(GalleryError::Compacting);
        }
        Ok(Compacted {
            items: self.items(),
            bytes_before: 9000,
            bytes_after: 4096,
        })
    }
}

#[test]
fn it_does_what_every_store_must() {
    perennial_gallery::conformance::run(&mut || Box::new(MemoryStore::default()));
    perennial_gallery::conformance::run_whole(&mut MemoryStore::default);
    perennial_gallery::conformance::run_mapped(&mut MemoryStore::default);
}
