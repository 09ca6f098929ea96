//! The gallery: unit vectors with ids, model versions, labels and payloads, durable and searchable by similarity.
//!
//! - [`VectorStore`]: the few operations that an embedded engine and a cluster both offer.
//! - [`EmbeddedGallery`]: the engine for one machine. A transactional file is the source of truth; all search structures are
//!   derived from it and can be rebuilt.
//! - [`Filter`]: by model version, label, payload and id, for searches, pages and deletions.
//!
//! No async and no HTTP here; calls block.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bounded_json;
pub mod embedded;
pub mod error;
pub mod filter;
pub mod item;
mod payload;
mod snapshot;
pub mod store;

pub use embedded::{EmbeddedGallery, GalleryConfig, HnswConfig, SearchMode};
pub use error::GalleryError;
pub use filter::{Filter, LabelFilter};
pub use item::{Hit, Item, ItemId, SimplexIdentity, StoredItem};
pub use snapshot::FILE_KIND as SNAPSHOT_FILE_KIND;
pub use store::{
    BytesPerVector, Compacted, DiskUse, GalleryStats, IndexKind, IndexProgress, IndexState,
    MAX_LIMIT, Page, SearchRequest, SnapshotInfo, Upserted, VectorStore,
};
