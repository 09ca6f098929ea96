//! Looking at a table: rows for files, counts, samples and searches.

use std::collections::HashSet;

use bytes::BytesMut;
use futures_util::SinkExt;
use half::f16;
use perennial_core::ItemId;
use tokio_postgres::Row;

use super::copy_index::copies_of;
use super::engine::Postgres;
use super::export_place::{Query, place_of, place_text};
use super::identifier::quote;
use super::key_text::{id_text, item_id, not_of_type, row_label};
use super::session::within;
use super::survey::survey;
use super::table::VectorTable;
use super::vector_type::VectorType;
use super::wire::{CopyRows, KeyArray, Raw, RawValue, put_vector, read_vector};
use crate::engine::{Exported, Looking, Migration, Pair, Probe, Rows, Survey};
use crate::error::ConnectError;

/// The largest difference of a value that rounding explains, for 32 and for 16 bits.
const ROUNDING: [f32; 2] = [1e-4, 1e-3];

/// An export as it goes on.
pub(crate) enum Export {
    /// Rows in the order of their key.
    InOrder {
        first: Query,
        after: Query,
        at_once: usize,
        last: Option<RawValue>,
        over: bool,
    },
    /// Rows of a sample, whose keys are known.
    Sample {
        fetch: Query,
        keys: Vec<RawValue>,
        at_once: usize,
        done: usize,
    },
}

/// Copies with an index.
pub(crate) struct Search {
    copies: VectorTable,
    operator: &'static str,
}

impl Postgres {
    /// The columns that an export reads, as SQL has them.
    fn exported(&self, label: Option<&str>) -> Result<String, ConnectError> {
        let (key, vector) = (quote(&self.table.key), quote(&self.table.vector));
        let label = self.label_sql(label)?;
        Ok(format!(
            "t.{key}, t.{key}::text, t.{vector}, {}::text, {}::text",
            label.value, label.kind
        ))
    }

    fn in_order(
        &self,
        columns: &str,
        migration: Option<&Migration<RawValue>>,
        at_once: usize,
        from: Option<&str>,
    ) -> Result<Export, ConnectError> {
        let table = &self.table;
        let last = from.map(|from| place_of(from, table)).transpose()?;
        let (key, vector) = (quote(&table.key), quote(&table.vector));
        // As late passes of a run do.
        let select = |after: &str| {
            let mut from = format!("{} t", table.sql());
            let mut condition = format!("t.{vector} IS NOT NULL");
            if let Some(migration) = migration {
                from += &format!(
                    " LEFT JOIN (SELECT * FROM {} t WHERE true{after}) s ON s.{key} = t.{key}",
                    migration.copies.sql()
                );
                condition += &format!(" AND (s.{key} IS NULL OR s.perennial_source <> t.xmin)");
            }
            format!("SELECT {columns} FROM {from} WHERE {condition}{after} ORDER BY t.{key}")
        };
        let first = format!("{} LIMIT $1", select(""));
        let after = format!("{} LIMIT $2", select(&format!(" AND t.{key} > $1")));
        Ok(Export::InOrder {
            first: Query::new(first),
            after: Query::new(after),
            at_once,
            last,
            over: false,
        })
    }

