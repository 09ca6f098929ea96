#![doc = include_str!("../README.md")]
//! # What is here
//!
//! `migrate` brings an index in PostgreSQL with [pgvector](https://github.com/pgvector/pgvector) (feature `pgvector`) or in
//! [Qdrant](https://qdrant.tech) (feature `qdrant`) to a new encoder without touching what is there: rows are exported, planned for, copied beside
//! the old vectors, verified, switched to, and taken back.
//!
//! `store` (feature `pgvector`) is a gallery in such a database: everything that a gallery in a folder does, for one service or several.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod address;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod engine;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod error;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub mod migrate;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod observer;
#[cfg(feature = "pgvector")]
mod postgres;
#[cfg(feature = "qdrant")]
mod qdrant;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
mod qualified_name;
#[cfg(feature = "pgvector")]
pub mod store;

#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub use address::Address;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub use error::ConnectError;
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub use observer::{Observer, Silent};
#[cfg(any(feature = "pgvector", feature = "qdrant"))]
pub use qualified_name::QualifiedName;
#[cfg(feature = "pgvector")]
pub use store::{PostgresStore, StoreOptions};
