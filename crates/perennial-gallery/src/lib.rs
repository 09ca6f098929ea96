#![doc = include_str!("../README.md")]
//! # What is here
//!
//! - [`VectorStore`]: items and searches, the few operations that an embedded engine and a cluster both offer. [`Snapshots`] and
//!   [`Maintenance`] are for stores with files of this machine.
//! - [`EmbeddedGallery`]: the engine for one machine. A transactional file is the source of truth; all search structures are
//!   derived from it and can be rebuilt.
//! - [`MappedIndexes`]: items searched by vectors that a map gives, kept in memory beside those that are stored.
//! - For other engines: [`request_checks`] is what every store refuses, [`exchange`] reads and writes snapshots, [`id_key`] has ids whose bytes
//!   sort as ids do, and `conformance` (a feature) holds the tests that every store passes.
//! - [`Filter`]: by model version, label, payload and id, for searches, pages and deletions.
//!
//! No async and no HTTP here; calls block.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bounded_json;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod error;
pub mod exchange;
pub mod filter;
pub mod id_key;
pub mod item;
pub mod limits;
pub mod mapped_index;
pub mod moves;
mod payload;
pub mod request_checks;
mod snapshot;
pub mod space;
pub mod stats;
pub mod store;

pub use embedded::{EmbeddedGallery, GalleryConfig, HnswConfig, SearchMode};
pub use error::GalleryError;
pub use filter::{Filter, LabelFilter};
pub use item::{Hit, Item, ItemId, SimplexIdentity, StoredItem};
pub use limits::MAX_LIMIT;
pub use mapped_index::{MappedIndex, MappedIndexes, VectorMap};
pub use moves::Moves;
pub use snapshot::FILE_KIND as SNAPSHOT_FILE_KIND;
pub use space::{SpaceStats, StoreSpace};
pub use stats::{
    BytesPerVector, Compacted, DiskUse, GalleryStats, IndexKind, IndexProgress, IndexState,
    MappedIndexStats, PartitionStats, SnapshotInfo,
};
pub use store::{
    Maintenance, Page, Replacement, SearchRequest, Snapshots, Upserted, VectorStore, compare_all,
};