    /// A seeded sample, and rows that are in it in any case. The server orders keys by a hash, so that the sample depends on keys alone.
    async fn sampled(
        &self,
        columns: &str,
        (count, seed): (u64, i64),
        also: &[ItemId],
        at_once: usize,
    ) -> Result<Export, ConnectError> {
        let table = &self.table;
        let (key, vector) = (quote(&table.key), quote(&table.vector));
        let choose = format!(
            "SELECT t.{key} FROM {} t WHERE t.{vector} IS NOT NULL ORDER BY hashtextextended(t.{key}::text, $1), t.{key} LIMIT $2",
            table.sql()
        );
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let choose = async { Ok(self.reader.query(&choose, &[&seed, &count]).await?) };
        let mut rows = within(choose).await?;
        if !also.is_empty() {
            // Compared as texts: an id that is no key of this type names no row, and is no error.
            let choose = format!(
                "SELECT t.{key} FROM {} t WHERE t.{vector} IS NOT NULL AND t.{key}::text = ANY($1) ORDER BY t.{key}",
                table.sql()
            );
            let also: Vec<String> = also.iter().map(id_text).collect();
            let choose = async { Ok(self.reader.query(&choose, &[&also]).await?) };
            rows.extend(within(choose).await?);
        }
        let mut chosen = HashSet::with_capacity(rows.len());
        let mut keys = Vec::with_capacity(rows.len());
        for row in rows {
            let key = RawValue(row.try_get::<_, Raw<'_>>(0)?.0.to_vec());
            if chosen.insert(key.clone()) {
                keys.push(key);
            }
        }
        let fetch = format!(
            "SELECT {columns} FROM {} t WHERE t.{key} = ANY($1) AND t.{vector} IS NOT NULL ORDER BY t.{key}",
            table.sql()
        );
        Ok(Export::Sample {
            fetch: Query::new(fetch),
            keys,
            at_once,
            done: 0,
        })
    }

    fn row(&self, row: &Row) -> Result<Exported, ConnectError> {
        let label: Option<String> = row.try_get(3)?;
        let mut vector = Vec::new();
        read_vector(
            self.table.kind,
            row.try_get::<_, Raw<'_>>(2)?.0,
            &mut vector,
        )?;
        let id = item_id(row.try_get(1)?)?;
        let kind: Option<String> = row.try_get(4)?;
        if let Some("array" | "object") = kind.as_deref() {
            return Err(ConnectError::Usage(format!(
                "the label of row {id} is a list or an object; name a field with a text or a number"
            )));
        }
        let label = label.map(|text| row_label(text, &id)).transpose()?;
        Ok(Exported {
            label: label.flatten(),
            id,
            vector,
        })
    }
}

impl Looking for Postgres {
    type Export = Export;
    type Search = Search;

    const RECALL_REMEDY: &'static str =
        "raise hnsw.ef_search or ivfflat.probes, or build it with higher settings";

    async fn first_dim(&self) -> Result<usize, ConnectError> {
        let table = &self.table;
        let (key, vector) = (quote(&table.key), quote(&table.vector));
        let query = format!(
            "SELECT {}.vector_dims({vector}) FROM {} WHERE {vector} IS NOT NULL ORDER BY {key} LIMIT 1",
            quote(&table.vector_schema),
            table.sql()
        );
        let row = self.reader.query_opt(&query, &[]).await?.ok_or_else(|| {
            ConnectError::State(format!("{}.{} holds no vectors", table.schema, table.name))
        })?;
        Ok(row.try_get::<_, i32>(0)?.max(0) as usize)
    }

    async fn export(
        &mut self,
        rows: &Rows,
        migration: Option<&Migration<RawValue>>,
        label: Option<&str>,
        at_once: usize,
        from: Option<&str>,
    ) -> Result<Export, ConnectError> {
        let columns = self.exported(label)?;
        match rows {
            Rows::Sample { count, seed, also } => {
                self.sampled(&columns, (*count, *seed), also, at_once).await
            }
            Rows::All | Rows::Pending(_) => self.in_order(&columns, migration, at_once, from),
        }
    }

    async fn labels_there(&mut self) -> Result<String, ConnectError> {
        let table = &self.table;
        Ok(format!(
            "columns of {}.{} are {}, of which {} hold JSON with fields",
            table.schema,
            table.name,
            table.columns.join(", "),
            match table.json_columns.is_empty() {
                true => "none".to_owned(),
                false => table.json_columns.join(", "),
            }
        ))
    }

    fn place(&self, export: &Export) -> Option<String> {
        match export {
            Export::InOrder {
                last: Some(last),
                over: false,
                ..
            } => Some(place_text(last, &self.table)),
            Export::InOrder { .. } | Export::Sample { .. } => None,
        }
    }

    fn resume(&self, export: &mut Export) {
        match export {
            Export::InOrder { first, after, .. } => {
                first.forget();
                after.forget();
            }
            Export::Sample { fetch, .. } => fetch.forget(),
        }
    }

