//! The recall of an approximate index against exact search, both by the database itself.

use bytes::BytesMut;
use perennial_formats::VectorSet;
use tokio_postgres::{Client, Transaction};

use crate::error::ConnectError;
use crate::postgres::{Raw, RawValue, VectorTable, VectorType, put_vector, quote};

/// Distances that differ by less are equal.
const TIE: f64 = 1e-6;

/// Vectors to search with, in the server's form.
pub(super) fn given(kind: VectorType, set: &VectorSet) -> Result<Vec<RawValue>, ConnectError> {
    set.vectors()
        .chunks_exact(set.dim())
        .map(|row| {
            let mut bytes = BytesMut::new();
            put_vector(kind, row, &mut bytes)?;
            Ok(RawValue(bytes.to_vec()))
        })
        .collect()
}

/// A seeded sample of stored vectors.
pub(super) async fn sampled(
    client: &Client,
    copies: &VectorTable,
    count: u64,
    seed: i64,
) -> Result<Vec<RawValue>, ConnectError> {
    let (key, vector) = (quote(&copies.key), quote(&copies.vector));
    let query = format!(
        "SELECT s.{vector} FROM {table} s WHERE s.{key} IN (SELECT {key} FROM {table} ORDER BY hashtextextended({key}::text, $1), {key} LIMIT $2)",
        table = copies.sql()
    );
    let rows = client.query(&query, &[&seed, &(count as i64)]).await?;
    rows.iter()
        .map(|row| Ok(RawValue(row.try_get::<_, Raw<'_>>(0)?.0.to_vec())))
        .collect()
}

/// Mean share of the `k` exactly nearest that the index finds too, by distance, so that ties count as found.
pub(super) async fn recall(
    client: &mut Client,
    copies: &VectorTable,
    operator: &str,
    queries: &[RawValue],
    k: i64,
) -> Result<f64, ConnectError> {
    let distance = format!(
        "{} {} $1",
        quote(&copies.vector),
        copies.operator_sql(operator)
    );
    let query = format!(
        "SELECT ({distance})::float8 FROM {} ORDER BY {distance} LIMIT $2",
        copies.sql()
    );
    let mut total = 0.0;
    for one in queries {
        let transaction = client.transaction().await?;
        let exact = distances(&transaction, "enable_indexscan", &query, one, k).await?;
        let found = distances(&transaction, "enable_seqscan", &query, one, k).await?;
        transaction.rollback().await?;
        let Some(&farthest) = exact.last() else {
            continue;
        };
        let right = found
            .iter()
            .filter(|&&distance| distance <= farthest + TIE)
            .count();
        total += right.min(exact.len()) as f64 / exact.len() as f64;
    }
    Ok(total / queries.len().max(1) as f64)
}

/// Distances of the nearest, with one way of scanning switched off.
async fn distances(
    transaction: &Transaction<'_>,
    off: &str,
    query: &str,
    vector: &RawValue,
    k: i64,
) -> Result<Vec<f64>, ConnectError> {
    transaction
        .batch_execute(&format!(
            "SET LOCAL enable_indexscan = on; SET LOCAL enable_seqscan = on; SET LOCAL {off} = off"
        ))
        .await?;
    let rows = transaction.query(query, &[vector, &k]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
