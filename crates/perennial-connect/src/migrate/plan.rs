//! What a migration will take, before anything is written.

use std::collections::BTreeMap;

use perennial_bridge::Bridge;
use perennial_upgrade::MappedPermission;
use serde::Serialize;
use tokio_postgres::Client;

use super::rate_probe::{MeasuredRates, measure};
use crate::error::ConnectError;
use crate::postgres::{
    Address, QualifiedName, Target, VectorIndex, VectorTable, connect, quote, wait,
};

/// Bytes of a row beside its vector and key: the header, the line pointer, the transaction id, the entry of the key's index.
const ROW_OVERHEAD: u64 = 64;
/// Vectors of a column without a dimension that are looked at.
const LOOKED_AT: i64 = 10_000;

/// A plan of a migration.
#[derive(Debug, Clone)]
pub struct PlanRequest<'a> {
    /// The table.
    pub table: QualifiedName,
    /// Its key.
    pub key: String,
    /// Its column of vectors.
    pub vector: String,
    /// The dimension of the new vectors; with a bridge, the bridge's.
    pub new_dim: Option<usize>,
    /// The bridge of mapped copies.
    pub bridge: Option<&'a Bridge>,
    /// What allows mapped copies.
    pub permission: Option<&'a MappedPermission>,
    /// The most rows per second.
    pub rate: Option<f64>,
}

/// What a migration will take.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    /// The table, with its schema.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Rows whose vector is NULL.
    pub without_vector: u64,
    /// Numbers of vectors by dimension, of some of the vectors where the column demands no dimension.
    pub dimensions: BTreeMap<u64, u64>,
    /// `vector` or `halfvec`.
    pub vector_type: &'static str,
    /// The approximate indexes of the old vectors.
    indexes: Vec<VectorIndex>,
    /// Bytes of the table, with indexes and long values.
    pub table_bytes: u64,
    /// Dimensions of the new vectors.
    pub new_dim: usize,
    /// `mapped`, where a certificate was given, else `side by side`.
    pub way: &'static str,
    /// What allows mapped copies.
    pub certified: Option<String>,
    /// Bytes of the copies, estimated.
    pub copies_bytes: u64,
    /// Bytes of their index, estimated by that of the old vectors.
    pub index_bytes: u64,
    /// Rates measured here.
    pub rates: Option<MeasuredRates>,
    /// Seconds of copying at these rates, below the rate that was given.
    pub seconds: Option<f64>,
    /// What stands in the way, or should be known.
    pub warnings: Vec<String>,
}

impl PlanReport {
    /// The approximate indexes of the old vectors: name, method, operators and bytes.
    pub fn indexes(&self) -> impl Iterator<Item = (&str, &str, &str, i64)> {
        self.indexes.iter().map(|index| {
            (
                index.name.as_str(),
                index.method.as_str(),
                index.operators.as_str(),
                index.bytes,
            )
        })
    }
}

/// Looks at an index and says what its migration will take. It only reads, but for a temporary table in its own session.
///
/// # Errors
/// [`ConnectError`].
pub fn plan(address: &Address, request: &PlanRequest<'_>) -> Result<PlanReport, ConnectError> {
    wait(async {
        let mut client = connect(address).await?;
        let target = Target {
            table: &request.table,
            key: &request.key,
            vector: &request.vector,
        };
        let table = VectorTable::find(&client, target).await?;
        let (rows, with_vector, table_bytes) = sizes(&client, &table).await?;
        let dimensions = dimensions(&client, &table, with_vector).await?;
        let most_frequent = dimensions.iter().max_by_key(|&(_, count)| *count);
        let dim = most_frequent.map_or(0, |(&dim, _)| dim as usize);
        let new_dim = request.bridge.map(|bridge| bridge.to().dim);
        let new_dim = new_dim.or(request.new_dim).unwrap_or(dim);
        let mut warnings = warnings(&client, &table, request, &dimensions).await?;
        if let Some(bridge) = request.bridge
            && bridge.from().dim != dim
        {
            warnings.push(format!(
                "the bridge takes vectors of {} dimensions, and most of the stored ones have {dim}",
                bridge.from().dim
            ));
        }
        let usable = request.bridge.filter(|bridge| bridge.from().dim == dim);
        let rates = match dim > 0 && new_dim > 0 {
            true => measure(&mut client, &table, dim, usable, new_dim).await?,
            false => None,
        };
        let seconds = rates.map(|rates| {
            let most = request.rate.unwrap_or(f64::INFINITY);
            with_vector as f64 / rates.together().min(most)
        });
        let row_bytes = (new_dim * table.kind.value_bytes()) as u64 + 8 + ROW_OVERHEAD;
        let old_index_bytes: i64 = table.indexes.first().map_or(0, |index| index.bytes);
        let share = new_dim as f64 / dim.max(1) as f64;
        Ok(PlanReport {
            table: format!("{}.{}", table.schema, table.name),
            rows,
            without_vector: rows - with_vector,
            dimensions,
            vector_type: table.kind.name(),
            indexes: table.indexes.clone(),
            table_bytes,
            new_dim,
            way: match request.permission {
                Some(_) => "mapped",
                None => "side by side",
            },
            certified: request
                .permission
                .map(|permission| permission.basis.clone()),
            copies_bytes: with_vector * row_bytes,
            index_bytes: (old_index_bytes.max(0) as f64 * share) as u64,
            rates,
            seconds,
            warnings,
        })
    })
}

