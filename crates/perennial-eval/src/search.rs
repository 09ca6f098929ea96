//! Exact search: a blocked, parallel matrix product followed by a selection of the best.
//!
//! **Order.** Higher similarity first; equal similarities in the order of the gallery, lower position first. Both zeros are
//! equal. Equal gallery vectors get bit-equal similarities, whatever block they fall into, so the rule holds for duplicates too.
//!
//! **Reproducibility.** Blocks have a fixed size and each product runs on one thread, so a result does not depend on the
//! number of threads.

use perennial_core::dot_products;
use rayon::prelude::*;

pub use crate::score_rows::SearchError;
use crate::score_rows::{Blocks, Side, map_score_rows};

/// Queries multiplied at a time: enough to amortise the packing of the gallery.
const QUERY_BLOCK: usize = 128;
/// Gallery rows multiplied at a time where only the best are kept.
const GALLERY_BLOCK: usize = 8192;

/// The `k` most similar gallery vectors of every query.
#[derive(Debug, Clone, PartialEq)]
pub struct TopK {
    /// Neighbours per query: the requested number, or the size of the gallery where that is smaller.
    pub k: usize,
    /// Positions in the gallery, `[n, k]`, best first.
    pub indices: Vec<usize>,
    /// Similarities, `[n, k]`, in the same order.
    pub scores: Vec<f32>,
}

impl TopK {
    /// `(position, similarity)` of the neighbours of one query, best first; nothing for a query out of range.
    pub fn neighbours(&self, query: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let from = query.saturating_mul(self.k).min(self.indices.len());
        let to = from.saturating_add(self.k).min(self.indices.len());
        self.indices[from..to]
            .iter()
            .copied()
            .zip(self.scores[from..to].iter().copied())
    }
}

/// Finds the `k` gallery vectors with the highest dot product for every query (the cosine, where rows are unit vectors).
///
/// **Shapes.** `queries` `[n, dim]` and `gallery` `[m, dim]`, row-major; the result is `[n, min(k, m)]`.
///
/// # Errors
/// [`SearchError`] where a slice is not a whole number of vectors or holds a value that is not finite.
pub fn top_k(queries: &[f32], gallery: &[f32], dim: usize, k: usize) -> Result<TopK, SearchError> {
    let side = Side::new(queries, gallery, dim)?;
    let (query_rows, gallery_rows) = (side.query_count(), side.items());
    let k = k.min(gallery_rows);
    if k == 0 || query_rows == 0 {
        return Ok(TopK {
            k,
            indices: Vec::new(),
            scores: Vec::new(),
        });
    }
    let gallery_blocks = Blocks::new(gallery_rows, GALLERY_BLOCK);
    let query_blocks = Blocks::new(query_rows, QUERY_BLOCK);
    let keys: Vec<Vec<RankKey>> = (0..query_blocks.count())
        .into_par_iter()
        .map_init(
            || vec![0.0; query_blocks.rows * gallery_blocks.rows],
            |scores, block| {
                let block = query_blocks.get(block);
                let mut best: Vec<Best> = block.fresh().map(|_| Best::new(k)).collect();
                for part in (0..gallery_blocks.count()).map(|part| gallery_blocks.get(part)) {
                    let part_rows = &gallery[part.start * dim..part.end() * dim];
                    dot_products(
                        &queries[block.start * dim..block.end() * dim],
                        part_rows,
                        dim,
                        scores,
                    );
                    let rows = scores.chunks_exact(part.rows).skip(block.seen);
                    for (row, best) in rows.zip(&mut best) {
                        for (position, &score) in part.fresh().zip(&row[part.seen..]) {
                            best.offer(RankKey::new(score, position));
                        }
                    }
                }
                best.into_iter().flat_map(Best::into_sorted).collect()
            },
        )
        .collect();
    let keys = keys.into_iter().flatten();
    let (indices, scores) = keys.map(|key| (key.position(), key.score())).unzip();
    Ok(TopK { k, indices, scores })
}

/// Calls `f(query, similarities to the whole gallery)` for every query, in parallel, and returns its results in the order of
/// the queries: the way to anything that needs full rankings, in memory bounded by a few rows per thread.
///
/// **Shapes.** `queries` `[n, dim]` and `gallery` `[m, dim]`, row-major; `f` sees `[m]`; the result is `[n]`.
///
/// # Errors
/// [`SearchError`] where a slice is not a whole number of vectors or holds a value that is not finite.
pub fn map_query_scores<R, F>(
    queries: &[f32],
    gallery: &[f32],
    dim: usize,
    f: F,
) -> Result<Vec<R>, SearchError>
where
    R: Send,
    F: Fn(usize, &[f32]) -> R + Sync,
{
    let side = Side::new(queries, gallery, dim)?;
    Ok(map_score_rows(
        &[side],
        || (),
        |(), query, scores| f(query, scores[0]),
    ))
}

/// A similarity and a gallery position in one integer: the natural order of the integers is the order of the ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RankKey(u64);

impl RankKey {
    pub(crate) fn new(score: f32, position: usize) -> Self {
        // Adding zero merges the two zeros. Then flip the bits so that unsigned order is descending order of the scores.
        let bits = (score + 0.0).to_bits();
        let ascending = if bits >> 31 == 1 {
            !bits
        } else {
            bits | (1 << 31)
        };
        Self(u64::from(!ascending) << 32 | position as u64)
    }

