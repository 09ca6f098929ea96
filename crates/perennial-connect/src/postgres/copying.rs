//! Copies in a table of their own.

use std::collections::HashMap;

use perennial_core::ItemId;
use tokio_postgres::Statement;

use super::copy_index;
use super::engine::Postgres;
use super::identifier::quote;
use super::key_text::{id_text, not_of_type};
use super::row_reader::RowReader;
use super::rows::RowQuery;
use super::session::within;
use super::state::note;
use super::wire::{Raw, RawValue, transaction_id};
use super::write::{Commit, CopyWriter};
use crate::engine::{Batch, Copies, Copying, Found, Migration, Progress, Which};
use crate::error::ConnectError;
use crate::observer::Observer;

/// Copies that are looked at in one statement, for rows that are gone.
const LOOKED_AT: i64 = 10_000;

impl Copying for Postgres {
    type Reader = RowReader;
    type Writer = CopyWriter;
    type Lookup = Statement;

    async fn reader(
        &mut self,
        migration: Option<&Migration<RawValue>>,
        which: Which,
        dim: usize,
        rows: usize,
    ) -> Result<RowReader, ConnectError> {
        let copies = migration.map(|migration| migration.copies.sql());
        let copies = copies.unwrap_or_default();
        let Some(client) = self.ahead().await? else {
            let query = RowQuery::new(&self.reader, &self.table, which, &copies, dim, rows).await?;
            return Ok(RowReader::Asked(query));
        };
        let query = RowQuery::new(&client, &self.table, which, &copies, dim, rows).await?;
        Ok(RowReader::ahead(client, query))
    }

    async fn read(
        &mut self,
        reader: &mut RowReader,
        place: Option<&RawValue>,
    ) -> Result<Option<Batch<RawValue, u32>>, ConnectError> {
        within(reader.next(&self.reader, place)).await
    }

    fn writer(&self, migration: &Migration<RawValue>, fresh: bool) -> CopyWriter {
        CopyWriter::new(&self.table, migration, fresh)
    }

    async fn write(
        &mut self,
        writer: &mut CopyWriter,
        copies: &Copies<'_, RawValue, u32>,
        progress: &Progress<RawValue>,
    ) -> Result<(), ConnectError> {
        within(writer.write(self.writer(), copies, progress, Commit::Durable)).await
    }

    async fn write_and_read(
        &mut self,
        writer: &mut CopyWriter,
        copies: &Copies<'_, RawValue, u32>,
        progress: &Progress<RawValue>,
        reader: &mut RowReader,
        place: Option<&RawValue>,
    ) -> Result<Option<Batch<RawValue, u32>>, ConnectError> {
        let (reading, writing) = self.both();
        let write = within(writer.write(writing, copies, progress, Commit::Fast));
        let (written, read) = tokio::join!(write, within(reader.next(reading, place)));
        written?;
        read
    }

    async fn lookup(&mut self, _: &Migration<RawValue>) -> Result<Statement, ConnectError> {
        let table = &self.table;
        let key = quote(&table.key);
        let query = format!(
            "SELECT u.place, t.{key}, t.xmin FROM unnest($1::text[]) WITH ORDINALITY AS u(id, place) \
             JOIN {} t ON t.{key} = u.id::{}",
            table.sql(),
            table.key_type
        );
        Ok(self.reader.prepare(&query).await?)
    }

