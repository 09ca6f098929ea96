//! Similarities from which on a hit is accepted, by the share of wrong ones that are accepted with it.

use perennial_core::dot_products;
use perennial_eval::Threshold;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::evaluation_data::{EvaluationData, Truth};
use crate::measured::MeasureError;
use crate::route::PreparedRef;

/// The false-accept rates that are measured, the largest first.
const RATES: [f64; 4] = [0.1, 0.01, 0.001, 0.0001];
/// Impostor pairs that must be expected above a threshold; of fewer, its rate is little more than chance.
const LEAST_ACCEPTED: f64 = 10.0;
/// Most queries and most items whose pairs are looked at. Of more, a sample.
const MOST_ROWS: usize = 1024;
/// Queries multiplied at a time.
const BLOCK: usize = 128;

/// The thresholds of a search, for some false-accept rates.
///
/// An impostor pair is a query and an item that is not right for it. A threshold is the smallest similarity at which at most the rate's share
/// of the impostor pairs is at or above it. Similarities are cosines, as the search gives them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Impostor pairs that were measured: all of the evaluation set, or those of a sample of its queries and items.
    pub impostor_pairs: u64,
    /// The largest rate first. Rates at which fewer than ten impostor pairs would be accepted are left out.
    pub rates: Vec<RateThreshold>,
}

/// A threshold and its false-accept rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateThreshold {
    /// The largest share of accepted impostor pairs, a fraction.
    pub false_accept_rate: f64,
    /// Hits of at least this similarity are accepted.
    pub similarity: f32,
}

impl Thresholds {
    /// The threshold that keeps a wanted false-accept rate: that of the largest measured rate which is not above it. Nothing where no rate as
    /// small was measured, or the wanted one is not a number.
    pub fn at(&self, max_false_accept_rate: f64) -> Option<f32> {
        let kept = self
            .rates
            .iter()
            .filter(|one| one.false_accept_rate <= max_false_accept_rate);
        kept.max_by(|one, other| one.false_accept_rate.total_cmp(&other.false_accept_rate))
            .map(|one| one.similarity)
    }

    /// Thresholds that keep the rates of both: of each rate that both have, the higher one.
    pub fn stricter(&self, other: &Self) -> Self {
        let rates = self.rates.iter().filter_map(|one| {
            let mut others = other.rates.iter();
            let met = others.find(|met| met.false_accept_rate == one.false_accept_rate)?;
            Some(RateThreshold {
                similarity: one.similarity.max(met.similarity),
                ..*one
            })
        });
        Self {
            impostor_pairs: self.impostor_pairs.min(other.impostor_pairs),
            rates: rates.collect(),
        }
    }

    /// Measures a search. Nothing where there are too few impostor pairs for any rate.
    ///
    /// Of more than 1,024 queries or items, a sample of that many by the seed is measured; the thresholds then are estimates. A query's own
    /// item is not counted.
    ///
    /// # Errors
    /// Vectors that are not finite.
    pub(crate) fn of(
        data: &EvaluationData,
        truth: &Truth,
        vectors: PreparedRef<'_>,
        seed: u64,
    ) -> Result<Option<Self>, MeasureError> {
        let dim = vectors.dim;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let queries = some_rows(vectors.queries.len() / dim.max(1), &mut random);
        let items = some_rows(vectors.gallery.len() / dim.max(1), &mut random);
        let gallery = rows_of(vectors.gallery, dim, &items);
        let mut impostors: Vec<f32> = Vec::with_capacity(queries.len() * items.len());
        let mut products = vec![0.0; BLOCK * items.len()];
        for block in queries.chunks(BLOCK) {
            let asked = rows_of(vectors.queries, dim, block);
            let products = &mut products[..block.len() * items.len()];
            dot_products(&asked, &gallery, dim, products);
            for (&query, row) in block.iter().zip(products.chunks_exact(items.len().max(1))) {
                let own = data.own.as_ref().and_then(|own| own[query]);
                let wrong = items.iter().zip(row).filter(|&(&item, _)| {
                    own != Some(item as u32) && !truth.is_relevant(query, item)
                });
                impostors.extend(wrong.map(|(_, &similarity)| similarity));
            }
        }
        let told = RATES
            .into_iter()
            .filter(|rate| impostors.len() as f64 * rate >= LEAST_ACCEPTED);
        let told: Vec<f64> = told.collect();
        if told.is_empty() {
            return Ok(None);
        }
        let found = Threshold::for_false_accept_rates(&impostors, &told)?;
        let rates = told
            .into_iter()
            .zip(found)
            .map(|(rate, found)| RateThreshold {
                false_accept_rate: rate,
                // The threshold lies just above an impostor's similarity, which this rounds back to.
                similarity: (found.threshold as f32).next_up(),
            });
        Ok(Some(Self {
            impostor_pairs: impostors.len() as u64,
            rates: rates.collect(),
        }))
    }
}

/// All rows, or a sample of them, ascending.
fn some_rows(count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    if count <= MOST_ROWS {
        return (0..count).collect();
    }
    let mut rows = sample(random, count, MOST_ROWS).into_vec();
    rows.sort_unstable();
    rows
}

