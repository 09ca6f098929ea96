//! The interfaces of galleries, embedded or distributed: items and search; snapshots; maintenance.

use std::collections::HashMap;
use std::path::Path;

use perennial_core::SpaceId;
use serde::{Deserialize, Serialize};

use crate::error::GalleryError;
use crate::filter::Filter;
use crate::item::{Hit, Item, ItemId, StoredItem};
use crate::moves::Moves;
use crate::space::{SpaceStats, StoreSpace};
use crate::stats::{Compacted, GalleryStats, SnapshotInfo};

/// A search for the items most similar to each of some queries, among the items of some spaces.
///
/// The spaces are those that vectors of the queries' space may be compared with as they are. Which those are is not for a store to
/// decide: whoever asks has certificates for them.
#[derive(Debug, Clone, Copy)]
pub struct SearchRequest<'a> {
    /// The spaces whose items are searched, all of the queries' dimension. A space that the store does not know has no items.
    pub spaces: &'a [SpaceId],
    /// Unit vectors, `[n, dim]`, row-major.
    pub queries: &'a [f32],
    /// The length of a query.
    pub dim: usize,
    /// How many items are wanted for each query, 1 to [`MAX_LIMIT`](crate::MAX_LIMIT).
    pub limit: usize,
    /// Which items of the spaces may be found.
    pub filter: &'a Filter,
    /// Compare with every vector in full precision, whatever index there is.
    pub exact: bool,
}

/// What an upsert did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upserted {
    /// Items that are new.
    pub inserted: usize,
    /// Items that took the place of one of the same id.
    pub replaced: usize,
}

/// Another embedding for an item that was read before. Its label and payload stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Replacement {
    /// The item as it was read, with its embedding then.
    pub read: StoredItem,
    /// The name of the version that computed the new embedding.
    pub model_version: String,
    /// The new embedding.
    pub embedding: Vec<f32>,
}

/// Items in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// At most as many as asked for.
    pub items: Vec<StoredItem>,
    /// Where the next page starts (give it as `after`); `None` at the end.
    pub next: Option<ItemId>,
}

impl Replacement {
    /// What to do with it, given what is stored under its id now.
    fn compare(&self, now: Option<&StoredItem>) -> Comparison {
        match now {
            Some(now) if *now == self.read => Comparison::Unchanged,
            Some(now) if self.is_in_place(now) => Comparison::InPlace,
            _ => Comparison::Changed,
        }
    }

    /// What takes the item's place.
    pub fn item(&self) -> Item {
        Item {
            id: self.read.id.clone(),
            embedding: self.embedding.clone(),
            model_version: self.model_version.clone(),
            label: self.read.label,
            payload: self.read.payload.clone(),
        }
    }

    fn is_in_place(&self, now: &StoredItem) -> bool {
        now.id == self.read.id
            && now.embedding.as_ref() == Some(&self.embedding)
            && now.model_version == self.model_version
            && now.label == self.read.label
            && now.payload == self.read.payload
    }
}

/// Sorts replacements by what is stored now: the items to be stored, and the ids of those to be left alone.
pub fn compare_all(replacements: &[Replacement], now: &[StoredItem]) -> (Vec<Item>, Vec<ItemId>) {
    let now: HashMap<&ItemId, &StoredItem> = now.iter().map(|item| (&item.id, item)).collect();
    let (mut items, mut changed) = (Vec::with_capacity(replacements.len()), Vec::new());
    for one in replacements {
        match one.compare(now.get(&one.read.id).copied()) {
            Comparison::Unchanged => items.push(one.item()),
            Comparison::InPlace => {}
            Comparison::Changed => changed.push(one.read.id.clone()),
        }
    }
    (items, changed)
}

/// What is stored, in comparison with a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// What was read: it is to be replaced.
    Unchanged,
    /// What would take its place: nothing is to be done. So it is where a write is repeated whose confirmation was lost.
    InPlace,
    /// Something else, or nothing: it is to be left alone.
    Changed,
}

/// A durable set of unit vectors with ids, spaces, labels and payloads, searchable by similarity.
///
/// Calls block until they are done; a server makes them on threads meant for that. Every write is atomic, and durable when it
/// returns. A read sees all writes that returned before it began. `conformance` holds the tests that every store passes.
pub trait VectorStore: Send + Sync {
    /// The spaces that the store knows, in the order of their names, with their items in number: those of its items, and those that were
    /// created and have no items yet.
    ///
    /// # Errors
    /// [`GalleryError::Storage`].
    fn spaces(&self) -> Result<Vec<SpaceStats>, GalleryError>;

    /// Makes a space known before its first items. Doing it again is no error; its dimension and its simplex can change only while
    /// it has no items. An upsert creates the spaces that it needs, without a simplex.
    ///
    /// # Errors
    /// Those of [`StoreSpace::check`]; [`GalleryError::WrongDimension`], [`GalleryError::IdentityMismatch`] or
    /// [`GalleryError::IdentityDimension`] where it contradicts what is stored; or [`GalleryError::Storage`].
    fn create_space(&self, space: &StoreSpace) -> Result<(), GalleryError>;

    /// Stores items, each in the place of one of the same id if there is one, whatever its space: all of them or none.
    ///
    /// # Errors
    /// An item that is invalid or of another dimension than its space, a duplicate id, or [`GalleryError::Storage`]; nothing is stored
    /// then.
    fn upsert(&self, items: Vec<Item>) -> Result<Upserted, GalleryError>;

