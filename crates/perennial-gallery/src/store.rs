//! The interface of every gallery, embedded or distributed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::GalleryError;
use crate::filter::Filter;
use crate::item::{Hit, Item, ItemId, SimplexIdentity, StoredItem};

/// The most hits of one search and the most items of one page.
pub const MAX_LIMIT: usize = 1000;

/// A search for the items most similar to one embedding.
#[derive(Debug, Clone, Copy)]
pub struct SearchRequest<'a> {
    /// A unit vector, `[dim]`.
    pub embedding: &'a [f32],
    /// How many items are wanted, 1 to [`MAX_LIMIT`].
    pub limit: usize,
    /// Which items may be found.
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

/// Items in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// At most as many as asked for.
    pub items: Vec<StoredItem>,
    /// Where the next page starts (give it as `after`); `None` at the end.
    pub next: Option<ItemId>,
}

/// The size and the state of a gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryStats {
    /// Items stored.
    pub items: u64,
    /// The dimension of the vectors, once there is one.
    pub dim: Option<usize>,
    /// Items by the model version that embedded them; versions without items are absent.
    pub per_version: BTreeMap<String, u64>,
    /// The index that answers searches now.
    pub index: IndexState,
    /// Memory and disk space per vector, on average.
    pub bytes_per_vector: BytesPerVector,
    /// What the gallery occupies on the disk.
    pub disk: DiskUse,
}

/// How searches are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexState {
    /// The kind of search.
    pub kind: IndexKind,
    /// Whether the index covers all items.
    pub state: IndexProgress,
    /// Items that an approximate index covers; the others are compared one by one.
    pub indexed: u64,
    /// Items that an approximate index is still to take in; 0 without one.
    pub backlog: u64,
}

/// Space on the disk, in bytes, of the file that holds the items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// Size of the file.
    pub bytes: u64,
    /// How much smaller [`VectorStore::compact`] would make it, estimated: space of items that were replaced or deleted, and
    /// room that was taken ahead of need. New items fill it again.
    pub reclaimable_bytes: u64,
}

impl DiskUse {
    /// The least space that makes a compaction worthwhile.
    const WORTHWHILE_BYTES: u64 = 16 << 20;

    /// Whether compaction would free at least 16 MiB and a third of the file.
    pub fn is_wasteful(&self) -> bool {
        self.reclaimable_bytes >= Self::WORTHWHILE_BYTES.max(self.bytes / 3)
    }
}

/// A compaction that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Items in the gallery.
    pub items: u64,
    /// Size of the file before, in bytes.
    pub bytes_before: u64,
    /// Its size now.
    pub bytes_after: u64,
}

/// The kinds of search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    /// Every vector in f32.
    Exact,
    /// int8 scan of every vector, with undecided candidates re-scored in f32.
    Int8,
    /// Approximate search in a neighbour graph, with the best candidates re-scored in f32.
    Hnsw,
}

/// How far an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexProgress {
    /// It covers all items.
    Ready,
    /// It is being built or brought up to date; searches are complete meanwhile, only slower.
    Building,
}

/// What one vector costs, in bytes, everything but its payload included; 0 while the gallery is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BytesPerVector {
    /// In memory.
    pub memory: f64,
    /// On disk, payloads and free pages included.
    pub disk: f64,
}

/// A snapshot that was written or restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Items in it.
    pub items: u64,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the whole file, in hexadecimal digits.
    pub sha256: String,
}

/// A durable set of unit vectors with ids, model versions, labels and payloads, searchable by similarity.
///
/// Calls block until they are done; a server makes them on threads meant for that. Every write is atomic, and durable when it
/// returns. A read sees all writes that returned before it began.
pub trait VectorStore: Send + Sync {
    /// Stores items, each in the place of one of the same id if there is one: all of them or none.
    ///
    /// # Errors
    /// An item that is invalid or of another dimension, a duplicate id, or [`GalleryError::Storage`]; nothing is stored then.
    fn upsert(&self, items: Vec<Item>) -> Result<Upserted, GalleryError>;

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

    /// The items most similar to an embedding, best first; equal similarities in the order of their ids.
    ///
    /// # Errors
    /// An invalid embedding, limit or filter, or [`GalleryError::Storage`].
    fn search(&self, request: &SearchRequest<'_>) -> Result<Vec<Hit>, GalleryError>;

    /// Like [`search`](Self::search) for several queries at once, which costs less than one after the other.
    ///
    /// **Shapes.** `embeddings` `[n, dim]`, row-major; the result is `[n]`. The dimension is the gallery's; while it is empty,
    /// the result is `[0]`, because the number of queries cannot be known.
    ///
    /// # Errors
    /// Those of [`search`](Self::search), and [`GalleryError::BatchTooLarge`].
    fn search_batch(
        &self,
        embeddings: &[f32],
        limit: usize,
        filter: &Filter,
        exact: bool,
    ) -> Result<Vec<Vec<Hit>>, GalleryError>;

    /// Size and state.
    ///
    /// # Errors
    /// [`GalleryError::Storage`].
    fn count(&self) -> Result<GalleryStats, GalleryError>;

    /// The simplex that the embeddings belong to, once it was set.
    ///
    /// # Errors
    /// [`GalleryError::Storage`].
    fn identity(&self) -> Result<Option<SimplexIdentity>, GalleryError>;

    /// Stores the simplex that the embeddings belong to. Setting it again is no error; it can change only while the gallery
    /// is empty.
    ///
    /// # Errors
    /// [`GalleryError::IdentityMismatch`] and [`GalleryError::IdentityDimension`] where it contradicts what is stored,
    /// [`GalleryError::InvalidIdentity`], or [`GalleryError::Storage`].
    fn set_identity(&self, identity: SimplexIdentity) -> Result<(), GalleryError>;

    /// Waits for the writes that were accepted, and saves what makes the next start fast.
    ///
    /// # Errors
    /// [`GalleryError::Storage`], [`GalleryError::File`] or [`GalleryError::Index`].
    fn flush(&self) -> Result<(), GalleryError>;

    /// Writes everything into one file that any machine can restore, as it is at one moment, while others read and write.
    ///
    /// # Errors
    /// [`GalleryError::Storage`] or [`GalleryError::File`]; an older file at `path` then stays as it was.
    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError>;

    /// Gives the space of replaced and deleted items back to the disk, while others read and write.
    ///
    /// Needs as much free space as the items occupy. A crash at any moment leaves the gallery as it was before or as it is
    /// afterwards, with every write that was acknowledged.
    ///
    /// # Errors
    /// [`GalleryError::Compacting`] while another compaction runs, [`GalleryError::NoSpace`], [`GalleryError::ReadOnly`], or
    /// [`GalleryError::Storage`]; the gallery is unchanged then.
    fn compact(&self) -> Result<Compacted, GalleryError>;

    /// Replaces everything by the content of a snapshot, after all of it was verified.
    ///
    /// # Errors
    /// [`GalleryError::Snapshot`] or [`GalleryError::Format`] for a file that is damaged or no snapshot, or
    /// [`GalleryError::Storage`]; nothing is changed then.
    fn restore(&self, path: &Path) -> Result<SnapshotInfo, GalleryError>;
}
