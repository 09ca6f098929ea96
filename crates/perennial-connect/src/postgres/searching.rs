//! Searching a table by its own index, as programs do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use perennial_formats::Label;
use tokio_postgres::{GenericClient, IsolationLevel, Statement};

use super::copy_index::copies_of;
use super::engine::Postgres;
use super::identifier::{literal, quote};
use super::key_text::{item_id, label_text, read_label};
use super::table::VectorTable;
use super::vector_type::VectorType;
use super::wire::{Raw, RawValue, put_vector, read_vector};
use crate::engine::{Migration, Nearest, Searched, Searching, segments};
use crate::error::ConnectError;

/// The operator of a table without an approximate index: the cosine distance.
const COSINE: &str = "<=>";

/// Labels that are counted beside those that are asked for, at most: a column may have as many as the table has rows.
const OTHER_LABELS: usize = 16;

/// A search of one column.
pub(crate) struct Prepared {
    statement: Statement,
    kind: VectorType,
    /// Chooses vectors of a sample.
    sample: String,
}

/// A label as SQL has it.
pub(super) struct LabelSql {
    /// Its value; NULL where there is none, and for a list or an object.
    pub(super) value: String,
    /// `array` or `object` where the value is one of them, else anything or NULL.
    pub(super) kind: String,
}

impl Postgres {
    /// The column of the label, or the field of a column with JSON.
    pub(super) fn label_sql(&self, label: Option<&str>) -> Result<LabelSql, ConnectError> {
        let plain = |value: String| LabelSql {
            value,
            kind: "NULL".to_owned(),
        };
        let Some(label) = label else {
            return Ok(plain("NULL".to_owned()));
        };
        let table = &self.table;
        if table.columns.iter().any(|column| column == label) {
            return Ok(plain(format!("t.{}", quote(label))));
        }
        let names = segments(label).unwrap_or_default();
        if let Some((column, fields @ [_, ..])) = names.split_first()
            && table.columns.contains(column)
        {
            if !table.json_columns.contains(column) {
                return Err(ConnectError::State(format!(
                    "column {column} of {}.{} holds no JSON, so there is no {label} in it; name a column, or a field of a json or jsonb column",
                    table.schema, table.name
                )));
            }
            let fields: Vec<String> = fields.iter().map(|field| literal(field)).collect();
            let field = format!(
                "(t.{}::jsonb #> ARRAY[{}]::text[])",
                quote(column),
                fields.join(", ")
            );
            let kind = format!("jsonb_typeof({field})");
            return Ok(LabelSql {
                value: format!(
                    "(CASE WHEN {kind} IN ('array', 'object') THEN NULL ELSE {field} #>> '{{}}' END)"
                ),
                kind,
            });
        }
        Err(ConnectError::State(format!(
            "{}.{} has no column {label}; its columns are {}, and a field of a json or jsonb column is named as COLUMN.FIELD",
            table.schema,
            table.name,
            table.columns.join(", ")
        )))
    }
}

/// The operator that a table's first index orders by.
fn order(table: &VectorTable) -> String {
    let operator = table.indexes.first().and_then(|index| index.operator());
    table.operator_sql(operator.unwrap_or(COSINE))
}

async fn nearest(
    client: &impl GenericClient,
    prepared: &Prepared,
    query: &[f32],
    k: u32,
) -> Result<Vec<Nearest>, ConnectError> {
    let mut vector = BytesMut::new();
    put_vector(prepared.kind, query, &mut vector)?;
    let vector = RawValue(vector.to_vec());
    let rows = client
        .query(&prepared.statement, &[&vector, &i64::from(k)])
        .await?;
    rows.iter()
        .map(|row| {
            let label: Option<String> = row.try_get(1)?;
            let cosine: Option<f64> = row.try_get(2)?;
            Ok(Nearest {
                id: item_id(row.try_get(0)?)?,
                // What files cannot hold is the label of no query.
                label: label.and_then(|text| read_label(text).ok()),
                cosine: cosine.unwrap_or(f64::NAN) as f32,
            })
        })
        .collect()
}

impl Searching for Postgres {
    type Prepared = Prepared;

