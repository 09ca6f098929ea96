//! Passes over the rows of a table: reading, mapping and writing in turn, with the next batch read while one is written.

use std::time::Instant;

use perennial_bridge::Bridge;

use super::batch::{RowReader, Which, batch_rows};
use super::mapping::map;
use super::pace::Pace;
use super::run_request::Done;
use super::session::{Session, within};
use super::state::{Migration, Progress};
use super::write::{Copies, CopyWriter};
use crate::error::ConnectError;
use crate::observer::Observer;
use crate::postgres::{RawValue, VectorTable, quote};

/// Copies of rows that are gone are removed so many at a time.
const REMOVED_AT_ONCE: i64 = 10_000;

/// What all passes of a run share.
pub(super) struct Passes<'a> {
    pub(super) table: &'a VectorTable,
    pub(super) migration: &'a Migration,
    pub(super) bridge: &'a Bridge,
    pub(super) rate: Option<f64>,
}

impl Passes<'_> {
    /// Every row once, from where the last run stopped.
    pub(super) async fn first(
        &self,
        session: &mut Session,
        observer: &mut dyn Observer,
        done: &mut Done,
    ) -> Result<(), ConnectError> {
        let start = self.migration.last_key.clone();
        self.copy(session, Which::All, start, observer, done)
            .await?;
        within(super::state::note(
            &session.writer,
            self.table,
            &self.migration.name,
            &Progress::FirstPass,
            0,
        ))
        .await
    }

    /// Rows that came or changed since they had their turn; returns how many copies were written.
    pub(super) async fn late(
        &self,
        session: &mut Session,
        observer: &mut dyn Observer,
        done: &mut Done,
    ) -> Result<u64, ConnectError> {
        let before = done.written;
        // Rows without a usable vector are met in every pass, and are counted in one only.
        done.skipped = Default::default();
        self.copy(session, Which::Changed, None, observer, done)
            .await?;
        let late = done.written - before;
        done.late += late;
        Ok(late)
    }

    async fn copy(
        &self,
        session: &mut Session,
        which: Which,
        start: Option<RawValue>,
        observer: &mut dyn Observer,
        done: &mut Done,
    ) -> Result<(), ConnectError> {
        let (from, to) = (self.bridge.from().dim, self.bridge.to().dim);
        let rows = batch_rows(from.max(to), self.rate);
        let copies = self.migration.copies.sql();
        let Session { reader, writer } = session;
        let source = RowReader::new(reader, self.table, which, &copies, from, rows).await?;
        let mut sink = CopyWriter::new(self.table, self.migration, which == Which::All);
        let mut pace = Pace::new(self.rate)?;
        let begun = Instant::now();
        let seconds = done.seconds;
        let mut unchecked = which == Which::All && start.is_none();
        let mut next = within(source.next(reader, start.as_ref())).await?;
        while let Some(batch) = next {
            if std::mem::take(&mut unchecked) {
                self.bridge.check_input(&batch.vectors)?;
            }
            let rows = batch.rows;
            let mapped = map(self.bridge, batch)?;
            let batch = &mapped.batch;
            let progress = match (which, &batch.last) {
                (Which::All, Some(last)) => Progress::Key(last.clone()),
                _ => Progress::Rows,
            };
            let copies = Copies {
                keys: &batch.keys,
                sources: &batch.sources,
                vectors: &mapped.vectors,
                without: &batch.without,
            };
            let write = within(sink.write(writer, &copies, &progress));
            next = if source.is_last(rows) {
                write.await?;
                None
            } else {
                let read = within(source.next(reader, batch.last.as_ref()));
                let (written, read) = tokio::join!(write, read);
                written?;
                read?
            };
            done.written += batch.keys.len() as u64;
            done.skipped.add(batch.skipped);
            done.seconds = seconds + begun.elapsed().as_secs_f64();
            observer.rows(done.written, self.table.estimated_rows);
            pace.after(rows, observer).await?;
        }
        Ok(())
    }
}

/// Removes copies of rows that are gone, and of rows that lost their vector since; returns how many.
///
/// The second kind would count as outdated for ever where files bring new embeddings: no export of pending rows names them.
pub(super) async fn remove_gone(
    session: &Session,
    table: &VectorTable,
    migration: &Migration,
    observer: &dyn Observer,
) -> Result<u64, ConnectError> {
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let copies = migration.copies.sql();
    let delete = format!(
        "DELETE FROM {copies} WHERE {key} IN (SELECT s.{key} FROM {copies} s \
         WHERE NOT EXISTS (SELECT FROM {} t WHERE t.{key} = s.{key} \
         AND (t.{vector} IS NOT NULL OR s.perennial_source IS NULL OR s.perennial_source = t.xmin)) LIMIT $1)",
        table.sql()
    );
    let statement = session.writer.prepare(&delete).await?;
    let mut removed = 0;
    loop {
        let delete = async {
            Ok(session
                .writer
                .execute(&statement, &[&REMOVED_AT_ONCE])
                .await?)
        };
        let count = within(delete).await?;
        removed += count;
        if count < REMOVED_AT_ONCE as u64 {
            return Ok(removed);
        }
        if observer.stopped() {
            return Err(ConnectError::Interrupted);
        }
    }
}
