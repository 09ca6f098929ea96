//! Comparing many queries with all rows at once: a matrix product per segment, in bytes or in f32, whose bounds leave few rows to
//! compare one by one.

use perennial_core::dot_products;
use perennial_core::instructions::arch;
use rayon::prelude::*;

use super::byte_product::{ByteProduct, PANEL, Panel, QUERIES};
use super::codes::{QueryWords, rounding};
use super::ranking::{Contenders, Ranked, Threshold, best_of};
use super::rows::Segment;
use super::scan::{Scanned, decide, each_segment};

/// Queries of a block at most.
const BLOCK: usize = 1024;
/// What the queries of a block want together at most: each keeps some times that per segment.
const WANTED: usize = 1 << 16;
/// Queries multiplied at a time in f32, where every product is stored.
const PRODUCTS: usize = 128;
/// Scores looked at side by side.
const LANES: usize = 16;
/// Where bounds leave more than this share of a segment to compare, a product in f32 costs less.
const LOOSE: usize = 8;

/// Of each partition, those of the best `count` of all by f32 similarity that lie in it, and the equals of the last; others may be among them. For
/// many queries.
///
/// **Shapes.** `queries` `[n, dim]`; the result is `[n, parts]`.
pub(super) fn nearest_batch(
    parts: &[Scanned<'_>],
    queries: &[f32],
    dim: usize,
    count: usize,
) -> Vec<Vec<Vec<Ranked>>> {
    nearest_batch_by(ByteProduct::for_dim(dim), parts, queries, dim, count)
}

/// The same by given products of bytes, or in f32.
fn nearest_batch_by(
    product: Option<ByteProduct>,
    parts: &[Scanned<'_>],
    queries: &[f32],
    dim: usize,
    count: usize,
) -> Vec<Vec<Vec<Ranked>>> {
    let mut results = Vec::with_capacity(queries.len() / dim.max(1));
    let block = (WANTED / count.max(1)).clamp(QUERIES, BLOCK);
    for queries in queries.chunks(block * dim) {
        let block = Block {
            queries,
            thresholds: queries
                .chunks_exact(dim)
                .map(|_| Threshold::new(count))
                .collect(),
            count,
        };
        let found = each_segment(parts, |part, first, segment| {
            let product = product.filter(|_| part.codes_help(count));
            let by_codes =
                product.and_then(|product| block.by_codes(product, part, first, segment));
            let slots = by_codes.unwrap_or_else(|| block.by_vectors(part, first, segment));
            let decide = |((query, slots), threshold): ((&[f32], Vec<usize>), &Threshold)| {
                decide(part.rows, query, count, slots.into_iter(), threshold)
            };
            let queries = queries.chunks_exact(dim).zip(slots);
            queries.zip(&block.thresholds).map(decide).collect()
        });
        results.extend(transposed(found, block.thresholds.len(), count));
    }
    results
}

/// The best of all segments of each part for each query, from the best of all queries for each segment.
fn transposed(
    found: Vec<Vec<Vec<Vec<Ranked>>>>,
    queries: usize,
    count: usize,
) -> Vec<Vec<Vec<Ranked>>> {
    let best = |query: usize| {
        let of_part = |segments: &Vec<Vec<Vec<Ranked>>>| {
            let ranked = segments.iter().map(|segment| segment[query].clone());
            best_of(ranked.collect(), count)
        };
        found.iter().map(of_part).collect()
    };
    (0..queries).into_par_iter().map(best).collect()
}

/// Queries that go through a segment together.
struct Block<'a> {
    /// `[n, dim]`
    queries: &'a [f32],
    /// `[n]`
    thresholds: Vec<Threshold>,
    count: usize,
}

impl Block<'_> {
    fn contenders(&self) -> Vec<Contenders> {
        let new = |threshold| Contenders::new(self.count, threshold);
        self.thresholds.iter().map(new).collect()
    }

    /// Slots that may be among the best of each query.
    fn finished(&self, contenders: Vec<Contenders>) -> Vec<Vec<usize>> {
        let finish =
            |(found, threshold): (Contenders, &Threshold)| found.finish(threshold).collect();
        contenders
            .into_iter()
            .zip(&self.thresholds)
            .map(finish)
            .collect()
    }

    /// Slots that may be among the best of each query; nothing where bounds say too little.
    fn by_codes(
        &self,
        product: ByteProduct,
        part: Scanned<'_>,
        first: usize,
        segment: &Segment,
    ) -> Option<Vec<Vec<usize>>> {
        let dim = segment.dim();
        let mut contenders = self.contenders();
        let words = |query| QueryWords::new(query, segment.coded.centre(), product.range());
        let queries: Vec<QueryWords> = self.queries.chunks_exact(dim).map(words).collect();
        let coded = &segment.coded;
        let mut panel = Panel::default();
        let panels = coded
            .codes
            .chunks(PANEL * dim)
            .zip(coded.codings.chunks(PANEL));
        for (at, (codes, codings)) in panels.enumerate() {
            let first = first + at * PANEL;
            let mut rows = PanelRows::default();
            for (row, coding) in codings.iter().enumerate() {
                if part.chosen(first + row).is_some() {
                    rows.scales[row] = coding.scale;
                    rows.lengths[row] = coding.length;
                    rows.errors[row] = coding.error;
                    rows.offsets[row] = coding.offset;
                }
            }
            panel.fill(codes, dim);
            let groups = queries.chunks(QUERIES).zip(contenders.chunks_mut(QUERIES));
            for (queries, contenders) in groups {
                let mut sums = [[0; PANEL]; QUERIES];
                // Queries that the last group lacks are computed as its first one.
                let words = |at| &*queries.get(at).unwrap_or(&queries[0]).words;
                product.products(std::array::from_fn(words), &panel, &mut sums);
                for ((query, contenders), sums) in queries.iter().zip(contenders).zip(&sums) {
                    arch().dispatch(PanelOffer {
                        query,
                        sums,
                        rows: &rows,
                        first,
                        contenders,
                    });
                }
            }
        }
        let slots = self.finished(contenders);
        let left: usize = slots.iter().map(Vec::len).sum();
        (left <= segment.len() * slots.len() / LOOSE).then_some(slots)
    }

    /// The same by a product in f32, whose additions have another order than those that decide.
    fn by_vectors(&self, part: Scanned<'_>, first: usize, segment: &Segment) -> Vec<Vec<usize>> {
        let dim = segment.dim();
        let mut contenders = self.contenders();
        let longest = segment.longest();
        let blocks = self
            .queries
            .chunks(PRODUCTS * dim)
            .zip(contenders.chunks_mut(PRODUCTS));
        for (queries, contenders) in blocks {
            let mut scores = vec![0.0; contenders.len() * segment.len()];
            dot_products(queries, &segment.vectors, dim, &mut scores);
            let scores = scores.chunks_exact(segment.len());
            for ((query, scores), contenders) in
                queries.chunks_exact(dim).zip(scores).zip(contenders)
            {
                let margin = rounding(query, dim) * longest;
                contenders.offer_all(first, scores, margin, part.allowed);
            }
        }
        self.finished(contenders)
    }
}