    async fn next_exported(
        &mut self,
        export: &mut Export,
    ) -> Result<Option<Vec<Exported>>, ConnectError> {
        let rows = match export {
            Export::InOrder { over: true, .. } => return Ok(None),
            Export::InOrder {
                first,
                after,
                at_once,
                last,
                over,
            } => {
                let most = *at_once as i64;
                let read = async {
                    Ok(match &*last {
                        None => {
                            let first = first.on(&self.reader).await?;
                            self.reader.query(&first, &[&most]).await?
                        }
                        Some(key) => {
                            let after = after.on(&self.reader).await?;
                            self.reader.query(&after, &[key, &most]).await?
                        }
                    })
                };
                let rows = within(read).await?;
                *last = match rows.last() {
                    Some(row) => Some(RawValue(row.try_get::<_, Raw<'_>>(0)?.0.to_vec())),
                    None => return Ok(None),
                };
                *over = rows.len() < *at_once;
                rows
            }
            Export::Sample {
                fetch,
                keys,
                at_once,
                done,
            } => {
                let some = &keys[*done..keys.len().min(*done + *at_once)];
                if some.is_empty() {
                    return Ok(None);
                }
                let read = async {
                    let fetch = fetch.on(&self.reader).await?;
                    Ok(self.reader.query(&fetch, &[&KeyArray(some)]).await?)
                };
                let rows = within(read).await?;
                *done += some.len();
                rows
            }
        };
        let rows: Result<Vec<Exported>, ConnectError> =
            rows.iter().map(|row| self.row(row)).collect();
        rows.map(Some)
    }

    async fn survey(&mut self, limit: u64) -> Result<Survey, ConnectError> {
        survey(&self.reader, &self.table, limit).await
    }

    /// Into a temporary table, which is not logged.
    async fn probe(
        &mut self,
        probes: Vec<Probe<RawValue, u32>>,
        dim: usize,
    ) -> Result<Option<f64>, ConnectError> {
        let mut encoded = CopyRows::new(self.table.kind);
        let mut pieces = Vec::new();
        for probe in probes {
            let vectors = probe.vectors.chunks_exact(dim);
            for ((key, &source), vector) in probe.keys.iter().zip(&probe.sources).zip(vectors) {
                encoded.push(key, source, vector)?;
                pieces.extend(encoded.full());
            }
        }
        pieces.push(encoded.finish());
        // A role that may make no temporary tables is no error.
        Ok(self.write_temporarily(dim, pieces).await.ok())
    }

    async fn pairs(
        &mut self,
        migration: &Migration<RawValue>,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Pair>, ConnectError> {
        let table = &self.table;
        let (key, vector) = (quote(&table.key), quote(&table.vector));
        let query = format!(
            "SELECT t.{vector}, s.{vector} FROM {rows} t JOIN {copies} s ON s.{key} = t.{key} WHERE s.perennial_source = t.xmin AND s.{key} IN \
             (SELECT {key} FROM {copies} ORDER BY hashtextextended({key}::text, $1), {key} LIMIT $2)",
            rows = table.sql(),
            copies = migration.copies.sql()
        );
        let most = count.min(1 << 20) as i64;
        let rows = self.reader.query(&query, &[&seed, &most]).await?;
        rows.iter()
            .map(|row| {
                let (mut old, mut copy) = (Vec::new(), Vec::new());
                read_vector(table.kind, row.try_get::<_, Raw<'_>>(0)?.0, &mut old)?;
                read_vector(table.kind, row.try_get::<_, Raw<'_>>(1)?.0, &mut copy)?;
                Ok(Pair { old, copy })
            })
            .collect()
    }

    async fn copied(
        &mut self,
        migration: &Migration<RawValue>,
        ids: &[ItemId],
    ) -> Result<Vec<Option<Vec<f32>>>, ConnectError> {
        let table = &self.table;
        let (key, vector) = (quote(&table.key), quote(&table.vector));
        let query = format!(
            "SELECT u.place, s.{vector} FROM unnest($1::text[]) WITH ORDINALITY AS u(id, place) \
             JOIN {} s ON s.{key} = u.id::{} WHERE s.perennial_source IS NOT NULL",
            migration.copies.sql(),
            table.key_type
        );
        let texts: Vec<String> = ids.iter().map(id_text).collect();
        let mut copies = vec![None; ids.len()];
        let rows = self.reader.query(&query, &[&texts]).await;
        for row in rows.map_err(|error| not_of_type(error.into(), table))? {
            let place: i64 = row.try_get(0)?;
            let mut copy = Vec::new();
            read_vector(table.kind, row.try_get::<_, Raw<'_>>(1)?.0, &mut copy)?;
            if let Some(slot) = copies.get_mut((place - 1) as usize) {
                *slot = Some(copy);
            }
        }
        Ok(copies)
    }

    /// Exactly: the column's type rounds each value to the nearest that it has.
    fn as_stored(&self, vector: &[f32]) -> (Vec<f32>, f32) {
        let rounded = match self.table.kind {
            VectorType::Vector => vector.to_vec(),
            VectorType::HalfVec => vector
                .iter()
                .map(|&value| f16::from_f32(value).to_f32())
                .collect(),
        };
        (rounded, 0.0)
    }

    fn rounding(&self) -> f32 {
        match self.table.kind.value_bytes() {
            4 => ROUNDING[0],
            _ => ROUNDING[1],
        }
    }

    async fn search(
        &mut self,
        migration: &Migration<RawValue>,
    ) -> Result<Option<Search>, ConnectError> {
        let copies = copies_of(&self.reader, migration).await?;
        let operator = copies.indexes.first().and_then(|index| index.operator());
        Ok(operator.map(|operator| Search { copies, operator }))
    }

    async fn sample(
        &mut self,
        search: &Search,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Vec<f32>>, ConnectError> {
        let copies = &search.copies;
        let (key, vector) = (quote(&copies.key), quote(&copies.vector));
        let query = format!(
            "SELECT s.{vector} FROM {table} s WHERE s.{key} IN (SELECT {key} FROM {table} ORDER BY hashtextextended({key}::text, $1), {key} LIMIT $2)",
            table = copies.sql()
        );
        let rows = self.reader.query(&query, &[&seed, &(count as i64)]).await?;
        rows.iter()
            .map(|row| {
                let mut one = Vec::new();
                read_vector(copies.kind, row.try_get::<_, Raw<'_>>(0)?.0, &mut one)?;
                Ok(one)
            })
            .collect()
    }

    /// With one way of scanning switched off.
    async fn distances(
        &mut self,
        search: &Search,
        query: &[f32],
        k: u32,
        exact: bool,
    ) -> Result<Vec<f64>, ConnectError> {
        let copies = &search.copies;
        let distance = format!(
            "{} {} $1",
            quote(&copies.vector),
            copies.operator_sql(search.operator)
        );
        let select = format!(
            "SELECT ({distance})::float8 FROM {} ORDER BY {distance} LIMIT $2",
            copies.sql()
        );
        let mut vector = BytesMut::new();
        put_vector(copies.kind, query, &mut vector)?;
        let off = match exact {
            true => "enable_indexscan",
            false => "enable_seqscan",
        };
        let transaction = self.reader.transaction().await?;
        transaction
            .batch_execute(&format!(
                "SET LOCAL enable_indexscan = on; SET LOCAL enable_seqscan = on; SET LOCAL {off} = off"
            ))
            .await?;
        let rows = transaction
            .query(&select, &[&RawValue(vector.to_vec()), &i64::from(k)])
            .await?;
        transaction.rollback().await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

impl Postgres {
    /// Seconds that writing takes. Nothing stays.
    async fn write_temporarily(
        &mut self,
        dim: usize,
        pieces: Vec<bytes::Bytes>,
    ) -> Result<f64, ConnectError> {
        let table = &self.table;
        let (key, vector) = (quote(&table.key), quote(&table.vector));
        let transaction = self.reader.transaction().await?;
        transaction
            .batch_execute(&format!(
                "CREATE TEMPORARY TABLE perennial_probe ON COMMIT DROP AS SELECT t.{key}, t.xmin AS perennial_source, NULL::{} AS {vector} \
                 FROM {} t WITH NO DATA; ALTER TABLE perennial_probe ADD PRIMARY KEY ({key})",
                table.vector_type(dim),
                table.sql()
            ))
            .await?;
        let begun = std::time::Instant::now();
        let sink = transaction
            .copy_in("COPY pg_temp.perennial_probe FROM STDIN (FORMAT binary)")
            .await?;
        let mut sink = std::pin::pin!(sink);
        for piece in pieces {
            sink.as_mut().feed(piece).await?;
        }
        sink.finish().await?;
        let seconds = begun.elapsed().as_secs_f64();
        transaction.rollback().await?;
        Ok(seconds)
    }
}
