//! The embedded gallery through its public interface.

#![allow(clippy::unwrap_used)]

mod compaction;
mod durability;
mod filters;
mod fixtures;
mod graph;
mod items;
mod kills;
mod old_format;
mod partitions;
mod read_only;
mod search;
