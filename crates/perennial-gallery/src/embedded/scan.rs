//! Comparing queries with all rows: the best by f32 similarity, found exactly on every path.
//!
//! A similarity in f32 is always computed by [`dot`], in one fixed order of additions: equal vectors have bit-equal
//! similarities on every path, so ties are ties. Where rows have codes, most are passed over by bounds (see `codes`).

use perennial_core::instructions::arch;
use rayon::prelude::*;

use super::codes::QueryCodes;
use super::prefetch::prefetch;
use super::ranking::{Best, Contenders, Ranked, Threshold, best_of};
use super::rows::{Rows, Segment, SlotSet};

/// Independent partial sums of an f32 product: four registers of eight.
const LANES: usize = 32;
/// Values of a line of the processor's cache.
const LINE_VALUES: usize = 16;
/// Vectors that are on their way from memory while another one is compared, and values of each that are asked for: the processor guesses the
/// rest.
const AHEAD: usize = 32;
const FETCHED_VALUES: usize = 128;

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
    arch().dispatch(Dot(a, b))
}

/// The rows of a partition, and which of them count: all where nothing is said.
#[derive(Clone, Copy)]
pub(super) struct Scanned<'a> {
    pub(super) rows: &'a Rows,
    pub(super) allowed: Option<&'a SlotSet>,
}

impl Scanned<'_> {
    /// Whether bounds can rule out enough: not with few rows, nor where most of them are wanted.
    pub(super) fn codes_help(self, count: usize) -> bool {
        let counted = self.allowed.map_or(self.rows.live(), SlotSet::count);
        self.rows.with_codes() && counted > 4 * count + 32
    }

    pub(super) fn chosen(self, slot: usize) -> Option<usize> {
        self.allowed
            .is_none_or(|allowed| allowed.contains(slot))
            .then_some(slot)
    }
}

/// Of each partition, those of the best `count` of all by f32 similarity that lie in it, and the equals of the last; others may be among them.
///
/// **Shapes.** the result is `[parts]`
pub(super) fn nearest(parts: &[Scanned<'_>], query: &[f32], count: usize) -> Vec<Vec<Ranked>> {
    let threshold = Threshold::new(count);
    let found = each_segment(parts, |part, first, segment| {
        if part.codes_help(count) {
            by_codes(part, first, segment, query, count, &threshold)
        } else {
            by_vectors(part, first, segment, query, count, &threshold)
        }
    });
    let best = |found| best_of(found, count);
    found.into_iter().map(best).collect()
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

fn by_vectors(
    part: Scanned<'_>,
    first: usize,
    segment: &Segment,
    query: &[f32],
    count: usize,
    threshold: &Threshold,
) -> Vec<Ranked> {
    let mut best = Best::new(count);
    arch().dispatch(VectorScan {
        query,
        segment,
        chosen: &|row| part.chosen(first + row),
        best: &mut best,
    });
    let best = best.finish();
    threshold.learn(&best);
    best
}

fn by_codes(
    part: Scanned<'_>,
    first: usize,
    segment: &Segment,
    query: &[f32],
    count: usize,
    threshold: &Threshold,
) -> Vec<Ranked> {
    let codes = QueryCodes::new(query, segment.coded.centre());
    let mut contenders = Contenders::new(count, threshold);
    arch().dispatch(CodeScan {
        query: &codes,
        segment,
        chosen: &|row| part.chosen(first + row),
        contenders: &mut contenders,
    });
    let left = contenders.finish(threshold);
    decide(part.rows, query, count, left, threshold)
}

/// Works on the segments of all partitions in parallel; `work` gets the slot of a segment's first row.
///
/// **Shapes.** the result is `[parts, segments of the part]`
pub(super) fn each_segment<T: Send>(
    parts: &[Scanned<'_>],
    work: impl Fn(Scanned<'_>, usize, &Segment) -> T + Sync,
) -> Vec<Vec<T>> {
    let of_part = |part: &Scanned<'_>| part.rows.segments().len();
    let segments: Vec<(usize, usize)> = parts
        .iter()
        .enumerate()
        .flat_map(|(part, scanned)| (0..of_part(scanned)).map(move |at| (part, at)))
        .collect();
    // One by one, so that no thread is left with several of them while others wait.
    let mut found = segments
        .par_iter()
        .with_max_len(1)
        .map(|&(part, at)| {
            let (part, rows) = (parts[part], parts[part].rows);
            work(part, at * rows.segment_rows(), &rows.segments()[at])
        })
        .collect::<Vec<T>>()
        .into_iter();
    let of_part = |part| found.by_ref().take(of_part(part)).collect();
    parts.iter().map(of_part).collect()
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
    threshold.learn(&best);
    best
}

/// The best `count` of some slots by f32 similarity.
pub(super) fn rescored(
    rows: &Rows,
    query: &[f32],
    count: usize,
    slots: impl Iterator<Item = usize>,
) -> Vec<Ranked> {
    let slots: Vec<usize> = slots.collect();
    let fetch = |slot: usize| {
        let begin = &rows.vector(slot)[..rows.dim().min(FETCHED_VALUES)];
        begin.iter().step_by(LINE_VALUES).for_each(prefetch);
    };
    slots.iter().take(AHEAD).for_each(|&slot| fetch(slot));
    let mut ranked = Vec::with_capacity(slots.len());
    for (at, &slot) in slots.iter().enumerate() {
        if let Some(&later) = slots.get(at + AHEAD) {
            fetch(later);
        }
        ranked.push(Ranked::new(dot(query, rows.vector(slot)), slot));
    }
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

    pub(in super::super) fn all_of(rows: &Rows) -> Scanned<'_> {
        Scanned {
            rows,
            allowed: None,
        }
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
        let threshold = Threshold::new(10);
        let parts = [all_of(&rows)];
        let left = each_segment(&parts, |_, first, segment| {
            let codes = QueryCodes::new(&query, segment.coded.centre());
            let mut contenders = Contenders::new(10, &threshold);
            arch().dispatch(CodeScan {
                query: &codes,
                segment,
                chosen: &|row| Some(first + row),
                contenders: &mut contenders,
            });
            contenders.finish(&threshold).count()
        });
        let left = &left[0];
        assert!(left.iter().sum::<usize>() < 600, "{left:?}");
    }
}