/// `[rows, dim]`
fn rows_of(values: &[f32], dim: usize, rows: &[usize]) -> Vec<f32> {
    let rows = rows.iter().flat_map(|&row| &values[row * dim..][..dim]);
    rows.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation_data::{Names, Rows};
    use crate::route::Prepared;
    use perennial_core::{SpaceRef, dot, normalize_rows};
    use rand::RngExt;

    fn units(count: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut rows: Vec<f32> = (0..count * dim)
            .map(|_| random.random::<f32>() - 0.4)
            .collect();
        normalize_rows(&mut rows, dim).unwrap();
        rows
    }

    fn data(truth: &Truth, own: Option<Vec<Option<u32>>>) -> EvaluationData {
        let none = || Rows {
            values: Vec::new(),
            dim: 1,
            space: SpaceRef::unnamed(1),
        };
        EvaluationData {
            old_queries: none(),
            old_gallery: none(),
            new_queries: none(),
            new_gallery: None,
            truths: vec![truth.clone()],
            own,
            names: Names::default(),
        }
    }

    #[test]
    fn thresholds_are_those_of_a_count_of_all_pairs() {
        const DIM: usize = 6;
        let prepared = Prepared {
            queries: units(70, DIM, 1),
            gallery: units(300, DIM, 2),
            dim: DIM,
        };
        let items = (0..70).map(|query| vec![query, query + 100]).collect();
        for (truth, own) in [
            (
                Truth::Classes {
                    queries: (0..70).map(|row| row % 4).collect(),
                    gallery: (0..300).map(|row| row % 4).collect(),
                },
                None,
            ),
            (
                Truth::Items(items),
                Some((0..70u32).map(|query| query.checked_sub(3)).collect()),
            ),
        ] {
            let data = data(&truth, own);
            let found = Thresholds::of(&data, &truth, prepared.as_ref(), 1)
                .unwrap()
                .unwrap();
            let mut impostors = Vec::new();
            for (query, vector) in prepared.queries.chunks_exact(DIM).enumerate() {
                for (item, other) in prepared.gallery.chunks_exact(DIM).enumerate() {
                    let own = data.own.as_ref().and_then(|own| own[query]);
                    if own != Some(item as u32) && !truth.is_relevant(query, item) {
                        impostors.push(dot(vector, other));
                    }
                }
            }
            assert_eq!(found.impostor_pairs, impostors.len() as u64);
            // Some 15,000 and 21,000 pairs: ten of them are a share of .001, but not of .0001.
            assert_eq!(found.rates.len(), 3);
            for one in &found.rates {
                let share = |threshold: f32| {
                    let accepted = impostors.iter().filter(|&&score| score >= threshold);
                    accepted.count() as f64 / impostors.len() as f64
                };
                // The two products add up in different orders.
                let (above, below) = (share(one.similarity + 1e-6), share(one.similarity - 1e-6));
                assert!(above <= one.false_accept_rate, "{one:?} {above}");
                assert!(below > one.false_accept_rate, "{one:?} {below}");
            }
        }
    }

    #[test]
    fn too_few_pairs_give_no_thresholds_and_large_sets_are_sampled() {
        let prepared = |queries: usize, items: usize| Prepared {
            queries: units(queries, 2, 3),
            gallery: units(items, 2, 4),
            dim: 2,
        };
        let truth = |queries: usize, items: usize| Truth::Classes {
            queries: vec![0; queries],
            gallery: vec![1; items],
        };
        let of = |queries: usize, items: usize, seed| {
            let truth = truth(queries, items);
            let data = data(&truth, None);
            Thresholds::of(&data, &truth, prepared(queries, items).as_ref(), seed).unwrap()
        };
        assert_eq!(of(9, 11, 1), None);
        assert_eq!(of(10, 10, 1).unwrap().rates.len(), 1);
        let sampled = of(3, 1500, 1).unwrap();
        assert_eq!(sampled.impostor_pairs, 3 * 1024);
        assert_eq!(of(3, 1500, 1).unwrap(), sampled);
        assert_ne!(of(3, 1500, 2).unwrap(), sampled);
        // All pairs belong together.
        let truth = Truth::Classes {
            queries: vec![0; 20],
            gallery: vec![0; 20],
        };
        let data = data(&truth, None);
        let found = Thresholds::of(&data, &truth, prepared(20, 20).as_ref(), 1).unwrap();
        assert_eq!(found, None);
    }

    #[test]
    fn a_wanted_rate_takes_the_next_stricter_threshold() {
        let rate = |false_accept_rate, similarity| RateThreshold {
            false_accept_rate,
            similarity,
        };
        let one = Thresholds {
            impostor_pairs: 10_000,
            rates: vec![rate(0.1, 0.4), rate(0.01, 0.6), rate(0.001, 0.7)],
        };
        for (wanted, similarity) in [
            (0.5, Some(0.4)),
            (0.1, Some(0.4)),
            (0.099, Some(0.6)),
            (0.001, Some(0.7)),
            (0.0001, None),
            (f64::NAN, None),
        ] {
            assert_eq!(one.at(wanted), similarity, "{wanted}");
        }
        let other = Thresholds {
            impostor_pairs: 500,
            rates: vec![rate(0.1, 0.3), rate(0.01, 0.65)],
        };
        let both = one.stricter(&other);
        assert_eq!(both.rates, [rate(0.1, 0.4), rate(0.01, 0.65)]);
        assert_eq!(both.impostor_pairs, 500);
    }
}
