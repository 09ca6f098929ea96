//! Writing a batch of copies, with the progress that it makes, in one transaction.

use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

use super::identifier::quote;
use super::state::note;
use super::table::VectorTable;
use super::wire::{CopyRows, KeyArray, RawValue};
use crate::engine::{Copies, Migration, Progress};
use crate::error::ConnectError;

/// Writes batches of one migration.
pub(crate) struct CopyWriter {
    table: VectorTable,
    migration: String,
    dim: usize,
    copies: String,
    columns: String,
    /// Whether keys of a batch are expected to have no copy yet.
    fresh: bool,
}

impl CopyWriter {
    /// `fresh`: no copies of the keys to come are there yet. The writer notices if that is wrong.
    pub(super) fn new(table: &VectorTable, migration: &Migration<RawValue>, fresh: bool) -> Self {
        Self {
            table: table.clone(),
            migration: migration.name.clone(),
            dim: migration.dim,
            copies: migration.copies.sql(),
            columns: format!(
                "{}, perennial_source, {}",
                quote(&table.key),
                quote(&table.vector)
            ),
            fresh,
        }
    }

    /// Writes one batch; all of it, or nothing.
    pub(super) async fn write(
        &mut self,
        client: &mut Client,
        copies: &Copies<'_, RawValue, u32>,
        progress: &Progress<RawValue>,
    ) -> Result<(), ConnectError> {
        if self.fresh {
            match self.attempt(client, copies, progress, true).await {
                Err(ConnectError::Server { code, .. })
                    if code == SqlState::UNIQUE_VIOLATION.code() =>
                {
                    self.fresh = false;
                }
                result => return result,
            }
        }
        self.attempt(client, copies, progress, false).await
    }

    async fn attempt(
        &self,
        client: &mut Client,
        copies: &Copies<'_, RawValue, u32>,
        progress: &Progress<RawValue>,
        fresh: bool,
    ) -> Result<(), ConnectError> {
        let key = quote(&self.table.key);
        let transaction = client.transaction().await?;
        if !copies.without.is_empty() && !fresh {
            let delete = format!(
                "DELETE FROM {} WHERE {key} = ANY($1) AND perennial_source IS NOT NULL",
                self.copies
            );
            transaction
                .execute(&delete, &[&KeyArray(copies.without)])
                .await?;
        }
        if fresh {
            self.copy(&transaction, &self.copies, copies).await?;
        } else if !copies.keys.is_empty() {
            self.replace(&transaction, copies).await?;
        }
        note(
            &transaction,
            &self.table,
            &self.migration,
            progress,
            copies.keys.len() as u64,
        )
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Rows that may have copies already: through a temporary table. Those without a transaction id are the application's own and stay.
    async fn replace(
        &self,
        transaction: &Transaction<'_>,
        copies: &Copies<'_, RawValue, u32>,
    ) -> Result<(), ConnectError> {
        let (key, vector) = (quote(&self.table.key), quote(&self.table.vector));
        transaction
            .batch_execute(&format!(
                "CREATE TEMPORARY TABLE IF NOT EXISTS perennial_batch ON COMMIT DELETE ROWS AS SELECT * FROM {} WITH NO DATA",
                self.copies
            ))
            .await?;
        self.copy(transaction, "pg_temp.perennial_batch", copies)
            .await?;
        transaction
            .batch_execute(&format!(
                "INSERT INTO {copies} AS s ({columns}) SELECT {columns} FROM pg_temp.perennial_batch \
                 ON CONFLICT ({key}) DO UPDATE SET perennial_source = excluded.perennial_source, {vector} = excluded.{vector} \
                 WHERE s.perennial_source IS NOT NULL",
                copies = self.copies,
                columns = self.columns,
            ))
            .await?;
        Ok(())
    }

    async fn copy(
        &self,
        transaction: &Transaction<'_>,
        into: &str,
        copies: &Copies<'_, RawValue, u32>,
    ) -> Result<(), ConnectError> {
        let statement = format!("COPY {into} ({}) FROM STDIN (FORMAT binary)", self.columns);
        let sink = transaction.copy_in::<_, Bytes>(&statement).await?;
        let mut sink = pin!(sink);
        let mut rows = CopyRows::new(self.table.kind);
        let vectors = copies.vectors.chunks_exact(self.dim);
        for ((key, &source), vector) in copies.keys.iter().zip(copies.sources).zip(vectors) {
            rows.push(key, source, vector)?;
            if let Some(bytes) = rows.full() {
                sink.as_mut().feed(bytes).await?;
            }
        }
        sink.as_mut().feed(rows.finish()).await?;
        sink.finish().await?;
        Ok(())
    }
}