async fn sizes(client: &Client, table: &VectorTable) -> Result<(u64, u64, u64), ConnectError> {
    let query = format!(
        "SELECT count(*), count({}), pg_total_relation_size($1::oid) FROM {}",
        quote(&table.vector),
        table.sql()
    );
    let row = client.query_one(&query, &[&table.oid]).await?;
    let count = |index: usize| -> Result<u64, ConnectError> {
        Ok(row.try_get::<_, i64>(index)?.max(0) as u64)
    };
    Ok((count(0)?, count(1)?, count(2)?))
}

async fn dimensions(
    client: &Client,
    table: &VectorTable,
    with_vector: u64,
) -> Result<BTreeMap<u64, u64>, ConnectError> {
    if let Some(dim) = table.dim {
        return Ok(BTreeMap::from([(dim as u64, with_vector)]));
    }
    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let query = format!(
        "SELECT {}.vector_dims({vector}), count(*) FROM (SELECT {vector} FROM {} WHERE {vector} IS NOT NULL \
         ORDER BY hashtextextended({key}::text, 0) LIMIT $1) some GROUP BY 1",
        quote(&table.vector_schema),
        table.sql()
    );
    let rows = client.query(&query, &[&LOOKED_AT]).await?;
    rows.iter()
        .map(|row| {
            let (dim, count): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok((dim.max(0) as u64, count.max(0) as u64))
        })
        .collect()
}

async fn warnings(
    client: &Client,
    table: &VectorTable,
    request: &PlanRequest<'_>,
    dimensions: &BTreeMap<u64, u64>,
) -> Result<Vec<String>, ConnectError> {
    let mut warnings = Vec::new();
    let row = client
        .query_one(
            "SELECT has_schema_privilege($1, 'CREATE'), pg_is_in_recovery()",
            &[&table.schema],
        )
        .await?;
    if !row.try_get::<_, bool>(0)? {
        warnings.push(format!(
            "the role may not make tables in schema {}; a run needs CREATE on it",
            table.schema
        ));
    }
    if row.try_get::<_, bool>(1)? {
        warnings.push(
            "this server is a standby, which cannot be written; run against the primary".to_owned(),
        );
    }
    if dimensions.len() > 1 {
        warnings.push(
            "the vectors have several dimensions; those of another than the bridge takes get no copy"
                .to_owned(),
        );
    }
    if dimensions.is_empty() {
        warnings.push("the table holds no vectors".to_owned());
    }
    if request.bridge.is_some() && request.permission.is_none() {
        warnings.push(
            "no certificate was given, and without one nothing is mapped; measure with `perennial certify --route mapped --bridge`"
                .to_owned(),
        );
    }
    if table.indexes.len() > 1 {
        warnings.push(format!(
            "the old vectors have {} approximate indexes; the new ones get one like {}",
            table.indexes.len(),
            table.indexes[0].name
        ));
    }
    Ok(warnings)
}
