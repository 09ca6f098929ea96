//! The commands, one module each.

pub mod advise;
pub mod bench;
pub mod bridge;
pub mod certify;
pub mod compare;
pub mod completions;
pub mod data;
pub mod demo;
pub mod embed;
pub mod evaluate;
pub mod fit_head;
pub mod gallery;
pub mod man;
pub mod metrics;
#[cfg_attr(
    not(any(feature = "pgvector", feature = "qdrant")),
    path = "commands/migrate/no_database.rs"
)]
pub mod migrate;
pub mod models;
pub mod pretrain;
pub mod serve;
pub mod slots;
pub mod spaces;
pub mod train;
