//! Old vectors in, new vectors out; rows that a bridge gives no direction are left out.

use perennial_bridge::Bridge;

use crate::engine::Batch;
use crate::error::ConnectError;

/// A batch after the bridge.
#[derive(Debug)]
pub(super) struct Mapped<K, S> {
    pub(super) batch: Batch<K, S>,
    /// `[batch.keys, bridge.to().dim]`, unit rows.
    pub(super) vectors: Vec<f32>,
}

/// Maps the vectors of a batch. Rows without a direction move to those without a copy.
///
/// # Errors
/// A bridge that does not take vectors of this dimension.
pub(super) fn map<K, S>(
    bridge: &Bridge,
    mut batch: Batch<K, S>,
) -> Result<Mapped<K, S>, ConnectError> {
    let mut vectors = Vec::new();
    match bridge.apply(&batch.vectors, &mut vectors) {
        Ok(()) => {}
        // A row's result does not depend on the others, so the good ones are the same one by one.
        Err(error) if batch.vectors.len() != batch.keys.len() * bridge.from().dim => {
            return Err(error.into());
        }
        Err(_) => vectors = one_by_one(bridge, &mut batch),
    }
    Ok(Mapped { batch, vectors })
}

fn one_by_one<K, S>(bridge: &Bridge, batch: &mut Batch<K, S>) -> Vec<f32> {
    let dim = bridge.from().dim;
    let (keys, sources) = (
        std::mem::take(&mut batch.keys),
        std::mem::take(&mut batch.sources),
    );
    let rows: Vec<(K, S)> = keys.into_iter().zip(sources).collect();
    let old = std::mem::take(&mut batch.vectors);
    let mut vectors = Vec::new();
    let mut one = Vec::new();
    for ((key, source), row) in rows.into_iter().zip(old.chunks_exact(dim)) {
        if bridge.apply(row, &mut one).is_err() {
            batch.skipped.direction += 1;
            batch.without.push(key);
            continue;
        }
        vectors.extend_from_slice(&one);
        batch.keys.push(key);
        batch.sources.push(source);
        batch.vectors.extend_from_slice(row);
    }
    vectors
}

#[cfg(test)]
mod tests {
    use perennial_bridge::{Pairs, Recipe, fit};
    use perennial_core::SpaceRef;

    use super::*;

    #[test]
    fn rows_without_a_direction_are_left_out() {
        let rows = [1.0, 0.0, 0.0, 1.0, -1.0, 0.1, 0.2, -1.0];
        let pairs = Pairs::new(&rows, 2, &rows, 2).unwrap();
        let spaces = [SpaceRef::unnamed(2), SpaceRef::unnamed(2)];
        let [from, to] = spaces;
        let bridge = fit(&pairs, &Recipe::Orthogonal, from, to).unwrap();
        let batch = || Batch {
            keys: vec![0, 1, 2],
            sources: vec![5, 6, 7],
            vectors: vec![1.0, 2.0, 0.0, 0.0, -1.0, 0.5],
            ..Batch::default()
        };
        let mapped = map(&bridge, batch()).unwrap();
        assert_eq!(mapped.batch.sources, [5, 7]);
        assert_eq!(mapped.batch.without, [1]);
        assert_eq!(mapped.batch.skipped.direction, 1);
        let mut alone = Vec::new();
        bridge.apply(&[-1.0, 0.5], &mut alone).unwrap();
        assert_eq!(mapped.vectors[2..], alone);
        let wrong = Batch {
            vectors: vec![1.0; 3],
            ..batch()
        };
        assert!(map(&bridge, wrong).is_err());
    }
}
