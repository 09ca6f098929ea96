//! A seeded sample of copies against what they were made from: old vectors through the bridge again, or the files of new embeddings.

use std::collections::{BinaryHeap, HashMap};
use std::path::PathBuf;

use perennial_bridge::Bridge;
use perennial_core::ItemId;
use perennial_core::checksum::short_hash;

use crate::engine::{Looking, Migration, Origin, again, batch_rows};
use crate::error::ConnectError;
use crate::observer::Observer;

/// Copies that are compared at most, which bounds the memory.
const MOST: u64 = 1 << 20;
/// Copies that are asked for at a time.
const AT_ONCE: usize = 512;

/// What a comparison found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Compared {
    /// Copies that were compared.
    pub(super) compared: u64,
    /// Of those, copies that differ.
    pub(super) different: u64,
    /// The largest difference of a value.
    pub(super) largest: f32,
}

impl Compared {
    /// Counts one pair of vectors; values may differ by `allowed`.
    fn count(&mut self, copy: &[f32], wanted: &[f32], allowed: f32) {
        self.compared += 1;
        if copy.len() != wanted.len() {
            self.different += 1;
            return;
        }
        let differences = copy.iter().zip(wanted).map(|(a, b)| (a - b).abs());
        // No number is as bad as can be.
        let largest = differences.fold(0.0, |most: f32, one| match one.is_nan() {
            true => f32::INFINITY,
            false => most.max(one),
        });
        self.largest = self.largest.max(largest);
        self.different += u64::from(largest > allowed);
    }
}

/// Maps a sample of old vectors again.
pub(super) async fn compare_mapped<E: Looking>(
    engine: &mut E,
    migration: &Migration<E::Key>,
    bridge: &Bridge,
    (sample, seed): (u64, i64),
    observer: &mut dyn Observer,
) -> Result<Compared, ConnectError> {
    match &migration.origin {
        Origin::Bridge { bridge: was, .. } if *was == bridge.sha256() => {}
        Origin::Bridge { bridge: was, .. } => {
            return Err(ConnectError::Usage(format!(
                "the copies were made by the bridge {was}, and this one is {}",
                bridge.sha256()
            )));
        }
        Origin::Files => {
            return Err(ConnectError::Usage(
                "the copies come from files of new embeddings, and no bridge made them; pass the files with --side-by-side".to_owned(),
            ));
        }
    }
    let allowed = engine.rounding();
    let mut found = Compared::default();
    let mut mapped = Vec::new();
    let pairs = async |engine: &mut E| engine.pairs(migration, sample.min(MOST), seed).await;
    for pair in again(engine, observer, pairs).await? {
        let right = pair.old.len() == bridge.from().dim;
        if !right || bridge.apply(&pair.old, &mut mapped).is_err() {
            mapped.clear();
        }
        found.count(&pair.copy, &mapped, allowed);
    }
    Ok(found)
}

