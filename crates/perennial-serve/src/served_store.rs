//! What a service needs of a store.

use perennial_gallery::{Maintenance, Snapshots, VectorStore};

/// A store that can be served: its items, its snapshots (`POST /snapshots`), and its maintenance (statistics, compaction, the flush at
/// the end). Every store that has the three traits is one: the embedded engine, or one in a database.
pub trait ServedStore: VectorStore + Snapshots + Maintenance {}

impl<S: VectorStore + Snapshots + Maintenance> ServedStore for S {}
