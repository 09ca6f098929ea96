#![doc = include_str!("../README.md")]
//! # What is here
//!
//! `migrate` (feature `pgvector`) brings an index in PostgreSQL with [pgvector](https://github.com/pgvector/pgvector) to a new encoder
//! without touching what is there: rows are exported, planned for, copied beside the old vectors, verified, switched to, and taken back.
//!
//! `store` (feature `pgvector`) is a gallery in such a database: everything that a gallery in a folder does, for one service or several.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "pgvector")]
mod error;
#[cfg(feature = "pgvector")]
pub mod migrate;
#[cfg(feature = "pgvector")]
mod observer;
#[cfg(feature = "pgvector")]
mod postgres;
#[cfg(feature = "pgvector")]
pub mod store;

#[cfg(feature = "pgvector")]
pub use error::ConnectError;
#[cfg(feature = "pgvector")]
pub use observer::{Observer, Silent};
#[cfg(feature = "pgvector")]
pub use postgres::{Address, QualifiedName};
#[cfg(feature = "pgvector")]
pub use store::{PostgresStore, StoreOptions};
