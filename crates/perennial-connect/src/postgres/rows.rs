//! Rows of the migrated table, in the order of their key.

use tokio_postgres::{Client, Statement};

use super::identifier::quote;
use super::table::VectorTable;
use super::wire::{Raw, RawValue, read_vector, transaction_id};
use crate::engine::{Batch, Which};
use crate::error::ConnectError;

/// How rows are read in the order of their key, on the connection that it was prepared for.
pub(crate) struct RowQuery {
    first: Statement,
    after: Statement,
    rows: usize,
    dim: usize,
    table: VectorTable,
}

impl RowQuery {
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
        // Copies before the place are left out as well: else the server would go through all of them again for every batch.
        let select = |after: &str| {
            let (source, condition) = match which {
                Which::All => (format!("{from} t"), "true".to_owned()),
                Which::Changed => (
                    format!(
                        "{from} t LEFT JOIN (SELECT * FROM {copies} t WHERE true{after}) s ON s.{key} = t.{key}"
                    ),
                    // Copies without a transaction id were written by the application.
                    format!(
                        "((s.{key} IS NULL AND t.{vector} IS NOT NULL) OR s.perennial_source <> t.xmin)"
                    ),
                ),
            };
            format!(
                "SELECT t.{key}, t.xmin, t.{vector} FROM {source} WHERE {condition}{after} ORDER BY t.{key}"
            )
        };
        let (first, after) = (select(""), select(&format!(" AND t.{key} > $1")));
        Ok(Self {
            first: client.prepare(&format!("{first} LIMIT $1")).await?,
            after: client.prepare(&format!("{after} LIMIT $2")).await?,
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
    ) -> Result<Option<Batch<RawValue, u32>>, ConnectError> {
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
            last: rows.len() < self.rows,
            ..Batch::default()
        };
        batch.vectors.reserve(rows.len() * self.dim);
        for row in &rows {
            let key = RawValue(row.try_get::<_, Raw<'_>>(0)?.0.to_vec());
            batch.place = Some(key.clone());
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
}
