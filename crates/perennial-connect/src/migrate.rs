//! An index that others own moves to a new encoder, in the order of how little it touches.
//!
//! - [`export()`]: rows of the index to a file of vectors, for `advise`, `certify` and `bridge fit`. Reads only.
//! - [`plan()`]: counts, dimensions, indexes, disk and time. Reads only, but for a temporary table that measures the rate of writing.
//! - [`run()`]: new embeddings beside the old ones: mapped by a bridge where a certificate allows it ([`Source::Mapped`]), or from files of
//!   re-embedded items ([`Source::File`]).
//! - [`verify()`]: counts, a sample computed again, and the recall of the new index against exact search.
//! - [`switch()`]: a view shows the new vectors, or the old ones again, in one transaction. [`clean()`]: everything of a migration is removed.
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
//! killed, or a server that restarts, loses the open batch only, and the next run continues after the last one.

mod batch;
mod clean;
mod copy_index;
mod export;
mod id;
mod mapping;
mod opened;
mod pace;
mod pass;
mod plan;
mod rate_probe;
mod recall;
mod run;
mod run_file;
mod run_mapped;
mod run_request;
mod session;
mod standing;
mod state;
mod switch;
mod verify;
mod view;
mod write;

pub use batch::Skipped;
pub use clean::{CleanReport, clean};
pub use export::{ExportReport, ExportRequest, Rows, export};
pub use plan::{PlanReport, PlanRequest, plan};
pub use rate_probe::MeasuredRates;
pub use run::{RunReport, run};
pub use run_request::{RunRequest, Source};
pub use standing::Standing;
pub use switch::{SwitchReport, SwitchRequest, switch};
pub use verify::{VerifyReport, VerifyRequest, verify};
