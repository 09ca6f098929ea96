//! Reaching an index, and the migrations that its database knows of.

use std::fmt::{Debug, Display};
use std::time::Duration;

use super::id::shown;
use super::migration::{Migration, Origin};
use crate::error::ConnectError;
use crate::observer::StopSignal;
use crate::qualified_name::QualifiedName;

/// What a session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading; a database that can enforce it does.
    Read,
    /// Reading, and trying out how fast something of no consequence is written.
    Probe,
    /// Copies and notes about them are written.
    Write,
}

/// What identifies an index.
#[derive(Debug, Clone)]
pub(crate) struct Target<'a> {
    /// The table, or the collection.
    pub(crate) table: &'a QualifiedName,
    /// The column of the key, where rows have columns; without one, the database's usual one.
    pub(crate) key: Option<&'a str>,
    /// The column of vectors, or the name of the vector.
    pub(crate) vector: Option<&'a str>,
    /// The most rows per second, for a database that reads more than it is asked for, or more than batches.
    pub(crate) rate: Option<f64>,
    /// How long a server that is gone is tried again, where requests are tried one by one.
    pub(crate) patience: Duration,
}

/// A session with the database of one index.
pub(crate) trait Engine: Sized {
    /// Where the database is, shown without a secret.
    type Address: Display;
    /// The key of a row, as the database has it.
    type Key: Clone + Debug + Send + 'static;
    /// What a copy takes over from its row, beside the key: what tells later whether the row has changed, and what lies beside the vector.
    type Source: Send + 'static;

    /// Connects and finds the index.
    async fn open(
        address: &Self::Address,
        target: &Target<'_>,
        access: Access,
    ) -> Result<Self, ConnectError>;

    /// Connects to the index of a migration, by its table.
    ///
    /// # Errors
    /// [`ConnectError::State`] if there is no such migration.
    async fn open_migration(
        address: &Self::Address,
        table: &QualifiedName,
        name: &str,
        access: Access,
    ) -> Result<(Self, Migration<Self::Key>), ConnectError>;

    /// Opens a session for reading again after its connection broke. What was prepared on the old one is lost.
    ///
    /// # Errors
    /// [`ConnectError::State`] if the index is another one by now.
    async fn reconnect(&mut self) -> Result<(), ConnectError>;

    /// Ends waits within requests when it says so, where there are any.
    fn heed(&mut self, _stop: Option<StopSignal>) {}

    /// The column of vectors, or the name of the vector.
    fn vector(&self) -> &str;

    /// The column of the key; empty where rows have no columns.
    fn key(&self) -> &str;

    /// The dimension that the index demands, where it demands one.
    fn dim(&self) -> Option<usize>;

    /// About how many rows there are, where the database says it for nothing.
    fn estimated_rows(&self) -> Option<u64>;

    /// The migration of a name.
    async fn find(&self, name: &str) -> Result<Option<Migration<Self::Key>>, ConnectError>;

    /// Makes the place of the copies and notes the migration.
    ///
    /// # Errors
    /// [`ConnectError::State`] if something of that name is there and is not ours.
    async fn begin(&mut self, name: &str, dim: usize, origin: &Origin) -> Result<(), ConnectError>;

    /// Keeps other processes from working at a migration until the session ends, or until [`release`](Self::release).
    ///
    /// # Errors
    /// [`ConnectError::State`] if another session works at it.
    async fn lock(&mut self, name: &str) -> Result<(), ConnectError>;

    /// Gives up what [`lock`](Self::lock) took, also after an error.
    async fn release(&mut self);
}

/// What is known of a migration, which must be there.
///
/// # Errors
/// [`ConnectError::State`] if there is none.
pub(crate) fn required<T>(
    found: Option<T>,
    table: &QualifiedName,
    name: &str,
) -> Result<T, ConnectError> {
    found.ok_or_else(|| {
        ConnectError::State(format!(
            "there is no {}; begin it with `migrate run`",
            shown(table, name)
        ))
    })
}
