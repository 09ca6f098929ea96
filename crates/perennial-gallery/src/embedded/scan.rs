//! Comparing queries with many rows: 8-bit and f32 dot products, and the best of them.
//!
//! A similarity in f32 is always computed by [`dot`], in one fixed order of additions: equal vectors have bit-equal
//! similarities on every path, so ties are ties.

use perennial_core::dot_products;
use rayon::prelude::*;

use super::ranking::{Best, Ranked, best_of};
use super::rows::{Rows, Segment, SlotSet};

/// Independent partial sums of an f32 product: four registers of eight.
const LANES: usize = 32;
/// The largest code of a row.
const CODE_MAX: f32 = 127.0;
/// Queries multiplied at a time.
const QUERY_BLOCK: usize = 128;
/// Candidates taken beyond those wanted where another order of additions ranks them.
const SPARE: usize = 16;

/// Appends the codes of a vector: `round(127 * x / max|x|)`. Returns what a code of 1 stands for.
pub(super) fn encode(vector: &[f32], codes: &mut Vec<i8>) -> f32 {
    let max = vector.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let factor = if max > 0.0 { CODE_MAX / max } else { 0.0 };
    codes.extend(vector.iter().map(|x| (x * factor).round() as i8));
    max / CODE_MAX
}

/// A query as integers, finer than a row's: the products are computed in 16 bits anyway.
pub(super) struct QueryCodes {
    codes: Vec<i16>,
}

impl QueryCodes {
    pub(super) fn new(query: &[f32]) -> Self {
        let max = query.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        // The largest sum that the codes can reach still fits 32 bits.
        let limit = (i32::MAX as f32 / 2.0 / (CODE_MAX * query.len().max(1) as f32)).min(32_767.0);
        let factor = if max > 0.0 { limit / max } else { 0.0 };
        let codes = query.iter().map(|x| (x * factor).round() as i16).collect();
        Self { codes }
    }
}

/// The dot product of two vectors.
///
/// **Shapes.** both `[dim]`
#[inline(always)]
fn dot_lanes(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    // Both zeros are one similarity.
    lanes[0] + rest + 0.0
}

/// The similarity of two vectors.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || dot_lanes(a, b),
    )
}

/// The product of two rows of codes.
pub(super) fn dot_codes(a: &[i8], b: &[i8]) -> i32 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            a.iter()
                .zip(b)
                .map(|(&a, &b)| i32::from(a) * i32::from(b))
                .sum()
        },
    )
}

/// The best `count` by f32 similarity among `allowed`, or all rows, and the equals of the last.
pub(super) fn exact(
    rows: &Rows,
    query: &[f32],
    count: usize,
    allowed: Option<&SlotSet>,
) -> Vec<Ranked> {
    scan(rows, count, allowed, |segment, chosen, best| {
        pulp::Arch::new().dispatch(VectorScan {
            query,
            segment,
            chosen,
            best,
        });
    })
}

/// Which of a segment's rows count, under which slot.
type Chosen<'a> = &'a dyn Fn(usize) -> Option<usize>;

// The loops are types of their own and no closures: closures were compiled apart from the dispatch, without its instructions.

struct VectorScan<'a> {
    query: &'a [f32],
    segment: &'a Segment,
    chosen: Chosen<'a>,
    best: &'a mut Best,
}

impl pulp::WithSimd for VectorScan<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let rows = self.segment.vectors.chunks_exact(self.query.len());
        for (row, vector) in rows.enumerate() {
            if let Some(slot) = (self.chosen)(row) {
                self.best.offer(dot_lanes(self.query, vector), slot);
            }
        }
    }
}

struct CodeScan<'a> {
    query: &'a [i16],
    segment: &'a Segment,
    chosen: Chosen<'a>,
    best: &'a mut Best,
}

impl pulp::WithSimd for CodeScan<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let rows = self.segment.codes.chunks_exact(self.query.len());
        for (row, (codes, scale)) in rows.zip(&self.segment.scales).enumerate() {
            let Some(slot) = (self.chosen)(row) else {
                continue;
            };
            let mut sum = 0;
            for (&query, &code) in self.query.iter().zip(codes) {
                sum += i32::from(query) * i32::from(code);
            }
            self.best.offer(sum as f32 * scale, slot);
        }
    }
}

/// The best `count` by f32 similarity among those that 8 bits rank highest.
pub(super) fn quantised(
    rows: &Rows,
    query: &[f32],
    count: usize,
    allowed: Option<&SlotSet>,
) -> Vec<Ranked> {
    let codes = QueryCodes::new(query);
    let candidates = scan(rows, 4 * count + 32, allowed, |segment, chosen, best| {
        let query = &codes.codes;
        pulp::Arch::new().dispatch(CodeScan {
            query,
            segment,
            chosen,
            best,
        });
    });
    let slots = candidates.into_iter().map(Ranked::slot);
    rescored(rows, query, count, slots)
}

/// The best `count` of some slots by f32 similarity.
pub(super) fn rescored(
    rows: &Rows,
    query: &[f32],
    count: usize,
    slots: impl Iterator<Item = usize>,
) -> Vec<Ranked> {
    let ranked = slots
        .map(|slot| Ranked::new(dot(query, rows.vector(slot)), slot))
        .collect();
    best_of(vec![ranked], count)
}

