//! New embeddings beside the old ones: resumable, repeatable, below a rate.

use std::sync::Arc;

use serde::Serialize;

use super::dispatch::dispatch;
use super::pass::Passes;
use super::run_file::run_file;
use super::run_mapped::run_mapped;
use super::run_request::{Done, RunRequest, Source};
use crate::address::Address;
use crate::engine::{
    Access, Copying, Migration, Origin, PATIENCE, Pace, Patience, Showing, Skipped, Standing,
    Target, batch_rows, required,
};
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::qualified_name::check_identifier;

/// What a run did, and how the copies stand after it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunReport {
    /// Where the copies are.
    pub copies: String,
    /// Dimensions of a copy.
    pub dim: usize,
    /// Copies that this run wrote. What a crash of the server undid and was written again counts twice.
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
/// What is migrated is only read. A server that goes away is tried again for five minutes.
///
/// # Errors
/// [`ConnectError`]: what is written by then stays, and the next run continues there.
pub fn run(
    address: &Address,
    request: &RunRequest<'_>,
    observer: &mut dyn Observer,
) -> Result<RunReport, ConnectError> {
    check_identifier("the name of the migration", &request.name)?;
    dispatch!(address, run_in(request, observer))
}

async fn run_in<E: Copying + Showing>(
    address: &E::Address,
    request: &RunRequest<'_>,
    observer: &mut dyn Observer,
) -> Result<RunReport, ConnectError> {
    Pace::new(request.rate)?;
    let mut done = Done::default();
    let mut patience = Patience::default();
    let mut written = 0;
    loop {
        let error = match attempt::<E>(address, request, observer, &mut done).await {
            Err(error) if error.may_pass() => error,
            // The lock of the session that broke off is free once the server has noticed.
            Err(error @ ConnectError::Busy(_)) if patience.in_trouble() => error,
            result => return result,
        };
        // An address that was never reached is likely to be wrong.
        if !done.reached {
            return Err(error);
        }
        if done.written > written {
            written = done.written;
            patience.progress();
        }
        patience.wait(error, observer).await?;
    }
}

async fn attempt<E: Copying + Showing>(
    address: &E::Address,
    request: &RunRequest<'_>,
    observer: &mut dyn Observer,
    done: &mut Done,
) -> Result<RunReport, ConnectError> {
    let target = Target {
        table: &request.table,
        key: request.key.as_deref(),
        vector: request.vector.as_deref(),
        rate: request.rate,
        patience: PATIENCE,
    };
    let mut engine = E::open(address, &target, Access::Write).await?;
    done.reached = true;
    engine.heed(observer.stop_signal());
    engine.lock(&request.name).await?;
    let result = locked(&mut engine, request, observer, done).await;
    engine.release().await;
    result
}

async fn locked<E: Copying + Showing>(
    engine: &mut E,
    request: &RunRequest<'_>,
    observer: &mut dyn Observer,
    done: &mut Done,
) -> Result<RunReport, ConnectError> {
    let migration = begun(engine, request).await?;
    if let Some((view, true)) = &migration.view
        && E::WRITES_FOLLOW
    {
        return Err(ConnectError::Refused(format!(
            "{view} shows the new vectors, and programs write there since: a copy of the old ones would bring back what they deleted; \
             take it back with `migrate rollback` before a further run"
        )));
    }
    match &request.source {
        Source::Mapped { bridge, .. } => {
            let passes = Passes {
                migration: &migration,
                bridge: &Arc::new((*bridge).clone()),
                rate: request.rate,
            };
            run_mapped(engine, &passes, observer, done).await?;
        }
        Source::File(path) => {
            run_file(engine, &migration, path, request.rate, observer, done).await?;
            done.removed += engine.remove_gone(&migration, observer).await?;
            let rows = batch_rows(migration.dim, request.rate);
            done.removed += engine.carry_over(&migration, rows, observer).await?;
        }
    }
    let index_seconds = match request.index {
        true => engine.index(&migration, observer).await?,
        false => None,
    };
    engine.finish(&migration).await?;
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
        standing: engine.standing(&migration).await?,
    })
}

/// The migration as the database has it, made if it is new.
async fn begun<E: Copying>(
    engine: &mut E,
    request: &RunRequest<'_>,
) -> Result<Migration<E::Key>, ConnectError> {
    let (origin, dim) = match &request.source {
        Source::Mapped { bridge, permission } => {
            if let Some(dim) = engine.dim()
                && dim != bridge.from().dim
            {
                return Err(ConnectError::Usage(format!(
                    "the bridge takes vectors of {} dimensions, and vector {:?} of {} holds {dim}; mapped copies need a bridge from the old space to the new one",
                    bridge.from().dim,
                    engine.vector(),
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
    if let Some(found) = engine.find(&request.name).await? {
        return same(engine, found, &origin, request);
    }
    engine.begin(&request.name, dim, &origin).await?;
    required(
        engine.find(&request.name).await?,
        &request.table,
        &request.name,
    )
}

/// Refuses to continue a migration with something else.
fn same<E: Copying>(
    engine: &E,
    found: Migration<E::Key>,
    origin: &Origin,
    request: &RunRequest<'_>,
) -> Result<Migration<E::Key>, ConnectError> {
    let other = |what: &str| {
        Err(ConnectError::State(format!(
            "migration {} of {} was begun with {what}; choose another --name, or remove it with `migrate clean`",
            found.name, request.table
        )))
    };
    if (&*found.key, &*found.vector) != (engine.key(), engine.vector()) {
        return other(&match &*found.key {
            "" => format!("vector {:?}", found.vector),
            key => format!("key {key} and vectors {}", found.vector),
        });
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
