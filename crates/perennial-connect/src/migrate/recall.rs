//! The recall of an approximate index against exact search, both by the database itself.

use crate::engine::{Looking, again};
use crate::error::ConnectError;
use crate::observer::Observer;

/// Distances that differ by less are equal.
const TIE: f64 = 1e-6;

/// Mean share of the `k` exactly nearest that the index finds too, by distance, so that ties count as found.
pub(super) async fn recall<E: Looking>(
    engine: &mut E,
    search: &E::Search,
    queries: &[Vec<f32>],
    k: u32,
    observer: &mut dyn Observer,
) -> Result<f64, ConnectError> {
    let mut total = 0.0;
    for query in queries {
        let both = async |engine: &mut E| {
            let exact = engine.distances(search, query, k, true).await?;
            Ok((exact, engine.distances(search, query, k, false).await?))
        };
        let (exact, found) = again(engine, observer, both).await?;
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
