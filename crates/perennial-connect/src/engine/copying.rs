//! Reading rows in batches and writing their copies.

use perennial_core::ItemId;

use super::access::Engine;
use super::batch::{Batch, Copies};
use super::migration::{Migration, Progress};
use crate::error::ConnectError;
use crate::observer::Observer;

/// Which rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All. A database may leave out rows whose copy is up to date.
    All,
    /// Those without a copy, and those that were written since it was made.
    Changed,
}

/// A row that an id of a file names.
#[derive(Debug)]
pub(crate) struct Found<K, S> {
    /// The place of the id.
    pub(crate) place: usize,
    pub(crate) key: K,
    pub(crate) source: S,
}

/// A session that copies.
pub(crate) trait Copying: Engine {
    /// Reads rows in the order of their key.
    type Reader;
    /// Writes copies of one migration.
    type Writer;
    /// Finds the rows that ids name.
    type Lookup;

    /// Of vectors with `dim` values, `rows` at a time. Without a migration, all rows.
    async fn reader(
        &mut self,
        migration: Option<&Migration<Self::Key>>,
        which: Which,
        dim: usize,
        rows: usize,
    ) -> Result<Self::Reader, ConnectError>;

    /// The rows at a place and after it, from the first one without a place; nothing at the end.
    async fn read(
        &mut self,
        reader: &mut Self::Reader,
        place: Option<&Self::Key>,
    ) -> Result<Option<Batch<Self::Key, Self::Source>>, ConnectError>;

    /// `fresh`: no copies of the keys to come are there yet. The writer notices if that is wrong.
    fn writer(&self, migration: &Migration<Self::Key>, fresh: bool) -> Self::Writer;

    /// Writes one batch and notes the progress. What is noted is written; what is written may be written again. Once this returns, no crash of
    /// the server undoes it, nor the batches before it.
    async fn write(
        &mut self,
        writer: &mut Self::Writer,
        copies: &Copies<'_, Self::Key, Self::Source>,
        progress: &Progress<Self::Key>,
    ) -> Result<(), ConnectError>;

    /// As [`write`](Self::write), while the rows at another place are read. Until a later `write` or [`note`](Self::note), a crash of the
    /// server may undo the batch, with the progress that it noted.
    async fn write_and_read(
        &mut self,
        writer: &mut Self::Writer,
        copies: &Copies<'_, Self::Key, Self::Source>,
        progress: &Progress<Self::Key>,
        reader: &mut Self::Reader,
        place: Option<&Self::Key>,
    ) -> Result<Option<Batch<Self::Key, Self::Source>>, ConnectError>;

    /// For ids of a file that belongs to a migration.
    async fn lookup(
        &mut self,
        migration: &Migration<Self::Key>,
    ) -> Result<Self::Lookup, ConnectError>;

    /// Rows by id, in the order of the ids. Of several ids of one row, only the last.
    async fn look_up(
        &mut self,
        lookup: &Self::Lookup,
        ids: &[ItemId],
    ) -> Result<Vec<Found<Self::Key, Self::Source>>, ConnectError>;

    /// Notes progress of a pass that wrote nothing further, as durably as [`write`](Self::write).
    async fn note(
        &mut self,
        migration: &Migration<Self::Key>,
        progress: &Progress<Self::Key>,
    ) -> Result<(), ConnectError>;

    /// Removes copies of rows that are gone, and of rows that lost their vector since; returns how many.
    ///
    /// The second kind would count as outdated for ever where files bring new embeddings: no export of pending rows names them.
    async fn remove_gone(
        &mut self,
        migration: &Migration<Self::Key>,
        observer: &dyn Observer,
    ) -> Result<u64, ConnectError>;

    /// Brings what lies beside the vectors of copies up to date, where copies hold more than vectors. It may find copies to remove, which are
    /// those of rows that lost their vector since; returns how many.
    async fn carry_over(
        &mut self,
        migration: &Migration<Self::Key>,
        rows: usize,
        observer: &dyn Observer,
    ) -> Result<u64, ConnectError>;

    /// Makes the copies fit for searching; returns the seconds that it took, or nothing where there was nothing to do.
    async fn index(
        &mut self,
        migration: &Migration<Self::Key>,
        observer: &mut dyn Observer,
    ) -> Result<Option<f64>, ConnectError>;

    /// The last step of a run.
    async fn finish(&mut self, migration: &Migration<Self::Key>) -> Result<(), ConnectError>;
}
