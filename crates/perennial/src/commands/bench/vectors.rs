//! Vectors to measure with.

use rand::{RngExt, SeedableRng};

/// Values between -1 and 1, the same for equal seeds.
pub fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}
