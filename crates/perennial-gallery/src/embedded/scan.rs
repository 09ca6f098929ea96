//! Comparing queries with all rows: the best by f32 similarity, found exactly on every path.
//!
//! A similarity in f32 is always computed by [`dot`], in one fixed order of additions: equal vectors have bit-equal
//! similarities on every path, so ties are ties. Where rows have codes, most are passed over by bounds (see `codes`).

use rayon::prelude::*;

use super::codes::QueryCodes;
use super::ranking::{Best, Contenders, Ranked, Threshold, best_of};
use super::rows::{Rows, Segment, SlotSet};

/// Independent partial sums of an f32 product: four registers of eight.
const LANES: usize = 32;

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

// What is dispatched are types and no closures: closures were compiled apart from the dispatch, without its instructions.

struct Dot<'a>(&'a [f32], &'a [f32]);

impl pulp::WithSimd for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f32 {
        dot_lanes(self.0, self.1)
    }
}

/// The similarity of two vectors.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    pulp::Arch::new().dispatch(Dot(a, b))
}

/// The best `count` by f32 similarity among `allowed`, or all rows, and the equals of the last.
pub(super) fn nearest(
    rows: &Rows,
    query: &[f32],
    count: usize,
    allowed: Option<&SlotSet>,
) -> Vec<Ranked> {
    if codes_help(rows, count, allowed) {
        by_codes(rows, query, count, allowed)
    } else {
        by_vectors(rows, query, count, allowed)
    }
}

/// Whether bounds can rule out enough: not with few rows, nor where most of them are wanted.
pub(super) fn codes_help(rows: &Rows, count: usize, allowed: Option<&SlotSet>) -> bool {
    rows.with_codes() && allowed.map_or(rows.live(), SlotSet::count) > 4 * count + 32
}

/// Which of a segment's rows count, under which slot.
type Chosen<'a> = &'a dyn Fn(usize) -> Option<usize>;

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
    query: &'a QueryCodes,
    segment: &'a Segment,
    chosen: Chosen<'a>,
    contenders: &'a mut Contenders,
}

impl pulp::WithSimd for CodeScan<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let QueryCodes {
            codes: query,
            bounds,
        } = self.query;
        let coded = &self.segment.coded;
        let rows = coded.codes.chunks_exact(query.len());
        for (row, (codes, coding)) in rows.zip(&coded.codings).enumerate() {
            let Some(slot) = (self.chosen)(row) else {
                continue;
            };
            let mut sum = 0;
            for (&query, &code) in query.iter().zip(codes) {
                sum += i32::from(query) * i32::from(code);
            }
            let score = bounds.score(sum, coding.scale, coding.offset);
            let margin = bounds.margin(coding.error, coding.length);
            self.contenders.offer(score, margin, slot);
        }
    }
}

pub(super) fn by_vectors(
    rows: &Rows,
    query: &[f32],
    count: usize,
    allowed: Option<&SlotSet>,
) -> Vec<Ranked> {
    let parts = each_segment(rows, |first, segment| {
        let mut best = Best::new(count);
        pulp::Arch::new().dispatch(VectorScan {
            query,
            segment,
            chosen: &|row| chosen(first + row, allowed),
            best: &mut best,
        });
        best.finish()
    });
    best_of(parts, count)
}

fn by_codes(rows: &Rows, query: &[f32], count: usize, allowed: Option<&SlotSet>) -> Vec<Ranked> {
    let threshold = Threshold::new();
    let parts = each_segment(rows, |first, segment| {
        let codes = QueryCodes::new(query, segment.coded.centre());
        let mut contenders = Contenders::new(count, &threshold);
        pulp::Arch::new().dispatch(CodeScan {
            query: &codes,
            segment,
            chosen: &|row| chosen(first + row, allowed),
            contenders: &mut contenders,
        });
        decide(rows, query, count, contenders.finish(), &threshold)
    });
    best_of(parts, count)
}

pub(super) fn chosen(slot: usize, allowed: Option<&SlotSet>) -> Option<usize> {
    allowed
        .is_none_or(|allowed| allowed.contains(slot))
        .then_some(slot)
}

/// Works on segments in parallel; `work` gets the slot of a segment's first row.
pub(super) fn each_segment<T: Send>(
    rows: &Rows,
    work: impl Fn(usize, &Segment) -> T + Sync,
) -> Vec<T> {
    rows.segments()
        .par_iter()
        .enumerate()
        .map(|(at, segment)| work(at * rows.segment_rows(), segment))
        .collect()
}

/// The best of a segment's contenders by f32 similarity; the threshold learns from them.
pub(super) fn decide(
    rows: &Rows,
    query: &[f32],
    count: usize,
    slots: impl Iterator<Item = usize>,
    threshold: &Threshold,
) -> Vec<Ranked> {
    let mut best = Best::new(count);
    for slot in slots {
        best.offer(dot(query, rows.vector(slot)), slot);
    }
    let best = best.finish();
    if best.len() >= count
        && let Some(last) = best.iter().max()
    {
        threshold.raise(last.score());
    }
    best
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

#[cfg(test)]
pub(super) mod tests {
    use super::super::codes::Coding;
    use super::super::rows::Row;
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    pub(in super::super) fn unit(rng: &mut ChaCha8Rng, dim: usize) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0f32..1.0)).collect();
        let norm = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        vector
    }

    fn random_rows(count: usize, dim: usize, seed: u64) -> Rows {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let vectors: Vec<Vec<f32>> = (0..count).map(|_| unit(&mut rng, dim)).collect();
        rows_of(&vectors, true)
    }

    pub(in super::super) fn rows_of(vectors: &[Vec<f32>], with_codes: bool) -> Rows {
        let mut rows = Rows::new(vectors[0].len(), with_codes);
        for (number, vector) in (0..).zip(vectors) {
            let mut row = Row {
                number,
                version: 0,
                label: None,
                fingerprint: 0,
                vector: vector.clone(),
                codes: Vec::new(),
                coding: Coding::default(),
            };
            if with_codes {
                row.encode();
            }
            rows.push(&row);
        }
        rows.set_centred(rows.centred());
        rows
    }

    #[test]
    fn bounds_leave_few_rows_to_compare() {
        let (rows, mut rng) = (random_rows(20_000, 64, 1), ChaCha8Rng::seed_from_u64(2));
        let query = unit(&mut rng, 64);
        let threshold = Threshold::new();
        let left: Vec<usize> = each_segment(&rows, |first, segment| {
            let codes = QueryCodes::new(&query, segment.coded.centre());
            let mut contenders = Contenders::new(10, &threshold);
            pulp::Arch::new().dispatch(CodeScan {
                query: &codes,
                segment,
                chosen: &|row| Some(first + row),
                contenders: &mut contenders,
            });
            contenders.finish().count()
        });
        assert!(left.iter().sum::<usize>() < 600, "{left:?}");
    }
}
