#![doc = include_str!("../README.md")]
//! # What is here
//!
//! `migrate` brings an index in PostgreSQL with [pgvector](https://github.com/pgvector/pgvector) (feature `pgvector`) or in
//! [Qdrant](https://qdrant.tech) (feature `qdrant`) to a new encoder without touching what is there: rows are exported, planned for, copied beside
//! the old vectors, verified, switched to, and taken back.
//!
//! `store` (feature `pgvector`) and `cluster_store` (feature `qdrant`) are galleries in such a database: everything that a gallery in a folder does, for one
//! service or several.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod address;
#[cfg(feature = "qdrant")]
pub mod cluster_store;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod engine;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod error;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod failure;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub mod migrate;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod observer;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod pairs;
#[cfg(feature = "pgvector")]
mod postgres;
#[cfg(feature = "qdrant")]
mod qdrant;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod qualified_name;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod snapshot_file;
#[cfg(feature = "pgvector")]
pub mod store;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod store_options;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod turns;

#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub use address::Address;
#[cfg(feature = "qdrant")]
pub use cluster_store::QdrantStore;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub use error::ConnectError;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub use observer::{Observer, Silent, StopSignal};
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub use qualified_name::QualifiedName;
#[cfg(feature = "pgvector")]
pub use store::PostgresStore;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub use store_options::StoreOptions;
