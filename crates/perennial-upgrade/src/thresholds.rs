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