    async fn look_up(
        &mut self,
        lookup: &Statement,
        ids: &[ItemId],
    ) -> Result<Vec<Found<RawValue, u32>>, ConnectError> {
        let ids: Vec<String> = ids.iter().map(id_text).collect();
        let mut found: HashMap<RawValue, (usize, u32)> = HashMap::new();
        let query = async { Ok(self.reader.query(lookup, &[&ids]).await?) };
        let rows = within(query).await;
        for row in rows.map_err(|error| not_of_type(error, &self.table))? {
            let place: i64 = row.try_get(0)?;
            let place = (place - 1) as usize;
            let key = RawValue(row.try_get::<_, Raw<'_>>(1)?.0.to_vec());
            let source = transaction_id(row.try_get::<_, Raw<'_>>(2)?)?;
            let last = found.entry(key).or_insert((place, source));
            if place >= last.0 {
                *last = (place, source);
            }
        }
        let found = found
            .into_iter()
            .map(|(key, (place, source))| Found { place, key, source });
        let mut found: Vec<Found<RawValue, u32>> = found.collect();
        found.sort_unstable_by_key(|found| found.place);
        Ok(found)
    }

    async fn note(
        &mut self,
        migration: &Migration<RawValue>,
        progress: &Progress<RawValue>,
    ) -> Result<(), ConnectError> {
        let table = self.table.clone();
        within(note(self.writer(), &table, &migration.name, progress, 0)).await
    }

    async fn remove_gone(
        &mut self,
        migration: &Migration<RawValue>,
        observer: &dyn Observer,
    ) -> Result<u64, ConnectError> {
        let (key, vector) = (quote(&self.table.key), quote(&self.table.vector));
        let (rows, copies) = (self.table.sql(), migration.copies.sql());
        // Piece by piece in the order of the key. Both tables are bounded by the piece, so that the server reads each of them once in all.
        let look = |after: &str| {
            format!(
                "WITH piece AS MATERIALIZED (SELECT t.{key}, t.perennial_source FROM {copies} t WHERE true{after} ORDER BY t.{key} LIMIT $1), \
                 bound AS MATERIALIZED (SELECT {key} FROM piece ORDER BY {key} DESC LIMIT 1), \
                 gone AS MATERIALIZED (SELECT s.{key} FROM piece s WHERE NOT EXISTS (SELECT FROM {rows} t WHERE t.{key} = s.{key}{after} \
                 AND t.{key} <= (SELECT {key} FROM bound) \
                 AND (t.{vector} IS NOT NULL OR s.perennial_source IS NULL OR s.perennial_source = t.xmin))), \
                 removed AS (DELETE FROM {copies} t WHERE t.{key} <= (SELECT {key} FROM bound){after} AND t.{key} IN (SELECT {key} FROM gone)) \
                 SELECT (SELECT count(*) FROM piece), (SELECT count(*) FROM gone), bound.{key} FROM bound"
            )
        };
        let writer = self.writer();
        let first = writer.prepare(&look("")).await?;
        let after = format!(" AND t.{key} > $2");
        let after = writer.prepare(&look(&after)).await?;
        let mut last: Option<RawValue> = None;
        let mut removed = 0;
        loop {
            let look = async {
                Ok(match &last {
                    None => writer.query_opt(&first, &[&LOOKED_AT]).await?,
                    Some(last) => writer.query_opt(&after, &[&LOOKED_AT, last]).await?,
                })
            };
            let Some(row) = within(look).await? else {
                return Ok(removed);
            };
            removed += row.try_get::<_, i64>(1)?.max(0) as u64;
            if row.try_get::<_, i64>(0)? < LOOKED_AT {
                return Ok(removed);
            }
            last = Some(RawValue(row.try_get::<_, Raw<'_>>(2)?.0.to_vec()));
            if observer.stopped() {
                return Err(ConnectError::Interrupted);
            }
        }
    }

    /// The copies hold vectors alone.
    async fn carry_over(
        &mut self,
        _: &Migration<RawValue>,
        _: usize,
        _: &dyn Observer,
    ) -> Result<u64, ConnectError> {
        Ok(0)
    }

    async fn index(
        &mut self,
        migration: &Migration<RawValue>,
        observer: &mut dyn Observer,
    ) -> Result<Option<f64>, ConnectError> {
        let table = self.table.clone();
        copy_index::build(self.writer(), &table, migration, observer).await
    }

    async fn finish(&mut self, migration: &Migration<RawValue>) -> Result<(), ConnectError> {
        let analyze = format!("ANALYZE {}", migration.copies.sql());
        Ok(self.writer().batch_execute(&analyze).await?)
    }
}
