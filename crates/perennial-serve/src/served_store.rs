//! What a service needs of a store.

use perennial_gallery::{Maintenance, MappedIndexes, Snapshots, VectorStore};

/// A store that can be served: its items, its snapshots (`POST /snapshots`), its maintenance (statistics, compaction, the flush at
/// the end), and indexes of mapped vectors where it offers them. Every store that has the four traits is one: the embedded engine, or one in a
/// database.
pub trait ServedStore: VectorStore + Snapshots + Maintenance + MappedIndexes {}

impl<S: VectorStore + Snapshots + Maintenance + MappedIndexes> ServedStore for S {}
