//! Comparing queries with many rows: 8-bit and f32 dot products, and the best of them.
//!
//! A similarity in f32 is always computed by [`dot`], in one fixed order of additions: equal vectors have bit-equal
//! similarities on every path, so ties are ties.

use perennial_core::dot_products;
use rayon::prelude::*;

use super::rows::{Rows, Segment, SlotSet};

/// Independent partial sums of an f32 product: four registers of eight.
const LANES: usize = 32;
/// The largest code of a row.
const CODE_MAX: f32 = 127.0;
/// Equals of the last of the best that are kept, so that their ids can decide. Beyond it, older rows win.
pub(super) const TIES: usize = 1024;
/// Queries multiplied at a time.
const QUERY_BLOCK: usize = 128;
/// Candidates that memory is reserved for before there are any.
const RESERVED: usize = 512;
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

/// A similarity and a slot in one integer: the natural order of the integers is best first, older rows first among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ranked(u64);

impl Ranked {
    pub(super) fn new(score: f32, slot: usize) -> Self {
        // Flipping the sign bit of positive numbers and all bits of negative ones orders floats as integers.
        let bits = (score + 0.0).to_bits();
        let ordered = if bits >> 31 == 0 {
            bits | 1 << 31
        } else {
            !bits
        };
        Self(u64::from(!ordered) << 32 | slot as u64 & u64::from(u32::MAX))
    }

    pub(super) fn score(self) -> f32 {
        let ordered = !((self.0 >> 32) as u32);
        f32::from_bits(if ordered >> 31 == 1 {
            ordered & !(1 << 31)
        } else {
            !ordered
        })
    }

    pub(super) fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    fn same_score(self, other: Self) -> bool {
        self.0 >> 32 == other.0 >> 32
    }
}

/// Keeps the best `count` in any order, and up to [`TIES`] equals of the last of them.
fn keep_best(ranked: &mut Vec<Ranked>, count: usize) {
    if count == 0 || ranked.len() <= count {
        return;
    }
    let last = *ranked.select_nth_unstable(count - 1).1;
    let mut kept = count;
    for at in count..ranked.len() {
        if ranked[at].same_score(last) {
            ranked.swap(kept, at);
            kept += 1;
        }
    }
    if kept > count + TIES {
        ranked[count..kept].select_nth_unstable(TIES - 1);
        kept = count + TIES;
    }
    ranked.truncate(kept);
}

/// Keeps the best `count` of many candidates, and up to [`TIES`] equals of the last of them. Most candidates cost one
/// comparison.
struct Best {
    ranked: Vec<Ranked>,
    count: usize,
    /// No smaller score can be among the best any more.
    least: f32,
    /// Candidates at which the best are picked out.
    full: usize,
}

impl Best {
    fn new(count: usize) -> Self {
        let full = count.saturating_mul(4).saturating_add(64);
        Self {
            // A search that wants nearly all rows would reserve them for each segment.
            ranked: Vec::with_capacity(full.min(RESERVED)),
            count,
            least: f32::NEG_INFINITY,
            full,
        }
    }

    #[inline(always)]
    fn offer(&mut self, score: f32, slot: usize) {
        if score >= self.least {
            self.ranked.push(Ranked::new(score, slot));
            if self.ranked.len() >= self.full {
                self.pick();
            }
        }
    }

    /// Offers the scores of rows that lie side by side and pass.
    fn offer_all(&mut self, first: usize, scores: &[f32], allowed: Option<&SlotSet>) {
        const LOOK: usize = 64;
        for (block, scores) in scores.chunks(LOOK).enumerate() {
            let highest = scores
                .iter()
                .copied()
                .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
            if highest < self.least {
                continue;
            }
            for (at, &score) in scores.iter().enumerate() {
                let slot = first + block * LOOK + at;
                if score >= self.least && allowed.is_none_or(|allowed| allowed.contains(slot)) {
                    self.offer(score, slot);
                }
            }
        }
    }

    #[cold]
    fn pick(&mut self) {
        keep_best(&mut self.ranked, self.count);
        let lowest = self.ranked.iter().map(|ranked| ranked.score());
        if self.ranked.len() >= self.count {
            self.least = lowest.fold(f32::INFINITY, f32::min);
        }
        self.full = 2 * self.ranked.len() + 2 * self.count + 64;
    }

    fn finish(mut self) -> Vec<Ranked> {
        keep_best(&mut self.ranked, self.count);
        self.ranked
    }
}

/// The best of all rows, in order.
fn best_of(parts: Vec<Vec<Ranked>>, count: usize) -> Vec<Ranked> {
    let mut ranked = parts.concat();
    keep_best(&mut ranked, count);
    ranked.sort_unstable();
    ranked
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
    use proptest::prelude::*;
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

    proptest! {
        #[test]
        fn ranks_keep_score_and_slot(a in -1.0f32..1.0, b in -1.0f32..1.0, p in 0usize..9, q in 0usize..9) {
            let (x, y) = (Ranked::new(a, p), Ranked::new(b, q));
            prop_assert_eq!((x.score(), x.slot()), (a, p));
            prop_assert_eq!(x.cmp(&y), b.partial_cmp(&a).unwrap().then(p.cmp(&q)));
        }

        #[test]
        fn the_best_and_their_equals_stay(scores in prop::collection::vec(0u8..6, 0..60), count in 1usize..20) {
            let ranked = |slot| Ranked::new(f32::from(scores[slot]), slot);
            let mut sorted: Vec<Ranked> = (0..scores.len()).map(ranked).collect();
            let kept = best_of(sorted.chunks(7).map(<[Ranked]>::to_vec).collect(), count);
            sorted.sort();
            let bound = sorted.get(count - 1).map(|last| last.score());
            sorted.retain(|r| bound.is_none_or(|bound| r.score() >= bound));
            prop_assert_eq!(kept, sorted);
        }
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

    #[test]
    fn candidates_that_come_one_by_one_leave_the_same_best() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for (count, levels) in [(1, 1000.0f32), (10, 1e6), (10, 40.0), (50, 3.0)] {
            let scores: Vec<f32> = (0..5000)
                .map(|_| (random.random::<f32>() * levels).floor() / levels - 0.5)
                .collect();
            let all = (7..)
                .zip(&scores)
                .map(|(slot, &score)| Ranked::new(score, slot));
            let mut all: Vec<Ranked> = all.collect();
            keep_best(&mut all, count);
            all.sort_unstable();
            let (mut single, mut blocks) = (Best::new(count), Best::new(count));
            for (slot, &score) in (7..).zip(&scores) {
                single.offer(score, slot);
            }
            blocks.offer_all(7, &scores, None);
            for best in [single, blocks] {
                let mut found = best.finish();
                found.sort_unstable();
                assert_eq!(found, all, "{count} of {levels}");
            }
        }
    }
}
