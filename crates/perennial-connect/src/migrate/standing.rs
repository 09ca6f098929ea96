//! How copies stand to the rows that they were made from.

use serde::Serialize;
use tokio_postgres::GenericClient;

use super::state::Migration;
use crate::error::ConnectError;
use crate::postgres::{VectorTable, quote};

/// Counts of rows and copies, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Rows of the migrated table.
    pub rows: u64,
    /// Rows whose vector is NULL.
    pub without_vector: u64,
    /// Copies.
    pub copies: u64,
    /// Rows with a vector and without a copy.
    pub missing: u64,
    /// Rows that were written after their copy was made.
    pub changed: u64,
    /// Copies whose row is gone.
    pub orphaned: u64,
    /// Copies that the application wrote itself, for which it answers.
    pub written_by_application: u64,
}

impl Standing {
    /// Rows that need a new copy.
    pub fn pending(&self) -> u64 {
        self.missing + self.changed
    }

    /// Counts. It reads all keys of both tables, and no vectors.
    pub(super) async fn of(
        client: &impl GenericClient,
        table: &VectorTable,
        migration: &Migration,
    ) -> Result<Self, ConnectError> {
        let (key, vector) = (quote(&table.key), quote(&table.vector));
        let (rows, copies) = (table.sql(), migration.copies.sql());
        let query = format!(
            "SELECT count(*), count(*) FILTER (WHERE t.{vector} IS NULL), count(*) FILTER (WHERE t.{vector} IS NOT NULL AND s.{key} IS NULL), \
             count(*) FILTER (WHERE s.perennial_source <> t.xmin), (SELECT count(*) FROM {copies}), \
             (SELECT count(*) FROM {copies} WHERE perennial_source IS NULL), \
             (SELECT count(*) FROM {copies} o WHERE NOT EXISTS (SELECT FROM {rows} g WHERE g.{key} = o.{key})) \
             FROM {rows} t LEFT JOIN {copies} s ON s.{key} = t.{key}"
        );
        let row = client.query_one(&query, &[]).await?;
        let count = |index: usize| -> Result<u64, ConnectError> {
            Ok(row.try_get::<_, i64>(index)?.max(0) as u64)
        };
        Ok(Self {
            rows: count(0)?,
            without_vector: count(1)?,
            missing: count(2)?,
            changed: count(3)?,
            copies: count(4)?,
            written_by_application: count(5)?,
            orphaned: count(6)?,
        })
    }
}
