//! Texts and ids from Parquet tables.

use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use perennial_core::ItemId;

use super::cells::{self, Scalar};
use super::opened::{Batches, Opened};
use crate::error::FormatError;
use crate::lines::MAX_LINE_BYTES;
use crate::numbers;
use crate::text_row::{TextColumns, TextReader, TextRow, without_column};

/// Rows of a record batch.
const BATCH_ROWS: usize = 1024;

struct Reader {
    path: PathBuf,
    rows: Option<u64>,
    columns: TextColumns,
    batches: Batches,
    /// The record batch in hand, and how many of its rows are taken.
    rest: Option<(RecordBatch, usize)>,
    done: u64,
}

pub(super) fn open(path: &Path, columns: &TextColumns) -> Result<Box<dyn TextReader>, FormatError> {
    let opened = Opened::open(path)?;
    let fields = opened.schema().fields();
    let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
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
    for &root in &roots {
        let field = opened.schema().field(root);
        if !cells::is_scalar(field.data_type()) {
            let problem = format!(
                "the column {:?} is {}; texts are needed, and texts or integers as ids",
                field.name(),
                field.data_type()
            );
            return Err(FormatError::file(path, problem));
        }
    }
    roots.sort_unstable();
    roots.dedup();
    let rows = opened.rows();
    let batches = opened.batches(&roots, |_| false, BATCH_ROWS)?;
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
        if self.rest.is_none() {
            self.rest = self.batches.next()?.map(|batch| (batch, 0));
        }
        let Some((batch, row)) = self.rest.take() else {
            return Ok(None);
        };
        let cell = |name: &str| {
            let column = batch.column_by_name(name)?;
            cells::scalar(column, row)
        };
        let text = batch
            .column_by_name(&self.columns.text)
            .and_then(|column| cells::text(column, row));
        let Some(text) = text else {
            let problem = format!("holds no text in the column {:?}", self.columns.text);
            return Err(self.error(problem));
        };
        if text.len() as u64 >= MAX_LINE_BYTES {
            return Err(self.error(format_args!("is longer than {MAX_LINE_BYTES} bytes")));
        }
        let text = text.to_owned();
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
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < max_rows.max(1)
            && bytes < MAX_LINE_BYTES
            && let Some(row) = self.row()?
        {
            bytes += row.text.len() as u64;
            rows.push(row);
        }
        Ok((!rows.is_empty()).then_some(rows))
    }
}
