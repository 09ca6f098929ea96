//! Texts and ids from Parquet tables.

use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use perennial_core::ItemId;

use super::cells::{self, Scalar};
use super::reader::guarded;
use crate::error::FormatError;
use crate::input::open_file;
use crate::numbers;
use crate::text_row::{TextColumns, TextReader, TextRow, without_column};

/// Rows of a record batch.
const BATCH_ROWS: usize = 1024;

struct Reader {
    path: PathBuf,
    rows: Option<u64>,
    columns: TextColumns,
    batches: ParquetRecordBatchReader,
    /// The record batch in hand, and how many of its rows are taken.
    rest: Option<(RecordBatch, usize)>,
    done: u64,
}

pub(super) fn open(path: &Path, columns: &TextColumns) -> Result<Box<dyn TextReader>, FormatError> {
    let (file, _) = open_file(path)?;
    let (file, _) = file.into_parts();
    let builder = guarded(path, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let names: Vec<String> = builder
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let mut roots = Vec::new();
    for wanted in [Some(&columns.text), columns.id.as_ref()]
        .into_iter()
        .flatten()
    {
        let Some(root) = names.iter().position(|name| name == wanted) else {
            return Err(FormatError::file(path, without_column(wanted, &names)));
        };
        roots.push(root);
    }
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    let batches = guarded(path, || builder.build())?;
    Ok(Box::new(Reader {
        path: path.to_owned(),
        rows,
        columns: columns.clone(),
        batches,
        rest: None,
        done: 0,
    }))
}

impl Reader {
    fn error(&self, problem: impl std::fmt::Display) -> FormatError {
        FormatError::file(&self.path, format_args!("row {} {problem}", self.done))
    }

    fn row(&mut self) -> Result<Option<TextRow>, FormatError> {
        while self.rest.is_none() {
            let batches = &mut self.batches;
            let next = guarded(&self.path, || batches.next().transpose())?;
            let Some(batch) = next else {
                return Ok(None);
            };
            self.rest = Some((batch, 0)).filter(|(batch, _)| batch.num_rows() > 0);
        }
        let Some((batch, row)) = self.rest.take() else {
            return Ok(None);
        };
        let cell = |name: &str| {
            let column = batch.column_by_name(name)?;
            cells::scalar(column, row)
        };
        let text = match cell(&self.columns.text) {
            Some(Scalar::Text(text)) => text,
            _ => {
                let problem = format!("holds no text in the column {:?}", self.columns.text);
                return Err(self.error(problem));
            }
        };
        let id = match &self.columns.id {
            Some(column) => Some(self.id(column, cell(column))?),
            None => None,
        };
        self.done += 1;
        if row + 1 < batch.num_rows() {
            self.rest = Some((batch, row + 1));
        }
        Ok(Some(TextRow { text, id }))
    }

    fn id(&self, column: &str, cell: Option<Scalar>) -> Result<ItemId, FormatError> {
        match cell {
            Some(Scalar::Text(text)) => text
                .parse()
                .map_err(|error| self.error(format_args!("{column:?} cannot be used: {error}"))),
            Some(Scalar::Number(number)) => numbers::item_id(self.done, number)
                .map_err(|problem| FormatError::file(&self.path, problem)),
            None => Err(self.error(format_args!(
                "holds no id in the column {column:?}; integers or texts are needed in every row"
            ))),
        }
    }
}

impl TextReader for Reader {
    fn rows(&self) -> Option<u64> {
        self.rows
    }

    fn next(&mut self, max_rows: usize) -> Result<Option<Vec<TextRow>>, FormatError> {
        let mut rows = Vec::new();
        while rows.len() < max_rows.max(1)
            && let Some(row) = self.row()?
        {
            rows.push(row);
        }
        Ok((!rows.is_empty()).then_some(rows))
    }
}
