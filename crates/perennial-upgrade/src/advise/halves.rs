//! One half of the queries chooses settings, the other half is measured.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::evaluation_data::{EvaluationData, Truth};

/// The evaluation set in two halves.
pub(super) struct Halves {
    pub(super) tuning: EvaluationData,
    pub(super) judging: EvaluationData,
}

/// Queries that choose settings, at most.
pub(super) const MAX_TUNING_QUERIES: usize = 2_000;

/// Which queries choose, and which judge.
pub(super) fn split(queries: usize, seed: u64) -> [Vec<usize>; 2] {
    let mut order: Vec<usize> = (0..queries).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    order.shuffle(&mut rng);
    let tuning = (order.len() / 2).min(MAX_TUNING_QUERIES);
    let mut judging = order.split_off(tuning);
    order.sort_unstable();
    judging.sort_unstable();
    [order, judging]
}

/// The truth of a half.
pub(super) fn truth_of(data: &EvaluationData, number: usize) -> &Truth {
    &data.truths[number]
}