/// What is known of a panel's rows; those that do not count have a best case of minus infinity.
struct PanelRows {
    scales: [f32; PANEL],
    lengths: [f32; PANEL],
    errors: [f32; PANEL],
    offsets: [f32; PANEL],
}

impl Default for PanelRows {
    fn default() -> Self {
        Self {
            scales: [0.0; PANEL],
            lengths: [0.0; PANEL],
            errors: [f32::NEG_INFINITY; PANEL],
            offsets: [0.0; PANEL],
        }
    }
}

struct PanelOffer<'a> {
    query: &'a QueryWords,
    sums: &'a [i32; PANEL],
    rows: &'a PanelRows,
    first: usize,
    contenders: &'a mut Contenders,
}

impl pulp::WithSimd for PanelOffer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let (bounds, rows) = (&self.query.bounds, self.rows);
        let offset = 128 * self.query.sum;
        let score =
            |row: usize| bounds.score(self.sums[row] - offset, rows.scales[row], rows.offsets[row]);
        let margin = |row: usize| bounds.margin(rows.errors[row], rows.lengths[row]);
        let mut highest = [f32::NEG_INFINITY; LANES];
        // Arrays of a known length, which the compiler turns into vectors.
        let sums = self.sums.as_chunks::<LANES>().0;
        let (scales, offsets) = (rows.scales.as_chunks().0, rows.offsets.as_chunks().0);
        let (errors, lengths) = (rows.errors.as_chunks().0, rows.lengths.as_chunks().0);
        for block in 0..PANEL / LANES {
            let sums = &sums[block];
            let (scales, offsets): (&[f32; LANES], &[f32; LANES]) =
                (&scales[block], &offsets[block]);
            let (errors, lengths): (&[f32; LANES], &[f32; LANES]) =
                (&errors[block], &lengths[block]);
            for lane in 0..LANES {
                let score = bounds.score(sums[lane] - offset, scales[lane], offsets[lane]);
                let best_case = score + bounds.margin(errors[lane], lengths[lane]);
                highest[lane] = if best_case > highest[lane] {
                    best_case
                } else {
                    highest[lane]
                };
            }
        }
        let mut width = LANES / 2;
        while width > 0 {
            for at in 0..width {
                let other = highest[at + width];
                highest[at] = if other > highest[at] {
                    other
                } else {
                    highest[at]
                };
            }
            width /= 2;
        }
        // Most panels end here. Rows that do not count must not pass while there is no threshold.
        if highest[0] < self.contenders.least() || highest[0] == f32::NEG_INFINITY {
            return;
        }
        for row in 0..PANEL {
            if rows.errors[row] > f32::NEG_INFINITY {
                self.contenders
                    .offer(score(row), margin(row), self.first + row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::ranking::keep_best;
    use super::super::rows::SlotSet;
    use super::super::scan::tests::{all_of, rows_of, unit};
    use super::super::scan::{dot, nearest};
    use super::*;

    /// From flat vectors to such with a single large value, whose codes leave out nearly all the rest; the larger `shared`, the
    /// narrower the cone that they lie in.
    fn scattered(rng: &mut ChaCha8Rng, dim: usize, shared: f32) -> Vec<f32> {
        let power = rng.random_range(0..12);
        let mut vector = unit(rng, dim);
        for x in &mut vector {
            *x = x.signum() * x.abs().powi(power) + shared;
        }
        let norm = dot(&vector, &vector).sqrt().max(1e-30);
        vector.iter_mut().for_each(|x| *x /= norm);
        vector
    }

    #[test]
    fn bounds_pass_over_no_row_that_f32_finds() {
        for (dim, shared) in [(1, 0.0), (7, 0.0), (64, 0.0), (64, 1.0), (130, 30.0)] {
            let mut rng = ChaCha8Rng::seed_from_u64(dim as u64);
            let mut vectors: Vec<Vec<f32>> = (0..9000)
                .map(|_| scattered(&mut rng, dim, shared))
                .collect();
            // Equals, so that ties are decided as well.
            vectors.extend_from_within(..300);
            let (coded, plain) = (rows_of(&vectors, true), rows_of(&vectors, false));
            let mut allowed = SlotSet::default();
            (0..9300)
                .filter(|slot| slot % 5 != 2)
                .for_each(|slot| allowed.insert(slot));
            let mut queries: Vec<Vec<f32>> =
                (0..9).map(|_| scattered(&mut rng, dim, shared)).collect();
            queries.extend_from_slice(&vectors[..4]);
            for allowed in [None, Some(&allowed)] {
                let [coded, plain] = [&coded, &plain].map(|rows| [Scanned { rows, allowed }]);
                for count in [1, 10, 500] {
                    let expected: Vec<_> = queries
                        .iter()
                        .map(|query| nearest(&plain, query, count))
                        .collect();
                    for (query, expected) in queries.iter().zip(&expected) {
                        assert!(nearest(&coded, query, count) == *expected);
                    }
                    // By every set of instructions that this processor has, and in f32.
                    let products = ByteProduct::present(dim).map(Some);
                    for product in products.chain([None]) {
                        for parts in [&coded, &plain] {
                            let queries = queries.concat();
                            let batch = nearest_batch_by(product, parts, &queries, dim, count);
                            let differs = batch.iter().zip(&expected).position(|(a, b)| a != b);
                            let codes = parts[0].rows.with_codes();
                            assert_eq!(
                                differs, None,
                                "{dim} {shared} {count}, codes: {codes}, {product:?}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_best_of_all_parts_are_in_those_of_each() {
        let (dim, mut rng) = (64, ChaCha8Rng::seed_from_u64(9));
        let mut vectors: Vec<Vec<f32>> = (0..6000).map(|_| scattered(&mut rng, dim, 1.0)).collect();
        // Equals in all parts: more of the best than one part holds.
        let equals: Vec<Vec<f32>> = vectors[..40].to_vec();
        vectors.extend(equals.iter().cloned());
        vectors.extend(equals);
        let queries: Vec<Vec<f32>> = vectors[..8].to_vec();
        let third = |part: usize| vectors.iter().skip(part).step_by(3).cloned().collect();
        let parts: [Vec<Vec<f32>>; 3] = std::array::from_fn(third);
        // A part of each kind: codes around a centre and around the origin, and no codes.
        let rows = [0, 1, 2].map(|part| rows_of(&parts[part], part != 2));
        let scanned = rows.each_ref().map(all_of);
        for count in [1, 3, 40] {
            let batch = nearest_batch(&scanned, &queries.concat(), dim, count);
            for (query, of_batch) in queries.iter().zip(&batch) {
                let mut all: Vec<Ranked> = (0..)
                    .zip(&vectors)
                    .map(|(slot, vector)| Ranked::new(dot(query, vector), slot))
                    .collect();
                keep_best(&mut all, count);
                all.sort_unstable();
                for found in [of_batch, &nearest(&scanned, query, count)] {
                    assert_eq!(found.len(), 3);
                    // A part's slots are every third of all.
                    let of_all = |(part, found): (usize, &Vec<Ranked>)| -> Vec<Ranked> {
                        let of_all = |r: &Ranked| Ranked::new(r.score(), 3 * r.slot() + part);
                        found.iter().map(of_all).collect()
                    };
                    let merged = found.iter().enumerate().map(of_all).collect();
                    assert_eq!(best_of(merged, count), all, "{count}");
                }
            }
        }
    }

    #[test]
    fn more_queries_than_a_block_are_answered_in_order() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let vectors: Vec<Vec<f32>> = (0..1500).map(|_| unit(&mut rng, 33)).collect();
        for codes in [true, false] {
            let rows = rows_of(&vectors, codes);
            let batch = nearest_batch(&[all_of(&rows)], &vectors.concat(), 33, 1);
            let own = |(at, found): (usize, &Vec<Vec<Ranked>>)| {
                found[0].len() == 1 && found[0][0].slot() == at
            };
            assert!(batch.len() == 1500 && batch.iter().enumerate().all(own));
        }
    }
}
