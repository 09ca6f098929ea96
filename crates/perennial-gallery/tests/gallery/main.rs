//! The embedded gallery through its public interface.

#![allow(clippy::unwrap_used)]

mod durability;
mod fixtures;
mod graph;
mod items;
mod search;