    pub(crate) fn position(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    pub(crate) fn score(self) -> f32 {
        let ascending = !((self.0 >> 32) as u32);
        f32::from_bits(if ascending >> 31 == 1 {
            ascending & !(1 << 31)
        } else {
            !ascending
        })
    }
}

/// The `k` smallest keys offered so far, in constant amortised time per offer.
pub(crate) struct Best {
    k: usize,
    keys: Vec<RankKey>,
    /// No key at or beyond this one can be among the best.
    limit: RankKey,
}

impl Best {
    pub(crate) fn new(k: usize) -> Self {
        Self {
            k,
            keys: Vec::with_capacity(2 * k.min(1024)),
            limit: RankKey(u64::MAX),
        }
    }

    pub(crate) fn offer(&mut self, key: RankKey) {
        if key >= self.limit {
            return;
        }
        self.keys.push(key);
        if self.keys.len() == 2 * self.k {
            self.limit = *self.keys.select_nth_unstable(self.k - 1).1;
            self.keys.truncate(self.k);
        }
    }

    pub(crate) fn into_sorted(mut self) -> Vec<RankKey> {
        self.keys.sort_unstable();
        self.keys.truncate(self.k);
        self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..rows * dim)
            .map(|_| rng.random_range(-1.0f32..1.0))
            .collect()
    }

    /// Small integers, so that every order of addition gives the same exact sum and many similarities are equal.
    fn integers(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..rows * dim)
            .map(|_| rng.random_range(-2i8..=2).into())
            .collect()
    }

    fn plain_ranking(query: &[f32], gallery: &[f32]) -> Vec<usize> {
        let scores: Vec<f32> = gallery
            .chunks(query.len())
            .map(|row| row.iter().zip(query).map(|(a, b)| a * b).sum())
            .collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].partial_cmp(&scores[a]).unwrap().then(a.cmp(&b)));
        order
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn agrees_with_a_plain_sort(
            queries in 0usize..150, gallery in 0usize..90, dim in 1usize..12, k in 0usize..100, seed: u64,
        ) {
            let (q, g) = (integers(queries, dim, seed), integers(gallery, dim, seed ^ 1));
            let top = top_k(&q, &g, dim, k).unwrap();
            prop_assert_eq!(top.k, k.min(gallery));
            prop_assert_eq!(top.indices.len(), queries * top.k);
            for (i, query) in q.chunks(dim).enumerate() {
                let found: Vec<usize> = top.neighbours(i).map(|(position, _)| position).collect();
                prop_assert_eq!(&found, &plain_ranking(query, &g)[..top.k]);
            }
        }

        #[test]
        fn a_key_keeps_score_and_position(score: f32, position in 0usize..=u32::MAX as usize) {
            prop_assume!(!score.is_nan());
            let key = RankKey::new(score, position);
            prop_assert_eq!(key.score(), score);
            prop_assert_eq!(key.position(), position);
        }

        #[test]
        fn keys_order_by_score_then_position(a: f32, b: f32, p in 0usize..9, q in 0usize..9) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            let expected = b.partial_cmp(&a).unwrap().then(p.cmp(&q));
            prop_assert_eq!(RankKey::new(a, p).cmp(&RankKey::new(b, q)), expected);
        }
    }

    #[test]
    fn both_zeros_are_equal() {
        assert_eq!(RankKey::new(0.0, 3), RankKey::new(-0.0, 3));
    }

    #[test]
    fn equal_vectors_tie_exactly_across_blocks() {
        // Odd sizes leave remainders in every kernel and in the last block.
        for (queries, gallery, dim) in [
            (1, 8195, 7),
            (3, 5, 99),
            (131, 8192 + 13, 17),
            (2, 300, 1),
            (17, 67, 512),
        ] {
            let one = random(1, dim, 5);
            let copies = one.repeat(gallery);
            let top = top_k(&random(queries, dim, 6), &copies, dim, 20).unwrap();
            let expected: Vec<usize> = (0..top.k).collect();
            for query in 0..queries {
                let found: Vec<usize> = top
                    .neighbours(query)
                    .map(|(position, _)| position)
                    .collect();
                assert_eq!(
                    found, expected,
                    "{queries} x {gallery} x {dim}, query {query}"
                );
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let (queries, gallery) = (random(300, 33, 1), random(9000, 33, 2));
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let sums = map_query_scores(&queries, &gallery, 33, |query, scores| {
                    (query, scores.iter().sum::<f32>().to_bits())
                });
                (top_k(&queries, &gallery, 33, 7).unwrap(), sums.unwrap())
            })
        };
        let (one, three) = (on(1), on(3));
        assert_eq!(one, three);
        assert!(one.1.iter().enumerate().all(|(i, &(query, _))| i == query));
    }

    #[test]
    fn bad_arguments_are_named() {
        assert_eq!(
            top_k(&[], &[], 0, 1).unwrap_err(),
            SearchError::ZeroDimension
        );
        let error = top_k(&[1.0; 6], &[1.0; 7], 3, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "gallery: 7 values are not a whole number of vectors of dimension 3"
        );
        let error = top_k(&[1.0, 1.0, f32::NAN, 1.0], &[1.0; 2], 2, 1).unwrap_err();
        assert_eq!(
            error,
            SearchError::NonFinite {
                side: "queries",
                row: 1
            }
        );
    }

    #[test]
    fn nothing_to_search_is_fine() {
        assert!(top_k(&[1.0; 4], &[], 2, 5).unwrap().indices.is_empty());
        assert!(top_k(&[], &[1.0; 4], 2, 5).unwrap().indices.is_empty());
        assert_eq!(
            map_query_scores(&[1.0; 4], &[], 2, |_, scores| scores.len()).unwrap(),
            [0, 0]
        );
    }
}
