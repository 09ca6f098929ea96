//! New embeddings beside the old ones: resumable, repeatable, below a rate.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::batch::Skipped;
use super::copy_index;
use super::pace::Pace;
use super::pass::{Passes, remove_gone};
use super::run_file::run_file;
use super::run_mapped::run_mapped;
use super::run_request::{Done, RunRequest, Source};
use super::session::{Session, lock};
use super::standing::Standing;
use super::state::{Migration, Origin};
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::postgres::{Address, Target, VectorTable, check_identifier, wait};

/// How long a run tries to reach a server that is gone, counted from the last batch.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What a run did, and how the copies stand after it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// The table of the copies.
    pub copies: String,
    /// Dimensions of a copy.
    pub dim: usize,
    /// Copies that this run wrote.
    pub written: u64,
    /// Of those, copies of rows that came or changed after their turn.
    pub late: u64,
    /// Copies that were removed because their row, or its vector, is gone.
    pub removed: u64,
    /// Rows with a vector of which no copy can be made.
    pub skipped: Skipped,
    /// Rows of the file whose id is not in the table.
    pub unknown_ids: u64,
    /// Seconds of copying.
    pub seconds: f64,
    /// Copies per second.
    pub rows_per_second: f64,
    /// Seconds that the index took, if this run built it.
    pub index_seconds: Option<f64>,
    /// Rows and copies after the run.
    pub standing: Standing,
}

/// Writes new embeddings beside the old ones. Run again, it continues, and afterwards catches up with what was written since.
///
/// The migrated table is only read. A server that goes away is tried again for five minutes.
///
/// # Errors
/// [`ConnectError`]: what is written by then stays, and the next run continues there.
pub fn run(
    address: &Address,
    request: &RunRequest<'_>,
    observer: &mut dyn Observer,
) -> Result<RunReport, ConnectError> {
    check_identifier("the name of the migration", &request.name)?;
    let pace = Pace::new(request.rate)?;
    wait(async {
        let mut done = Done::default();
        let mut trouble: Option<(Instant, u64)> = None;
        let mut pause = Duration::from_millis(500);
        loop {
            let error = match attempt(address, request, observer, &mut done).await {
                Err(error) if error.may_pass() => error,
                result => return result,
            };
            match trouble {
                Some((since, written)) if written == done.written => {
                    if since.elapsed() > PATIENCE {
                        return Err(error);
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                // An address that was never reached is likely to be wrong.
                None if !done.reached => return Err(error),
                // The first trouble, or the first after more was written.
                _ => {
                    trouble = Some((Instant::now(), done.written));
                    pause = Duration::from_millis(500);
                }
            }
            observer.note(&format!(
                "{error}; trying again in {:.1} s",
                pause.as_secs_f64()
            ));
            pace.rest(pause, observer).await?;
        }
    })
}

async fn attempt(
    address: &Address,
    request: &RunRequest<'_>,
    observer: &mut dyn Observer,
    done: &mut Done,
) -> Result<RunReport, ConnectError> {
    let mut session = Session::open(address).await?;
    let target = Target {
        table: &request.table,
        key: &request.key,
        vector: &request.vector,
    };
    let table = VectorTable::find(&session.reader, target).await?;
    done.reached = true;
    lock(&session.writer, &table, &request.name).await?;
    let migration = begun(&mut session, &table, request).await?;
    match &request.source {
        Source::Mapped { bridge, .. } => {
            let passes = Passes {
                table: &table,
                migration: &migration,
                bridge,
                rate: request.rate,
            };
            run_mapped(&mut session, &passes, observer, done).await?;
        }
        Source::File(path) => {
            run_file(
                &mut session,
                &table,
                &migration,
                path,
                request.rate,
                observer,
                done,
            )
            .await?;
            done.removed += remove_gone(&session, &table, &migration, observer).await?;
        }
    }
    let index_seconds = match request.index {
        true => copy_index::build(&mut session.writer, &table, &migration, observer).await?,
        false => None,
    };
    session
        .writer
        .batch_execute(&format!("ANALYZE {}", migration.copies.sql()))
        .await?;
    Ok(RunReport {
        copies: migration.copies.to_string(),
        dim: migration.dim,
        written: done.written,
        late: done.late,
        removed: done.removed,
        skipped: done.skipped,
        unknown_ids: done.unknown,
        seconds: done.seconds,
        rows_per_second: done.written as f64 / done.seconds.max(1e-9),
        index_seconds,
        standing: Standing::of(&session.reader, &table, &migration).await?,
    })
}

/// The migration as the database has it, made if it is new.
async fn begun(
    session: &mut Session,
    table: &VectorTable,
    request: &RunRequest<'_>,
) -> Result<Migration, ConnectError> {
    let (origin, dim) = match &request.source {
        Source::Mapped { bridge, permission } => {
            if let Some(dim) = table.dim
                && dim != bridge.from().dim
            {
                return Err(ConnectError::Usage(format!(
                    "the bridge takes vectors of {} dimensions, and column {} of {} holds {dim}; mapped copies need a bridge from the old space to the new one",
                    bridge.from().dim,
                    request.vector,
                    request.table
                )));
            }
            let origin = Origin::Bridge {
                bridge: bridge.sha256(),
                certificate: permission.certificate.clone(),
            };
            (origin, bridge.to().dim)
        }
        Source::File(path) => (Origin::Files, perennial_formats::open(path)?.header().dim),
    };
    let find = Migration::find(&session.writer, &table.schema, &table.name, &request.name);
    if let Some(found) = find.await? {
        return same(found, &origin, request);
    }
    Migration::begin(&mut session.writer, table, &request.name, dim, &origin).await?;
    let find = Migration::find(&session.writer, &table.schema, &table.name, &request.name);
    find.await?.ok_or_else(|| {
        ConnectError::State(format!(
            "migration {} of {} is gone; somebody cleaned it while it ran",
            request.name, request.table
        ))
    })
}

/// Refuses to continue a migration with something else.
fn same(
    found: Migration,
    origin: &Origin,
    request: &RunRequest<'_>,
) -> Result<Migration, ConnectError> {
    let other = |what: &str| {
        Err(ConnectError::State(format!(
            "migration {} of {} was begun with {what}; choose another --name, or remove it with `migrate clean`",
            found.name, request.table
        )))
    };
    if (&found.key, &found.vector) != (&request.key, &request.vector) {
        return other(&format!("key {} and vectors {}", found.key, found.vector));
    }
    match (&found.origin, origin) {
        (Origin::Files, Origin::Files) => Ok(found),
        (Origin::Bridge { bridge: was, .. }, Origin::Bridge { bridge, .. }) if was == bridge => {
            Ok(found)
        }
        (Origin::Bridge { bridge: was, .. }, _) => other(&format!("the bridge {was}")),
        (Origin::Files, _) => other("files of new embeddings"),
    }
}
