//! Migrations, and galleries, in a real PostgreSQL with pgvector, whose URL is in `PERENNIAL_POSTGRES` (`tests/postgres.sh start FOLDER` prints one).
//! Without it, the tests say so and pass.

#![allow(clippy::unwrap_used)]

mod database;
mod exports;
mod faults;
mod files;
#[path = "../shared/items.rs"]
mod items;
mod keys;
#[path = "../shared/killed_writer.rs"]
mod killed_writer;
mod kills;
mod late_writes;
#[path = "../shared/observers.rs"]
mod observers;
mod rankings;
mod rates;
mod refusals;
mod resumed;
mod spaces;
mod store;
mod switching;
mod verification;
