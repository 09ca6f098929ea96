//! Formats that hold one item a line: what is the same for all of them.

use std::path::{Path, PathBuf};

use perennial_core::ItemId;

use crate::error::FormatError;
use crate::format::Format;
use crate::label::Label;
use crate::stream::{Batch, BatchReader, Header};
use crate::vector_set::Payload;

/// Rows are collected without asking for more memory ahead of them than this.
const MAX_RESERVED_ROWS: usize = 1 << 12;

/// One item.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: Option<ItemId>,
    pub(crate) vector: Option<Vec<f32>>,
    pub(crate) label: Option<Label>,
    pub(crate) payload: Payload,
}

/// The items of a file, one after the other.
pub(crate) trait RowSource: Send {
    /// The next item. Errors name the line.
    fn next(&mut self) -> Result<Option<Row>, FormatError>;

    /// An error about the row last read.
    fn error(&self, problem: &str) -> FormatError;
}

/// Batches of rows that all have what the first one has.
pub(crate) struct RowReader<S> {
    source: S,
    header: Header,
    ids: bool,
    labels: bool,
    first: Option<Row>,
}

impl<S: RowSource> RowReader<S> {
    /// Reads the first row, which shows what the others must have.
    pub(crate) fn new(path: &Path, format: Format, mut source: S) -> Result<Self, FormatError> {
        let Some(first) = source.next()? else {
            let problem = "holds no rows, so its dimension is unknown; write at least one";
            return Err(FormatError::file(path, problem));
        };
        let Some(vector) = &first.vector else {
            return Err(source.error("holds no vector; name it `embedding`, `vector` or `values`"));
        };
        Ok(Self {
            header: Header {
                dim: vector.len(),
                rows: None,
                space: None,
                format,
            },
            ids: first.id.is_some(),
            labels: first.label.is_some(),
            first: Some(first),
            source,
        })
    }

    fn add(&self, batch: &mut Batch, row: Row) -> Result<(), FormatError> {
        let vector = row
            .vector
            .ok_or_else(|| self.source.error("holds no vector, but the first row does"))?;
        if vector.len() != self.header.dim {
            return Err(self.source.error(&format!(
                "holds {} values, but the first row holds {}",
                vector.len(),
                self.header.dim
            )));
        }
        if !vector.iter().all(|value| value.is_finite()) {
            return Err(self
                .source
                .error("holds a value that is NaN, infinite or too large for f32"));
        }
        let presence = |what: &str, has: bool, wanted: bool| {
            if has == wanted {
                return Ok(());
            }
            let (this, first) = if has {
                ("has", "has none")
            } else {
                ("lacks", "has one")
            };
            Err(self.source.error(&format!(
                "{this} {what}, but the first row {first}; give all rows one, or none"
            )))
        };
        presence("an id", row.id.is_some(), self.ids)?;
        presence("a label", row.label.is_some(), self.labels)?;
        let before = batch.vectors.len() / self.header.dim.max(1);
        batch.vectors.extend(vector);
        if let (Some(ids), Some(id)) = (&mut batch.ids, row.id) {
            ids.push(id);
        }
        if let (Some(labels), Some(label)) = (&mut batch.labels, row.label) {
            labels.push(label);
        }
        match &mut batch.payload {
            Some(payload) => payload.push(row.payload),
            None if row.payload.is_empty() => {}
            none => {
                let payload = none.insert(vec![Payload::new(); before]);
                payload.push(row.payload);
            }
        }
        Ok(())
    }
}

impl<S: RowSource> BatchReader for RowReader<S> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn next(&mut self, max_rows: usize) -> Result<Option<Batch>, FormatError> {
        let reserved = max_rows.min(MAX_RESERVED_ROWS);
        let mut batch = Batch {
            vectors: Vec::new(),
            ids: self.ids.then(|| Vec::with_capacity(reserved)),
            labels: self.labels.then(|| Vec::with_capacity(reserved)),
            payload: None,
        };
        let mut rows = 0;
        while rows < max_rows {
            let row = match self.first.take() {
                Some(first) => Some(first),
                None => self.source.next()?,
            };
            let Some(row) = row else { break };
            self.add(&mut batch, row)?;
            rows += 1;
        }
        Ok((rows > 0).then_some(batch))
    }
}

/// One column of a file of rows.
pub(crate) fn column<S: RowSource, T>(
    mut source: S,
    what: &str,
    take: impl Fn(Row) -> Option<T>,
) -> Result<Vec<T>, FormatError> {
    let mut column = Vec::new();
    while let Some(row) = source.next()? {
        match take(row) {
            Some(value) => column.push(value),
            None => return Err(source.error(&format!("holds no `{what}`"))),
        }
    }
    Ok(column)
}

/// A path that errors are about.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) line: u64,
}

impl Place {
    pub(crate) fn error(&self, problem: impl std::fmt::Display) -> FormatError {
        FormatError::file(&self.path, format_args!("line {} {problem}", self.line))
    }
}
