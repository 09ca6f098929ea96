//! Reading and writing in batches.

use std::path::{Path, PathBuf};

use perennial_core::{ItemId, SpaceId};

use crate::error::FormatError;
use crate::format::Format;
use crate::label::Label;
use crate::vector_set::{Parts, Payload, VectorSet};

/// What a file says about its vectors before they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The length of each vector.
    pub dim: usize,
    /// The number of vectors, for formats that know it in advance.
    pub rows: Option<u64>,
    /// What the vectors are of.
    pub space: Option<SpaceId>,
    /// The format of the file.
    pub format: Format,
}

/// A file of vectors that is read in batches, so that it may be larger than memory.
pub trait VectorReader: Send {
    /// What is known before the vectors are read.
    fn header(&self) -> &Header;

    /// The next rows, at most `max_rows` of them (0 counts as 1) and at least one; `None` at the end. Some formats give fewer than
    /// `max_rows` before the end.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, or holds a value that is not finite; rows and lines are counted from the file's start. The
    /// reader must not be used afterwards.
    fn next(&mut self, max_rows: usize) -> Result<Option<VectorSet>, FormatError>;
}

/// A file of vectors that is written in batches. Dropping it before [`finish`](Self::finish) leaves an earlier file as it was.
pub trait VectorWriter: Send {
    /// Adds rows. What the format does not keep is left out; [`Format::left_out`] says what that is.
    ///
    /// # Errors
    /// Vectors of another dimension, rows with ids or labels after rows without (and the reverse), or the file cannot be written.
    fn write(&mut self, batch: &VectorSet) -> Result<(), FormatError>;

    /// Makes the file complete and gives it its name.
    ///
    /// # Errors
    /// The file cannot be written; an earlier file of that name then stays as it was.
    fn finish(self: Box<Self>) -> Result<(), FormatError>;
}

/// Rows as a format's reader finds them, not yet checked.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) vectors: Vec<f32>,
    pub(crate) ids: Option<Vec<ItemId>>,
    pub(crate) labels: Option<Vec<Label>>,
    pub(crate) payload: Option<Vec<Payload>>,
}

/// What the reader of one format does.
pub(crate) trait BatchReader: Send {
    fn header(&self) -> &Header;

    /// `max_rows` is at least 1. An empty batch is not the end.
    fn next(&mut self, max_rows: usize) -> Result<Option<Batch>, FormatError>;
}

/// The checks that are the same for all formats.
struct Checked {
    path: PathBuf,
    inner: Box<dyn BatchReader>,
    rows: u64,
}

pub(crate) fn checked(
    path: &Path,
    inner: Box<dyn BatchReader>,
) -> Result<Box<dyn VectorReader>, FormatError> {
    if inner.header().dim == 0 {
        return Err(FormatError::file(
            path,
            "the vectors have 0 dimensions; at least 1 is needed",
        ));
    }
    Ok(Box::new(Checked {
        path: path.to_owned(),
        inner,
        rows: 0,
    }))
}

impl VectorReader for Checked {
    fn header(&self) -> &Header {
        self.inner.header()
    }

    fn next(&mut self, max_rows: usize) -> Result<Option<VectorSet>, FormatError> {
        loop {
            let Some(batch) = self.inner.next(max_rows.max(1))? else {
                return Ok(None);
            };
            let header = self.inner.header();
            let parts = Parts {
                dim: header.dim,
                vectors: batch.vectors,
                ids: batch.ids,
                labels: batch.labels,
                payload: batch.payload,
                space: header.space.clone(),
            };
            let set = VectorSet::read_at(parts, self.rows)
                .map_err(|error| FormatError::file(&self.path, error))?;
            self.rows += set.len() as u64;
            if !set.is_empty() {
                return Ok(Some(set));
            }
        }
    }
}

/// What the writer of one format does. Batches have the dimension of the header, and all of them have ids and labels, or none.
pub(crate) trait BatchWriter: Send {
    fn write(&mut self, batch: &VectorSet) -> Result<(), FormatError>;

    /// `rows` are those of all batches.
    fn finish(self: Box<Self>, rows: u64) -> Result<(), FormatError>;
}

/// The checks that are the same for all formats, before rows are written.
struct CheckedWriter {
    path: PathBuf,
    dim: usize,
    inner: Box<dyn BatchWriter>,
    /// Whether rows have ids, and whether they have labels; unknown before the first batch.
    known: Option<(bool, bool)>,
    rows: u64,
}

/// A writer of vectors of one dimension to a file of this name.
pub(crate) fn checked_writer(
    path: PathBuf,
    dim: usize,
    inner: Box<dyn BatchWriter>,
) -> Box<dyn VectorWriter> {
    Box::new(CheckedWriter {
        path,
        dim,
        inner,
        known: None,
        rows: 0,
    })
}

impl VectorWriter for CheckedWriter {
    fn write(&mut self, batch: &VectorSet) -> Result<(), FormatError> {
        if batch.dim() != self.dim {
            let problem = format!(
                "vectors of {} values cannot be written to a file of vectors of {}",
                batch.dim(),
                self.dim
            );
            return Err(FormatError::file(&self.path, problem));
        }
        let found = (batch.ids().is_some(), batch.labels().is_some());
        if *self.known.get_or_insert(found) != found {
            let problem = format!(
                "only some of the rows have ids or labels (it changes at row {}); give them to all rows, or to none",
                self.rows
            );
            return Err(FormatError::file(&self.path, problem));
        }
        self.inner.write(batch)?;
        self.rows += batch.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), FormatError> {
        self.inner.finish(self.rows)
    }
}
