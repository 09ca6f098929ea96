//! PostgreSQL with pgvector: where it is, connections, names, tables with vectors, vectors on the wire, and migrations over them.
//!
//! # Where new embeddings are kept
//! In a table of their own, `TABLE_NAME` in the schema of `TABLE`, by the same key. PostgreSQL would write a new version of each row, and a new entry
//! into each of its indexes, to fill a column that is added to the table itself, the old vectors' index included; `docs/migrate.md` has
//! the measurement. So the migrated table is only ever read: it takes no lock beyond that of a `SELECT`, and needs no right but that.
//!
//! # Writes that come during a migration
//! Each copy remembers the id of the transaction that wrote the row it was made from (`xmin`). A pass over the keys of both tables finds rows that are
//! new, rows that were written since, and copies of rows that are gone. No trigger is needed, and no vector is read for it. Any update
//! of a row counts as a change, also one that left its vector alone: its copy is then made again.
//!
//! # Progress
//! It is a row of the table `perennial_migrations` in the same schema, written by the transaction that writes the batch. A process that is
//! killed loses what it has not written, and the next run continues after the last batch that is there. A server that crashes may lose the last
//! of these transactions as well, each as a whole: those of a pass do not wait for its disk, except the last one.

mod address;
mod connection;
mod copy_index;
mod copying;
mod engine;
mod export_place;
mod identifier;
mod key_text;
mod looking;
mod partition_sizes;
mod row_reader;
mod rows;
mod searching;
mod session;
mod showing;
mod state;
mod survey;
mod table;
#[cfg(feature = "tls")]
mod tls;
mod vector_type;
mod view;
mod wire;
mod write;

pub(crate) use address::PostgresAddress;
pub(crate) use connection::{cancel, connect};
pub(crate) use engine::Postgres;
pub(crate) use identifier::{literal, quote};
pub(crate) use vector_type::VectorType;
pub(crate) use wire::{Raw, VectorValue, read_vector};