    /// Stores items in the place of those that nobody has changed or deleted since they were read, all of them in one step: whatever others do at
    /// the same time, in this process or, where the store is shared, in another one, is before or after it. Gives back the ids of the items that
    /// were left as they are. An item that is already what would take its place counts as replaced.
    ///
    /// # Errors
    /// Those of [`upsert`](Self::upsert).
    fn replace_unchanged(&self, items: Vec<Replacement>) -> Result<Vec<ItemId>, GalleryError>;

    /// Deletes items and says how many there were; unknown ids are no error.
    ///
    /// # Errors
    /// An invalid id, a batch too large, or [`GalleryError::Storage`]; nothing is deleted then.
    fn delete(&self, ids: &[ItemId]) -> Result<usize, GalleryError>;

    /// Deletes every item that passes the filter and says how many there were.
    ///
    /// # Errors
    /// [`GalleryError::EmptyFilter`] for a filter without condition that is not [`Filter::everything`], an invalid filter, or
    /// [`GalleryError::Storage`]; nothing is deleted then.
    fn delete_where(&self, filter: &Filter) -> Result<usize, GalleryError>;

    /// The items of these ids, in this order, without those that do not exist.
    ///
    /// # Errors
    /// An invalid id, a batch too large, or [`GalleryError::Storage`].
    fn get(&self, ids: &[ItemId], with_embeddings: bool) -> Result<Vec<StoredItem>, GalleryError>;

    /// Up to `limit` items that pass the filter, in the order of their ids, from the first one after `after`.
    ///
    /// # Errors
    /// An invalid id, limit or filter, or [`GalleryError::Storage`].
    fn scroll(
        &self,
        after: Option<&ItemId>,
        limit: usize,
        filter: &Filter,
        with_embeddings: bool,
    ) -> Result<Page, GalleryError>;

    /// The items most similar to each query, best first; equal similarities in the order of their ids. Many queries at once cost
    /// less than one after the other.
    ///
    /// **Shapes.** `[n]` for queries `[n, dim]`.
    ///
    /// # Errors
    /// An invalid query, limit or filter, a space of another dimension, [`GalleryError::BatchTooLarge`], or
    /// [`GalleryError::Storage`].
    fn search(&self, request: &SearchRequest<'_>) -> Result<Vec<Vec<Hit>>, GalleryError>;

    /// The vectors of up to `limit` different items of a space, chosen by `seed` without regard to what they are: those of all its items
    /// where there are no more. The same content and seed give the same vectors. A space that the store does not know has none.
    ///
    /// **Shapes.** `[m, dim]`, `m <= limit`.
    ///
    /// # Errors
    /// [`GalleryError::Storage`].
    fn sample(&self, space: &SpaceId, limit: usize, seed: u64) -> Result<Vec<f32>, GalleryError>;
}

/// A store that can write everything into a file of this machine, and read it back.
pub trait Snapshots {
    /// Writes everything into one file that any machine can restore, as it is at one moment, while others read and write.
    ///
    /// # Errors
    /// [`GalleryError::Storage`] or [`GalleryError::File`]; an older file at `path` then stays as it was.
    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError>;

    /// Replaces everything by the content of a snapshot, after all of it was verified.
    ///
    /// # Errors
    /// [`GalleryError::Snapshot`] or [`GalleryError::Format`] for a file that is damaged or no snapshot, or
    /// [`GalleryError::Storage`]; nothing is changed then.
    fn restore(&self, path: &Path) -> Result<SnapshotInfo, GalleryError>;
}

/// A store whose files and indexes are looked after by this process, or by the database that it lies in.
pub trait Maintenance {
    /// Whether other processes may store and delete items as well, so that what was counted is counted again from time to time.
    fn is_shared(&self) -> bool {
        false
    }

    /// Which items have moved from one space to another since the store was opened: a search that ends with the same moves as it began has seen each
    /// item in one of the spaces that it went through, even one after the other. A move is counted in the step in which it becomes visible. `None`
    /// where only others know, as in a store that is shared.
    fn moves(&self) -> Option<Moves> {
        None
    }

    /// Whether reads and writes can be answered at all, as far as this process knows without asking anyone.
    ///
    /// # Errors
    /// What keeps it from answering until it is opened again, or until a write succeeds.
    fn health(&self) -> Result<(), GalleryError> {
        Ok(())
    }

    /// Size and state.
    ///
    /// # Errors
    /// [`GalleryError::Storage`].
    fn stats(&self) -> Result<GalleryStats, GalleryError>;

    /// Waits for the writes that were accepted, and saves what makes the next start fast.
    ///
    /// # Errors
    /// [`GalleryError::Storage`], [`GalleryError::File`] or [`GalleryError::Index`].
    fn flush(&self) -> Result<(), GalleryError>;

    /// Gives the space of replaced and deleted items back to the disk, while others read and write.
    ///
    /// Needs as much free space as the items occupy. A crash at any moment leaves the gallery as it was before or as it is
    /// afterwards, with every write that was acknowledged.
    ///
    /// # Errors
    /// [`GalleryError::Compacting`] while another compaction runs, [`GalleryError::NoSpace`], [`GalleryError::ReadOnly`], or
    /// [`GalleryError::Storage`]; [`GalleryError::NotOffered`] where a database does it by itself. The gallery is unchanged then.
    fn compact(&self) -> Result<Compacted, GalleryError>;
}
