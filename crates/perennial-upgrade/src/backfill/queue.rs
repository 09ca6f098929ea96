//! Which items are embedded again next.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use perennial_gallery::{Filter, GalleryError, ItemId, MAX_LIMIT, StoredItem, VectorStore};

use super::order::Order;
use super::retrievals::Retrievals;

/// A walk over the items of some spaces. It holds no more than a page of ids: what is left is what the gallery holds.
#[derive(Debug)]
pub struct Queue {
    order: Order,
    /// The worst served first.
    spaces: Vec<String>,
    space: usize,
    after: Option<ItemId>,
    page: VecDeque<ItemId>,
    /// Whether this walk handed out an item. One that is still there after it, for whatever reason, gets its turn in the next walk.
    handed_out: bool,
}

impl Queue {
    /// A walk from the beginning. `spaces` are those to be emptied, the worst served first.
    pub fn new(order: Order, spaces: Vec<String>) -> Self {
        Self {
            order,
            spaces,
            space: 0,
            after: None,
            page: VecDeque::new(),
            handed_out: false,
        }
    }

    /// The spaces that are to be emptied, the worst served first.
    pub fn spaces(&self) -> &[String] {
        &self.spaces
    }

    /// Up to `limit` items with their embeddings; none once nothing is left but what `skip` leaves out. What searches found since the last
    /// call comes first; the counts are locked only to be looked at, and not while the gallery is read.
    ///
    /// # Errors
    /// Those of the gallery.
    pub fn next(
        &mut self,
        store: &dyn VectorStore,
        retrievals: &Mutex<Retrievals>,
        limit: usize,
        skip: &dyn Fn(&StoredItem) -> bool,
    ) -> Result<Vec<StoredItem>, GalleryError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let mut found = self.retrieved(store, retrievals, limit, skip)?;
        let mut taken: BTreeSet<ItemId> = found.iter().map(|item| item.id.clone()).collect();
        while found.len() < limit {
            if self.page.is_empty() && !self.turn_page(store)? {
                break;
            }
            let ids: Vec<ItemId> = self
                .page
                .drain(..self.page.len().min(limit - found.len()))
                .filter(|id| taken.insert(id.clone()))
                .collect();
            found.extend(self.waiting(store, &ids, skip)?);
        }
        self.handed_out |= !found.is_empty();
        Ok(found)
    }

    /// Items that searches found. Ids whose items are not to be embedded again are forgotten, so that they are looked up once.
    fn retrieved(
        &self,
        store: &dyn VectorStore,
        retrievals: &Mutex<Retrievals>,
        limit: usize,
        skip: &dyn Fn(&StoredItem) -> bool,
    ) -> Result<Vec<StoredItem>, GalleryError> {
        let rank = |space: &str| self.spaces.iter().position(|name| name == space);
        let counts = || retrievals.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let ids = counts().first(self.order, &rank, limit);
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            let found = self.waiting(store, &ids, skip)?;
            {
                let mut counts = counts();
                ids.iter()
                    .filter(|id| found.iter().all(|item| item.id != **id))
                    .for_each(|id| counts.forget(id));
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }

    fn waiting(
        &self,
        store: &dyn VectorStore,
        ids: &[ItemId],
        skip: &dyn Fn(&StoredItem) -> bool,
    ) -> Result<Vec<StoredItem>, GalleryError> {
        let mut items = store.get(ids, true)?;
        items.retain(|item| self.spaces.contains(&item.model_version) && !skip(item));
        Ok(items)
    }

    /// Reads the next page of ids; false where the walk is over and nothing was handed out in it.
    fn turn_page(&mut self, store: &dyn VectorStore) -> Result<bool, GalleryError> {
        loop {
            let among = match self.order {
                Order::Id if self.space == 0 => self.spaces.clone(),
                Order::Id => Vec::new(),
                Order::Retrieved | Order::WorstServed => {
                    self.spaces.get(self.space).cloned().into_iter().collect()
                }
            };
            if among.is_empty() {
                if !self.handed_out {
                    return Ok(false);
                }
                *self = Self::new(self.order, std::mem::take(&mut self.spaces));
                continue;
            }
            let filter = Filter {
                model_versions: Some(among),
                ..Filter::default()
            };
            let page = store.scroll(self.after.as_ref(), MAX_LIMIT, &filter, false)?;
            self.page = page.items.into_iter().map(|item| item.id).collect();
            self.after = page.next;
            if self.after.is_none() {
                self.space += 1;
            }
            if !self.page.is_empty() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use perennial_gallery::{EmbeddedGallery, GalleryConfig, Item};
    use serde_json::Map;

    use super::*;

    fn gallery(folder: &std::path::Path, items: &[(u64, &str)]) -> EmbeddedGallery {
        let gallery = EmbeddedGallery::open(folder, GalleryConfig::default()).unwrap();
        let items = items.iter().map(|&(id, space)| Item {
            id: id.into(),
            embedding: vec![1.0, 0.0],
            model_version: space.to_owned(),
            label: None,
            payload: Map::new(),
        });
        gallery.upsert(items.collect()).unwrap();
        gallery
    }

    fn ids(items: &[StoredItem]) -> Vec<String> {
        items.iter().map(|item| item.id.to_string()).collect()
    }

    #[test]
    fn retrieved_items_come_before_the_worst_spaces_and_no_item_twice() {
        let folder = tempfile::tempdir().unwrap();
        let store = gallery(
            folder.path(),
            &[
                (1, "b"),
                (2, "a"),
                (3, "b"),
                (4, "live"),
                (5, "a"),
                (6, "b"),
            ],
        );
        let spaces = || vec!["a".to_owned(), "b".to_owned()];
        let retrievals = Mutex::new(Retrievals::default());
        let note = |id: u64, space: &str| {
            retrievals.lock().unwrap().note(&id.into(), space, None);
        };
        // Found, but live or deleted by now.
        note(4, "a");
        note(99, "a");
        for _ in 0..2 {
            note(6, "b");
        }
        // Searches count what they find while the gallery is read.
        let keep = |_: &StoredItem| retrievals.try_lock().is_err();
        let mut queue = Queue::new(Order::Retrieved, spaces());
        let first = queue.next(&store, &retrievals, 4, &keep).unwrap();
        assert_eq!(ids(&first), ["6", "2", "5", "1"]);
        assert!(first.iter().all(|item| item.embedding.is_some()));
        assert_eq!(retrievals.lock().unwrap().len(), 1);

        let mut queue = Queue::new(Order::Id, spaces());
        let all = queue.next(&store, &retrievals, 10, &keep).unwrap();
        assert_eq!(ids(&all), ["1", "2", "3", "5", "6"]);
    }

    #[test]
    fn it_ends_when_only_what_is_skipped_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = gallery(folder.path(), &[(1, "a"), (2, "a"), (3, "a")]);
        let retrievals = Mutex::new(Retrievals::default());
        let skip = |item: &StoredItem| item.id == 2.into();
        let mut queue = Queue::new(Order::Retrieved, vec!["a".to_owned()]);
        let mut next = |skip: &dyn Fn(&StoredItem) -> bool| {
            ids(&queue.next(&store, &retrievals, 1, skip).unwrap())
        };
        assert_eq!(next(&skip), ["1"]);
        assert_eq!(next(&skip), ["3"]);
        // Nobody embedded them again, so the walk begins anew.
        assert_eq!(next(&skip), ["1"]);
        store.delete(&[1.into(), 3.into()]).unwrap();
        assert!(next(&skip).is_empty());
        assert!(next(&skip).is_empty());
    }
}