/// Ranks segments in parallel; `rank` gets a segment, which of its rows count under which slot, and where results go.
fn scan(
    rows: &Rows,
    count: usize,
    allowed: Option<&SlotSet>,
    rank: impl Fn(&Segment, Chosen<'_>, &mut Best) + Sync,
) -> Vec<Ranked> {
    let parts = rows
        .segments()
        .par_iter()
        .enumerate()
        .map(|(at, segment)| {
            let first = at * rows.segment_rows();
            let mut best = Best::new(count);
            let chosen = |row: usize| {
                let slot = first + row;
                allowed
                    .is_none_or(|allowed| allowed.contains(slot))
                    .then_some(slot)
            };
            rank(segment, &chosen, &mut best);
            best.finish()
        })
        .collect();
    best_of(parts, count)
}

/// The best `count` by f32 similarity for many queries: one matrix product per segment and block of queries.
///
/// **Shapes.** `queries` `[n, dim]`; the result is `[n]`.
pub(super) fn exact_batch(
    rows: &Rows,
    queries: &[f32],
    count: usize,
    allowed: Option<&SlotSet>,
) -> Vec<Vec<Ranked>> {
    let dim = rows.dim();
    let mut results = Vec::with_capacity(queries.len() / dim.max(1));
    for block in queries.chunks(QUERY_BLOCK * dim) {
        let block_rows = block.len() / dim;
        let parts: Vec<Vec<Vec<Ranked>>> = rows
            .segments()
            .par_iter()
            .enumerate()
            .map(|(at, segment)| {
                let mut scores = vec![0.0; block_rows * segment.len()];
                dot_products(block, &segment.vectors, dim, &mut scores);
                let first = at * rows.segment_rows();
                let best = |scores: &[f32]| {
                    let mut best = Best::new(count + SPARE);
                    best.offer_all(first, scores, allowed);
                    best.finish()
                };
                scores.chunks_exact(segment.len()).map(best).collect()
            })
            .collect();
        let block: Vec<Vec<Ranked>> = block
            .par_chunks_exact(dim)
            .enumerate()
            .map(|(at, query)| {
                let ranked = parts.iter().map(|part| part[at].clone()).collect();
                let slots = best_of(ranked, count + SPARE).into_iter().map(Ranked::slot);
                rescored(rows, query, count, slots)
            })
            .collect();
        results.extend(block);
    }
    results
}

#[cfg(test)]
mod tests {
    use super::super::rows::Row;
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn unit(rng: &mut ChaCha8Rng, dim: usize) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0f32..1.0)).collect();
        let norm = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        vector
    }

    fn random_rows(count: usize, dim: usize, seed: u64) -> Rows {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = Rows::new(dim, true);
        for number in 0..count as u64 {
            let vector = unit(&mut rng, dim);
            let mut row = Row {
                number,
                version: 0,
                label: None,
                fingerprint: 0,
                vector,
                codes: Vec::new(),
                scale: 0.0,
            };
            row.encode();
            rows.push(&row);
        }
        rows
    }

    #[test]
    fn eight_bits_find_what_f32_finds() {
        let (rows, mut rng) = (random_rows(5000, 64, 1), ChaCha8Rng::seed_from_u64(2));
        let mut found = 0;
        for _ in 0..20 {
            let query = unit(&mut rng, 64);
            let expected = exact(&rows, &query, 10, None);
            found += quantised(&rows, &query, 10, None)
                .iter()
                .filter(|hit| expected.contains(hit))
                .count();
        }
        assert!(found >= 198, "recall {found} of 200");
    }

    #[test]
    fn a_batch_finds_what_single_queries_find() {
        let (rows, mut rng) = (random_rows(5000, 33, 3), ChaCha8Rng::seed_from_u64(4));
        let queries: Vec<f32> = (0..130).flat_map(|_| unit(&mut rng, 33)).collect();
        let mut allowed = SlotSet::default();
        (0..5000).step_by(3).for_each(|slot| allowed.insert(slot));
        for allowed in [None, Some(&allowed)] {
            let batch = exact_batch(&rows, &queries, 5, allowed);
            assert_eq!(batch.len(), 130);
            for (query, found) in queries.chunks(33).zip(&batch) {
                assert_eq!(found, &exact(&rows, query, 5, allowed));
            }
        }
    }

    #[test]
    fn query_codes_cannot_overflow() {
        for dim in [1, 64, 512, 16_384] {
            let codes = QueryCodes::new(&vec![1.0; dim]);
            let sum: i64 = codes.codes.iter().map(|&q| i64::from(q) * 127).sum();
            assert!(sum <= i64::from(i32::MAX), "{dim}: {sum}");
            assert!(codes.codes[0] > 200, "{dim}: {}", codes.codes[0]);
        }
    }

    #[test]
    fn codes_stay_close_to_the_vector() {
        let mut codes = Vec::new();
        let scale = encode(&[0.5, -1.0, 0.0, 0.25], &mut codes);
        assert_eq!(codes, [64, -127, 0, 32]);
        assert!((scale * 127.0 - 1.0).abs() < 1e-6);
        assert_eq!(encode(&[0.0], &mut codes), 0.0);
        assert_eq!(dot_codes(&[127, -3], &[-127, 2]), -16_135);
    }
}
