//! Builds the HNSW indexes that were asked for, in a thread and on a connection of its own.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use perennial_gallery::GalleryError;

use super::connector::Connector;
use super::search::{MAX_INDEXED_IN_FULL, indexed_expression};
use super::session::Session;
use super::spaces::{INDEX_PREFIX, KnownSpace, Spaces};
use crate::failure::Failure;

/// How often spaces are looked for that have grown large enough.
const EVERY: Duration = Duration::from_secs(60);

/// Stops the thread when it is dropped; an index that is being built is finished by the server, or built again later.
#[derive(Debug)]
pub(super) struct IndexKeeper {
    _stop: Sender<()>,
}

impl IndexKeeper {
    /// # Errors
    /// [`GalleryError::InvalidConfig`] where there can be no thread.
    pub(super) fn start(connector: Connector, from: u64) -> Result<Self, GalleryError> {
        let (stop, stopped) = channel();
        std::thread::Builder::new()
            .name("gallery-indexes".to_owned())
            .spawn(move || {
                loop {
                    if let Err(failure) = keep(&connector, from) {
                        let error = failure.into_gallery(connector.server());
                        tracing::warn!(%error, "an index of the gallery could not be built; searches compare with every vector meanwhile");
                    }
                    if stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            })
            .map_err(|error| GalleryError::InvalidConfig {
                key: "threads",
                problem: error.to_string(),
            })?;
        Ok(Self { _stop: stop })
    }
}

/// Builds what is missing, and removes indexes of spaces that are gone.
fn keep(connector: &Connector, from: u64) -> Result<(), Failure> {
    let session = connector.open()?;
    let spaces = Spaces::read(&session)?;
    let orphans = orphans(&session)?;
    let missing: Vec<&KnownSpace> = spaces
        .iter()
        .filter(|known| known.lacks_index(from, connector.max_indexed()))
        .collect();
    if missing.is_empty() && orphans.is_empty() {
        return Ok(());
    }
    // One service builds them. The lock goes with the connection.
    let free = session.query(
        "SELECT pg_try_advisory_lock(hashtextextended('perennial indexes ' || current_schema(), 0))",
        &[],
    )?;
    if !free.first().map_or(Ok(false), |row| row.try_get(0))? {
        return Ok(());
    }
    session.without_limits()?;
    for name in orphans {
        session.batch(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"))?;
    }
    for known in missing {
        let (number, dim) = (known.number, known.space.dim);
        let kind = match dim {
            ..=MAX_INDEXED_IN_FULL => "vector",
            _ => "halfvec",
        };
        // What an earlier attempt left is invalid.
        session.batch(&format!(
            "DROP INDEX CONCURRENTLY IF EXISTS {INDEX_PREFIX}{number}"
        ))?;
        tracing::info!(space = %known.space.id, items = known.items, "building an index");
        session.batch(&format!(
            "CREATE INDEX CONCURRENTLY {INDEX_PREFIX}{number} ON perennial_items USING hnsw ({} {kind}_ip_ops) WHERE space = {number}",
            indexed_expression(dim)
        ))?;
        tracing::info!(space = %known.space.id, "the index is built");
    }
    Ok(())
}

/// Indexes of spaces that there are no more.
fn orphans(session: &Session) -> Result<Vec<String>, Failure> {
    let rows = session.query(
        &format!(
            "SELECT c.relname::text FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid \
             WHERE x.indrelid = 'perennial_items'::regclass AND c.relname ~ '^{INDEX_PREFIX}[0-9]+$' \
             AND NOT EXISTS (SELECT FROM perennial_spaces s WHERE c.relname = '{INDEX_PREFIX}' || s.number)"
        ),
        &[],
    )?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
