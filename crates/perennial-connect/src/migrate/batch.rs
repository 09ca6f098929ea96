//! Rows of the migrated table, read in the order of their key.

use serde::Serialize;
use tokio_postgres::{Client, Statement};

use crate::error::ConnectError;
use crate::postgres::{Raw, RawValue, VectorTable, quote, read_vector, transaction_id};

/// Values of a batch's vectors, which bounds the memory of a run.
const BATCH_VALUES: usize = 1 << 20;
/// Rows of a batch of short vectors.
const MAX_ROWS: usize = 4096;

/// Rows with a vector of which no copy can be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The vector has another dimension than the bridge takes, or than the other vectors have.
    pub dimension: u64,
    /// The vector has no direction: it is zero, or the bridge makes it so.
    pub direction: u64,
}

impl Skipped {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.dimension + self.direction
    }

    pub(super) fn add(&mut self, other: Self) {
        self.dimension += other.dimension;
        self.direction += other.direction;
    }
}

/// Rows as they were read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Keys of the rows with a usable vector.
    pub(super) keys: Vec<RawValue>,
    /// The transactions that wrote them.
    pub(super) sources: Vec<u32>,
    /// `[keys, dim]`
    pub(super) vectors: Vec<f32>,
    /// Keys of the rows without one; they must have no copy.
    pub(super) without: Vec<RawValue>,
    pub(super) skipped: Skipped,
    /// All rows read.
    pub(super) rows: usize,
    /// The last key of all.
    pub(super) last: Option<RawValue>,
}

/// How many rows of vectors of these dimensions are read at a time; no more than a second's worth under a rate.
pub(super) fn batch_rows(dims: usize, rate: Option<f64>) -> usize {
    let rows = (BATCH_VALUES / dims.max(1)).clamp(16, MAX_ROWS);
    match rate {
        Some(rate) => rows.min(rate.ceil().max(1.0) as usize),
        None => rows,
    }
}

/// Reads rows in the order of their key.
pub(super) struct RowReader {
    first: Statement,
    after: Statement,
    rows: usize,
    dim: usize,
    table: VectorTable,
}

/// Which rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// All.
    All,
    /// Those without a copy, and those that were written since it was made.
    Changed,
}

impl RowReader {
    /// `copies` is the table of copies as SQL has it, which only [`Which::Changed`] reads.
    pub(super) async fn new(
        client: &Client,
        table: &VectorTable,
        which: Which,
        copies: &str,
        dim: usize,
        rows: usize,
    ) -> Result<Self, ConnectError> {
        let (key, vector) = (quote(&table.key), quote(&table.vector));
        let from = table.sql();
        let (source, condition) = match which {
            Which::All => (format!("{from} t"), "true".to_owned()),
            Which::Changed => (
                format!("{from} t LEFT JOIN {copies} s ON s.{key} = t.{key}"),
                // Copies without a transaction id were written by the application.
                format!(
                    "((s.{key} IS NULL AND t.{vector} IS NOT NULL) OR s.perennial_source <> t.xmin)"
                ),
            ),
        };
        let select = format!("SELECT t.{key}, t.xmin, t.{vector} FROM {source} WHERE {condition}");
        Ok(Self {
            first: client
                .prepare(&format!("{select} ORDER BY t.{key} LIMIT $1"))
                .await?,
            after: client
                .prepare(&format!(
                    "{select} AND t.{key} > $1 ORDER BY t.{key} LIMIT $2"
                ))
                .await?,
            rows,
            dim,
            table: table.clone(),
        })
    }

    /// The next rows after a key; nothing at the end.
    pub(super) async fn next(
        &self,
        client: &Client,
        after: Option<&RawValue>,
    ) -> Result<Option<Batch>, ConnectError> {
        let limit = self.rows as i64;
        let rows = match after {
            None => client.query(&self.first, &[&limit]).await?,
            Some(key) => client.query(&self.after, &[key, &limit]).await?,
        };
        if rows.is_empty() {
            return Ok(None);
        }
        let mut batch = Batch {
            rows: rows.len(),
            ..Batch::default()
        };
        batch.vectors.reserve(rows.len() * self.dim);
        for row in &rows {
            let key = RawValue(row.try_get::<_, Raw<'_>>(0)?.0.to_vec());
            batch.last = Some(key.clone());
            let Some(Raw(vector)) = row.try_get::<_, Option<Raw<'_>>>(2)? else {
                batch.without.push(key);
                continue;
            };
            let before = batch.vectors.len();
            let dim = read_vector(self.table.kind, vector, &mut batch.vectors)?;
            if dim != self.dim {
                batch.vectors.truncate(before);
                batch.skipped.dimension += 1;
                batch.without.push(key);
                continue;
            }
            batch.keys.push(key);
            batch
                .sources
                .push(transaction_id(row.try_get::<_, Raw<'_>>(1)?)?);
        }
        Ok(Some(batch))
    }

    /// Whether a batch of this size was the last.
    pub(super) fn is_last(&self, rows: usize) -> bool {
        rows < self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_by_memory_and_by_the_rate() {
        assert_eq!(batch_rows(384, None), 2730);
        assert_eq!(batch_rows(8, None), MAX_ROWS);
        assert_eq!(batch_rows(1 << 24, None), 16);
        assert_eq!(batch_rows(384, Some(100.0)), 100);
        assert_eq!(batch_rows(384, Some(0.1)), 1);
    }
}
