//! An index that others own moves to a new encoder, in the order of how little it touches.
//!
//! - [`export()`]: rows of the index to a file of vectors, for `advise`, `certify` and `bridge fit`. Reads only.
//! - [`sample()`]: the same rows in memory, for measurements straight from the database. Reads only.
//! - [`plan()`]: counts, dimensions, indexes, disk and time. Reads only; PostgreSQL measures the rate of writing on a temporary table.
//! - [`run()`]: new embeddings beside the old ones: mapped by a bridge where a certificate allows it ([`Source::Mapped`]), or from files of
//!   re-embedded items ([`Source::File`]).
//! - [`rankings()`]: what the database answers to the owner's queries, by each way that it can be searched. Reads only.
//! - [`verify()`]: counts, a sample computed again, and the recall of the new index against exact search.
//! - [`switch()`]: programs see the new vectors, or the old ones again: by a view in PostgreSQL, by an alias in Qdrant. [`clean()`]: everything
//!   of a migration is removed.
//!
//! The steps are the same for every database. Where copies are kept, how a row that was written meanwhile is found and where progress is noted
//! differ, and are described in the module of the database.

mod clean;
mod compare;
mod dispatch;
mod export;
mod mapping;
mod partial;
mod pass;
mod plan;
mod rankings;
mod rate_probe;
mod recall;
mod run;
mod run_file;
mod run_mapped;
mod run_request;
mod sample;
mod switch;
mod verify;

pub use clean::{CleanReport, clean};
pub use export::{ExportReport, ExportRequest, export};
pub use plan::{PlanReport, PlanRequest, plan};
pub use rankings::{IndexHit, Queries, Ranking, Rankings, RankingsRequest, SearchWay, rankings};
pub use rate_probe::MeasuredRates;
pub use run::{RunReport, run};
pub use run_request::{RunRequest, Source};
pub use sample::{Sample, SampleRequest, sample};
pub use switch::{SwitchReport, SwitchRequest, switch};
pub use verify::{VerifyReport, VerifyRequest, verify};

pub use crate::engine::{IndexFacts, Rows, Skipped, Standing};
