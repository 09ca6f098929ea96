//! How fast rows are read, mapped and written here, measured on a few thousand of them.

use std::time::Instant;

use perennial_bridge::Bridge;
use serde::Serialize;

use super::mapping::map;
use crate::engine::{Copying, Looking, Probe, Which, batch_rows};
use crate::error::ConnectError;

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
    /// Writing new vectors into a temporary table, which is not logged; nothing where there are none, or the role may make none.
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
pub(super) async fn measure<E: Copying + Looking>(
    engine: &mut E,
    dim: usize,
    bridge: Option<&Bridge>,
    new_dim: usize,
) -> Result<Option<MeasuredRates>, ConnectError> {
    let rows = batch_rows(dim.max(new_dim), None);
    let mut reader = engine.reader(None, Which::All, dim, rows).await?;
    let mut place = None;
    let (mut read, mut mapping) = (0.0, 0.0);
    let mut count = 0;
    let mut probes = Vec::new();
    while count < ROWS {
        let begun = Instant::now();
        let Some(batch) = engine.read(&mut reader, place.as_ref()).await? else {
            break;
        };
        read += begun.elapsed().as_secs_f64();
        place = batch.place.clone();
        let last = batch.last;
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
        let none = batch.keys.is_empty();
        probes.push(Probe {
            keys: batch.keys,
            sources: batch.sources,
            vectors,
        });
        if none || last {
            break;
        }
    }
    if count == 0 {
        return Ok(None);
    }
    let rate = |seconds: f64| count as f64 / seconds.max(1e-6);
    Ok(Some(MeasuredRates {
        rows: count as u64,
        read: rate(read),
        map: bridge.map(|_| rate(mapping)),
        write: engine.probe(probes, new_dim).await?.map(rate),
    }))
}
