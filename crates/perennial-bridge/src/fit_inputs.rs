//! What identifies the inputs that a bridge was fitted on, so that a later evaluation notices them.

use perennial_core::{ItemId, short_hash};
use rayon::prelude::*;

use crate::error::Side;

/// Hashes of each kind that are kept, at most: 1 MiB of them.
pub(crate) const MAX_HASHES: usize = 1 << 17;

/// Short hashes of the inputs that a bridge was fitted on: of both sides' rows, and of ids.
///
/// A row's hash is that of its values as they were given, each as the four bytes of a little-endian f32. Only ids that are texts count: a
/// number often is no more than a row's place in its file, and says nothing about another file. Of each kind the 131,072 smallest hashes
/// are kept; what has a hash among the kept ones, or between them, is then still told for certain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FitInputs {
    pub(crate) from: Hashes,
    pub(crate) to: Hashes,
    pub(crate) ids: Hashes,
}

impl FitInputs {
    /// The rows of both sides, which need not belong together one to one.
    ///
    /// **Shapes**: `from` `[n, from_dim]`, `to` `[m, to_dim]`, both dimensions at least 1.
    pub fn of(from: &[f32], from_dim: usize, to: &[f32], to_dim: usize) -> Self {
        Self {
            from: Hashes::new(row_hashes(from, from_dim)),
            to: Hashes::new(row_hashes(to, to_dim)),
            ids: Hashes::default(),
        }
    }

    /// The same with the ids of the inputs.
    pub fn with_ids<'a>(mut self, ids: impl IntoIterator<Item = &'a ItemId>) -> Self {
        self.ids = Hashes::new(ids.into_iter().filter_map(id_hash).collect());
        self
    }

    /// How many of these rows were fitted on, value for value.
    ///
    /// **Shapes**: `rows` `[n, dim]`.
    pub fn shared_rows(&self, side: Side, rows: &[f32], dim: usize) -> usize {
        let known = match side {
            Side::From => &self.from,
            Side::To => &self.to,
        };
        let hashes = row_hashes(rows, dim);
        hashes.iter().filter(|hash| known.contains(**hash)).count()
    }

    /// How many of these ids, as far as they are texts, are ids of inputs that were fitted on.
    pub fn shared_ids(&self, ids: &[ItemId]) -> usize {
        let hashes = ids.iter().filter_map(id_hash);
        hashes.filter(|&hash| self.ids.contains(hash)).count()
    }

    /// Whether there were more inputs than hashes are kept, so that some cannot be told.
    pub fn is_sample(&self) -> bool {
        let all = [&self.from, &self.to, &self.ids];
        all.iter().any(|hashes| hashes.0.len() == MAX_HASHES)
    }

    /// The same of the other direction.
    pub fn inverse(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
            ids: self.ids,
        }
    }

    /// Of a chain of two bridges: the ends that are left, and the ids of both.
    pub(crate) fn then(&self, next: &Self) -> Self {
        Self {
            from: self.from.clone(),
            to: next.to.clone(),
            ids: Hashes::new([self.ids.0.as_slice(), &next.ids.0].concat()),
        }
    }
}

/// Distinct hashes, ascending, at most [`MAX_HASHES`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hashes(Vec<u64>);

impl Hashes {
    fn new(mut hashes: Vec<u64>) -> Self {
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(MAX_HASHES);
        hashes.shrink_to_fit();
        Self(hashes)
    }

    /// Those of a file; nothing if they are too many, or not ascending.
    pub(crate) fn of_file(hashes: Vec<u64>) -> Option<Self> {
        let ascending = hashes.is_sorted_by(|one, next| one < next);
        (ascending && hashes.len() <= MAX_HASHES).then_some(Self(hashes))
    }

    pub(crate) fn as_slice(&self) -> &[u64] {
        &self.0
    }

    fn contains(&self, hash: u64) -> bool {
        self.0.binary_search(&hash).is_ok()
    }
}

fn row_hashes(rows: &[f32], dim: usize) -> Vec<u64> {
    let hash = |bytes: &mut Vec<u8>, row: &[f32]| {
        bytes.clear();
        bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        short_hash(bytes)
    };
    rows.par_chunks_exact(dim)
        .map_init(Vec::new, |bytes, row| hash(bytes, row))
        .collect()
}

fn id_hash(id: &ItemId) -> Option<u64> {
    match id {
        ItemId::Number(_) => None,
        ItemId::Text(text) => Some(short_hash(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_told_by_side_and_ids_by_text() {
        let inputs = FitInputs::of(&[1.0, 2.0, 3.0, 4.0], 2, &[5.0, 6.0, 7.0, 8.0], 2);
        assert_eq!(
            inputs.shared_rows(Side::From, &[3.0, 4.0, 3.0, 4.5, 3.0, 4.0], 2),
            2
        );
        assert_eq!(inputs.shared_rows(Side::To, &[3.0, 4.0], 2), 0);
        assert_eq!(
            inputs
                .clone()
                .inverse()
                .shared_rows(Side::To, &[3.0, 4.0], 2),
            1
        );
        // A row of another dimension is another row.
        assert_eq!(inputs.shared_rows(Side::From, &[1.0, 2.0], 1), 0);
        let ids: [ItemId; 2] = ["a/b.png".into(), ItemId::Number(7)];
        let inputs = inputs.with_ids(&ids);
        assert_eq!(inputs.shared_ids(&ids), 1);
        assert!(!inputs.is_sample());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let rows: Vec<f32> = (0..MAX_HASHES + 10).map(|row| row as f32).collect();
        let inputs = FitInputs::of(&rows, 1, &rows[..4], 1);
        assert!(inputs.is_sample());
        assert_eq!(inputs.shared_rows(Side::From, &rows, 1), MAX_HASHES);
        assert_eq!(inputs.shared_rows(Side::To, &rows, 1), 4);
    }

    proptest! {
        #[test]
        fn hashes_of_a_file_are_those_that_were_kept(hashes in prop::collection::vec(0u64..20, 0..12)) {
            let kept = Hashes::new(hashes.clone());
            prop_assert_eq!(Hashes::of_file(kept.0.clone()), Some(kept.clone()));
            prop_assert_eq!(Hashes::of_file(hashes.clone()).is_some(), hashes == kept.0);
        }
    }
}