    async fn prepare(
        &mut self,
        searched: Searched,
        migration: Option<&Migration<RawValue>>,
        label: Option<&str>,
    ) -> Result<Prepared, ConnectError> {
        let label = self.label_sql(label)?.value;
        let table = self.table.clone();
        let (rows, key, vector) = (table.sql(), quote(&table.key), quote(&table.vector));
        let copies = match (searched, migration) {
            (Searched::Old, _) => None,
            (_, Some(migration)) => Some(copies_of(&self.reader, migration).await?),
            (_, None) => {
                return Err(ConnectError::State(
                    "there are no copies to search".to_owned(),
                ));
            }
        };
        let (searched_table, from, condition) = match (&copies, searched) {
            (Some(copies), Searched::Copies) => (copies, copies.sql(), String::new()),
            // Copies without a transaction id were written by the application, which answers for them.
            (Some(copies), Searched::Current) => {
                let current = format!(
                    " AND EXISTS (SELECT FROM {rows} t WHERE t.{key} = v.{key} AND t.{vector} IS NOT NULL \
                     AND (v.perennial_source IS NULL OR v.perennial_source = t.xmin))"
                );
                (copies, copies.sql(), current)
            }
            (Some(copies), _) => {
                let pending = format!(
                    " AND NOT EXISTS (SELECT FROM {} s WHERE s.{key} = v.{key} \
                     AND (s.perennial_source IS NULL OR s.perennial_source = v.xmin))",
                    copies.sql()
                );
                (&table, rows.clone(), pending)
            }
            (None, _) => (&table, rows.clone(), String::new()),
        };
        // With a condition, an index that stops at its usual number of rows would find too few. Versions of pgvector without the setting
        // take it for one of somebody else's.
        let scan = match condition.is_empty() {
            true => "RESET hnsw.iterative_scan; RESET ivfflat.iterative_scan",
            false => {
                "SET hnsw.iterative_scan = strict_order; SET ivfflat.iterative_scan = relaxed_order"
            }
        };
        let _ = self.reader.batch_execute(scan).await;
        let order = order(searched_table);
        let cosine = table.operator_sql(COSINE);
        // The index is asked alone, and the label comes to what it found.
        let query = format!(
            "SELECT n.{key}::text, {label}::text, n.cosine FROM (SELECT v.{key}, v.{vector} {order} $1 AS distance, \
             (1 - (v.{vector} {cosine} $1))::float8 AS cosine FROM {from} v WHERE v.{vector} IS NOT NULL{condition} \
             ORDER BY v.{vector} {order} $1 LIMIT $2) n LEFT JOIN {rows} t ON t.{key} = n.{key} ORDER BY n.distance"
        );
        let sample = format!(
            "SELECT v.{vector} FROM {from} v WHERE v.{vector} IS NOT NULL{condition} \
             ORDER BY hashtextextended(v.{key}::text, $1), v.{key} LIMIT $2"
        );
        Ok(Prepared {
            statement: self.reader.prepare(&query).await?,
            kind: table.kind,
            sample,
        })
    }

    async fn nearest(
        &mut self,
        prepared: &Prepared,
        query: &[f32],
        k: u32,
    ) -> Result<Vec<Nearest>, ConnectError> {
        nearest(&self.reader, prepared, query, k).await
    }

    /// From one state of the database, in which each row has an up-to-date copy or has none.
    async fn nearest_in_both(
        &mut self,
        current: (&Prepared, &[f32]),
        pending: (&Prepared, &[f32]),
        k: u32,
    ) -> Result<[Vec<Nearest>; 2], ConnectError> {
        let transaction = self
            .reader
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let current = nearest(&transaction, current.0, current.1, k).await?;
        let pending = nearest(&transaction, pending.0, pending.1, k).await?;
        transaction.commit().await?;
        Ok([current, pending])
    }

    /// A few other labels come with them, which shows that there are other classes.
    async fn labelled(
        &mut self,
        label: &str,
        labels: &[Label],
    ) -> Result<BTreeMap<Label, u64>, ConnectError> {
        let column = self.label_sql(Some(label))?.value;
        let query = format!(
            "SELECT {column}::text, count(*) FROM {} t WHERE t.{} IS NOT NULL AND {column} IS NOT NULL \
             GROUP BY 1 ORDER BY {column}::text = ANY($1) DESC, 1 LIMIT $2",
            self.table.sql(),
            quote(&self.table.vector)
        );
        let texts: BTreeSet<String> = labels.iter().map(label_text).collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let most = (texts.len() + OTHER_LABELS) as i64;
        let mut counts = BTreeMap::new();
        for row in self.reader.query(&query, &[&texts, &most]).await? {
            let count: i64 = row.try_get(1)?;
            // What files cannot hold is the label of no query.
            if let Ok(label) = read_label(row.try_get(0)?) {
                counts.insert(label, count.max(0) as u64);
            }
        }
        Ok(counts)
    }

    async fn some_vectors(
        &mut self,
        prepared: &Prepared,
        count: u64,
        seed: i64,
    ) -> Result<Vec<Vec<f32>>, ConnectError> {
        let count = count as i64;
        let rows = self
            .reader
            .query(&prepared.sample, &[&seed, &count])
            .await?;
        rows.iter()
            .map(|row| {
                let mut vector = Vec::new();
                let raw = row.try_get::<_, Raw<'_>>(0)?;
                read_vector(prepared.kind, raw.0, &mut vector)?;
                Ok(vector)
            })
            .collect()
    }
}
