//! What a run is asked to do, and what it has done so far.

use std::path::PathBuf;

use perennial_bridge::Bridge;
use perennial_upgrade::MappedPermission;

use crate::engine::Skipped;
use crate::qualified_name::QualifiedName;

/// Where new embeddings come from.
#[derive(Debug, Clone)]
pub enum Source<'a> {
    /// Old vectors through a bridge from the old space to the new one.
    Mapped {
        /// The bridge.
        bridge: &'a Bridge,
        /// What allows it.
        permission: &'a MappedPermission,
    },
    /// A file of vectors with ids, of any format of `perennial-formats`: items that were embedded again.
    File(PathBuf),
}

/// A run of a migration.
#[derive(Debug, Clone)]
pub struct RunRequest<'a> {
    /// The table or collection that is migrated.
    pub table: QualifiedName,
    /// The column of its key, NOT NULL with a unique index of its own: `id` without one. Points of Qdrant have their id.
    pub key: Option<String>,
    /// Its column of vectors, `embedding` without one; in Qdrant the name of the vector, the only one there is without one.
    pub vector: Option<String>,
    /// The name of the migration.
    pub name: String,
    /// Where new embeddings come from.
    pub source: Source<'a>,
    /// The most rows per second.
    pub rate: Option<f64>,
    /// Whether an index like that of the old vectors is built in the end; Qdrant builds its own, and is waited for.
    pub index: bool,
}

/// What a run has done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Done {
    /// Whether the database was reached and the table found.
    pub(super) reached: bool,
    /// Copies written.
    pub(super) written: u64,
    /// Of those, copies of rows that came or changed after their turn.
    pub(super) late: u64,
    /// Copies removed because their row, or its vector, is gone.
    pub(super) removed: u64,
    /// Rows of which no copy can be made.
    pub(super) skipped: Skipped,
    /// Rows of a file whose id is not in the table.
    pub(super) unknown: u64,
    /// Seconds of copying.
    pub(super) seconds: f64,
}