/// Reads files again, in the order in which they were handed over, and compares a sample of their vectors with the copies: each must be what the last
/// file that names its row holds, as the column's type rounds it.
pub(super) async fn compare_files<E: Looking>(
    engine: &mut E,
    migration: &Migration<E::Key>,
    files: &[PathBuf],
    (sample, seed): (u64, i64),
    observer: &mut dyn Observer,
) -> Result<Compared, ConnectError> {
    if let Origin::Bridge { .. } = migration.origin {
        return Err(ConnectError::Usage(
            "the copies were made by a bridge and come from no files; pass the bridge with --mapped".to_owned(),
        ));
    }
    let count = sample.min(MOST) as usize;
    let mut vectors = Sampled::new(count, seed);
    for path in files {
        let mut reader = perennial_formats::open(path)?;
        let dim = reader.header().dim;
        if dim != migration.dim {
            return Err(ConnectError::Usage(format!(
                "{} holds vectors of {dim} values, and {} is for {}",
                path.display(),
                migration.copies,
                migration.dim
            )));
        }
        while let Some(set) = reader.next(batch_rows(dim, None))? {
            let Some(ids) = set.ids() else {
                return Err(ConnectError::Usage(format!(
                    "{} has no ids, so no copies come from it",
                    path.display()
                )));
            };
            for (row, id) in ids.iter().enumerate() {
                let vector = set.row(row);
                // A run makes no copy of such a row.
                if vector.iter().any(|&value| value != 0.0) {
                    vectors.add(id, vector);
                }
            }
        }
    }
    let vectors: Vec<(ItemId, Vec<f32>)> = vectors.vectors.into_iter().collect();
    let mut found = Compared::default();
    for some in vectors.chunks(AT_ONCE) {
        let ids: Vec<ItemId> = some.iter().map(|(id, _)| id.clone()).collect();
        let copied = async |engine: &mut E| engine.copied(migration, &ids).await;
        let copies = again(engine, observer, copied).await?;
        for (copy, (_, vector)) in copies.iter().zip(some) {
            if let Some(copy) = copy {
                let (wanted, allowed) = engine.as_stored(vector);
                found.count(copy, &wanted, allowed);
            }
        }
    }
    Ok(found)
}

/// The vectors of the ids with the smallest seeded hashes; of an id that comes again, the last one.
struct Sampled {
    count: usize,
    seed: i64,
    smallest: BinaryHeap<(u64, ItemId)>,
    vectors: HashMap<ItemId, Vec<f32>>,
}

impl Sampled {
    fn new(count: usize, seed: i64) -> Self {
        Self {
            count,
            seed,
            smallest: BinaryHeap::new(),
            vectors: HashMap::new(),
        }
    }

    fn add(&mut self, id: &ItemId, vector: &[f32]) {
        if let Some(known) = self.vectors.get_mut(id) {
            *known = vector.to_vec();
            return;
        }
        let hash = short_hash(format!("{} {id}", self.seed).as_bytes());
        let full = self.smallest.len() >= self.count;
        if full && self.smallest.peek().is_none_or(|(most, _)| hash >= *most) {
            return;
        }
        self.smallest.push((hash, id.clone()));
        self.vectors.insert(id.clone(), vector.to_vec());
        if full && let Some((_, gone)) = self.smallest.pop() {
            self.vectors.remove(&gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_of_files_is_bounded_and_does_not_depend_on_their_order() {
        let of = |ids: &mut dyn Iterator<Item = u64>| {
            let mut sampled = Sampled::new(10, 7);
            for id in ids {
                sampled.add(&ItemId::Number(id), &[id as f32]);
            }
            let mut chosen: Vec<ItemId> = sampled.vectors.into_keys().collect();
            chosen.sort();
            chosen
        };
        let chosen = of(&mut (0..1000));
        assert_eq!(chosen.len(), 10);
        assert_eq!(chosen, of(&mut (0..1000).rev()));
        assert_ne!(chosen, of(&mut (0..500)));
    }

    #[test]
    fn the_last_vector_of_an_id_counts() {
        let mut sampled = Sampled::new(2, 0);
        for value in [1.0, 2.0] {
            sampled.add(&ItemId::Number(5), &[value]);
        }
        assert_eq!(sampled.vectors[&ItemId::Number(5)], [2.0]);
        let mut nothing = Sampled::new(0, 0);
        nothing.add(&ItemId::Number(5), &[1.0]);
        assert!(nothing.vectors.is_empty());
    }

    #[test]
    fn values_that_are_no_numbers_differ() {
        let mut found = Compared::default();
        found.count(&[1.0, 2.0], &[1.0, 2.0], 0.0);
        found.count(&[1.0, f32::NAN], &[1.0, 2.0], 0.5);
        found.count(&[1.0], &[1.0, 2.0], 0.5);
        found.count(&[1.0, 2.25], &[1.0, 2.0], 0.5);
        assert_eq!((found.compared, found.different), (4, 2));
    }
}
