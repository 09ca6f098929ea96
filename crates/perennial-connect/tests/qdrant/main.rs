//! Migrations and galleries in Qdrant: against a server of the tests' own, which speaks its REST interface and can be made to fail, or against a real cluster, whose address is in
//! `PERENNIAL_QDRANT` (`tests/qdrant.sh`). Tests that need faults, or a look inside the server, then say so and pass.

#![allow(clippy::unwrap_used)]

mod cluster;
mod double;
mod exports;
mod faults;
mod files;
#[path = "../shared/items.rs"]
mod items;
#[path = "../shared/killed_writer.rs"]
mod killed_writer;
mod kills;
mod late_writes;
#[path = "../shared/observers.rs"]
mod observers;
mod plans;
mod rankings;
mod rates;
mod refusals;
mod resumed;
mod secrets;
mod spaces;
mod store;
mod strict;
mod switching;
mod verification;
mod whole;
