//! Writing a batch of copies, with the progress that it makes, in one transaction.

use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::ToStatement;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement, Transaction};

use super::identifier::quote;
use super::state::note;
use super::table::VectorTable;
use super::wire::{CopyRows, KeyArray, RawValue};
use crate::engine::{Copies, Migration, Progress};
use crate::error::ConnectError;

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// The log is on the disk, that of all commits before as well.
    Durable,
    /// Nothing: the server writes its log within a second. A crash of the server before that undoes the transaction as a whole.
    Fast,
}

/// Writes batches of one migration.
pub(crate) struct CopyWriter {
    table: VectorTable,
    migration: String,
    dim: usize,
    copies: String,
    columns: String,
    /// Whether keys of a batch are expected to have no copy yet.
    fresh: bool,
    /// The `COPY` into the copies, once it was needed.
    copy: Option<Statement>,
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
            copy: None,
        }
    }

    /// Writes one batch; all of it, or nothing.
    pub(super) async fn write(
        &mut self,
        client: &mut Client,
        copies: &Copies<'_, RawValue, u32>,
        progress: &Progress<RawValue>,
        commit: Commit,
    ) -> Result<(), ConnectError> {
        if self.fresh {
            match self.attempt(client, copies, progress, commit).await {
                Err(ConnectError::Server { code, .. })
                    if code == SqlState::UNIQUE_VIOLATION.code() =>
                {
                    self.fresh = false;
                }
                result => return result,
            }
        }
        self.attempt(client, copies, progress, commit).await
    }

    async fn attempt(
        &mut self,
        client: &mut Client,
        copies: &Copies<'_, RawValue, u32>,
        progress: &Progress<RawValue>,
        commit: Commit,
    ) -> Result<(), ConnectError> {
        let key = quote(&self.table.key);
        let copy = match (&self.copy, self.fresh) {
            (Some(copy), true) => Some(copy.clone()),
            (None, true) => {
                let copy = client.prepare(&self.copy_into(&self.copies)).await?;
                Some(self.copy.insert(copy).clone())
            }
            (_, false) => None,
        };
        let transaction = client.transaction().await?;
        let setting = async {
            match commit {
                Commit::Durable => Ok(()),
                Commit::Fast => {
                    let off = "SET LOCAL synchronous_commit = off";
                    transaction.batch_execute(off).await
                }
            }
        };
        let written = copies.keys.len() as u64;
        let noting = note(
            &transaction,
            &self.table,
            &self.migration,
            progress,
            written,
        );
        // Both are sent at once.
        let (set, noted) = tokio::join!(setting, noting);
        set?;
        noted?;
        if !copies.without.is_empty() && !self.fresh {
            let delete = format!(
                "DELETE FROM {} WHERE {key} = ANY($1) AND perennial_source IS NOT NULL",
                self.copies
            );
            transaction
                .execute(&delete, &[&KeyArray(copies.without)])
                .await?;
        }
        if let Some(copy) = &copy {
            self.send(&transaction, copy, copies).await?;
        } else if !copies.keys.is_empty() {
            self.replace(&transaction, copies).await?;
        }
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
        let copy = self.copy_into("pg_temp.perennial_batch");
        self.send(transaction, &copy, copies).await?;
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

    fn copy_into(&self, table: &str) -> String {
        format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", self.columns)
    }

    async fn send(
        &self,
        transaction: &Transaction<'_>,
        copy: &(impl ToStatement + ?Sized),
        copies: &Copies<'_, RawValue, u32>,
    ) -> Result<(), ConnectError> {
        let sink = transaction.copy_in::<_, Bytes>(copy).await?;
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
