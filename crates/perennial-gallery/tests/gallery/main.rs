//! The embedded gallery through its public interface.

#![allow(clippy::unwrap_used)]

mod compaction;
mod durability;
mod filters;
mod fixtures;
#[cfg(feature = "hnsw")]
mod graph;
mod items;
mod kills;
#[cfg(not(feature = "hnsw"))]
mod no_graph;
mod old_format;
mod partitions;
mod read_only;
mod search;
