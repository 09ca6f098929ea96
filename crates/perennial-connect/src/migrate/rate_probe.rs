//! How fast rows are read, mapped and written here, measured on a few thousand of them.

use std::time::Instant;

use perennial_bridge::Bridge;
use serde::Serialize;
use tokio_postgres::Client;

use super::batch::{RowReader, Which, batch_rows};
use super::mapping::map;
use crate::error::ConnectError;
use crate::postgres::{CopyRows, RawValue, VectorTable, quote};

/// Rows that are measured with.
const ROWS: usize = 8192;

/// Rows per second of each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeasuredRates {
    /// Rows that this was measured on.
    pub rows: u64,
    /// Reading old vectors.
    pub read: f64,
    /// Mapping; nothing without a bridge.
    pub map: Option<f64>,
    /// Writing new vectors into a temporary table, which is not logged; nothing where the role may make none.
    pub write: Option<f64>,
}

impl MeasuredRates {
    /// Rows per second of all steps, one after the other.
    pub(super) fn together(&self) -> f64 {
        let steps = [Some(self.read), self.map, self.write];
        let seconds: f64 = steps.into_iter().flatten().map(f64::recip).sum();
        seconds.recip()
    }
}

/// Reads, maps and writes some rows. Nothing stays.
pub(super) async fn measure(
    client: &mut Client,
    table: &VectorTable,
    dim: usize,
    bridge: Option<&Bridge>,
    new_dim: usize,
) -> Result<Option<MeasuredRates>, ConnectError> {
    let rows = batch_rows(dim.max(new_dim), None);
    let reader = RowReader::new(client, table, Which::All, "", dim, rows).await?;
    let mut last: Option<RawValue> = None;
    let (mut read, mut mapping) = (0.0, 0.0);
    let mut count = 0;
    let mut encoded = CopyRows::new(table.kind);
    let mut pieces = Vec::new();
    while count < ROWS {
        let begun = Instant::now();
        let Some(batch) = reader.next(client, last.as_ref()).await? else {
            break;
        };
        read += begun.elapsed().as_secs_f64();
        last = batch.last.clone();
        let begun = Instant::now();
        let (batch, vectors) = match bridge {
            Some(bridge) => {
                let mapped = map(bridge, batch)?;
                (mapped.batch, mapped.vectors)
            }
            None => {
                let vectors = vec![0.5; batch.keys.len() * new_dim];
                (batch, vectors)
            }
        };
        mapping += begun.elapsed().as_secs_f64();
        count += batch.keys.len();
        for ((key, &source), vector) in batch
            .keys
            .iter()
            .zip(&batch.sources)
            .zip(vectors.chunks_exact(new_dim))
        {
            encoded.push(key, source, vector)?;
            pieces.extend(encoded.full());
        }
        if batch.keys.is_empty() {
            break;
        }
    }
    if count == 0 {
        return Ok(None);
    }
    pieces.push(encoded.finish());
    let rate = |seconds: f64| count as f64 / seconds.max(1e-6);
    Ok(Some(MeasuredRates {
        rows: count as u64,
        read: rate(read),
        map: bridge.map(|_| rate(mapping)),
        write: write(client, table, new_dim, pieces).await.ok().map(rate),
    }))
}

/// Seconds that writing takes.
async fn write(
    client: &mut Client,
    table: &VectorTable,
    new_dim: usize,
    pieces: Vec<bytes::Bytes>,
) -> Result<f64, ConnectError> {
    use futures_util::SinkExt;

    let (key, vector) = (quote(&table.key), quote(&table.vector));
    let transaction = client.transaction().await?;
    transaction
        .batch_execute(&format!(
            "CREATE TEMPORARY TABLE perennial_probe ON COMMIT DROP AS SELECT t.{key}, t.xmin AS perennial_source, NULL::{} AS {vector} \
             FROM {} t WITH NO DATA; ALTER TABLE perennial_probe ADD PRIMARY KEY ({key})",
            table.vector_type(new_dim),
            table.sql()
        ))
        .await?;
    let begun = Instant::now();
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
