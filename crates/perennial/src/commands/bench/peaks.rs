//! What this machine can do at best, measured: the scale on which everything else is judged.

use std::time::Instant;

use perennial_core::{dot, dot_products};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Side of the square matrices that a thread multiplies.
const SIDE: usize = 768;
/// Values that a thread sums: far beyond any cache.
const VALUES: usize = 32 << 20;
const ATTEMPTS: usize = 5;

/// The best of a few attempts, all threads together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Additions and multiplications in f32 a second, in products of large square matrices.
    pub gemm_per_second: f64,
    /// Bytes read from memory a second.
    pub memory_bytes_per_second: f64,
}

impl Peaks {
    pub fn measure() -> Self {
        let threads = rayon::current_num_threads();
        let operations = (threads * 2 * SIDE.pow(3)) as f64;
        let matrix = vec![0.5f32; SIDE * SIDE];
        let gemm = best(|| {
            (0..threads).into_par_iter().for_each(|_| {
                let mut products = vec![0.0; SIDE * SIDE];
                dot_products(&matrix, &matrix, SIDE, &mut products);
                std::hint::black_box(products);
            });
        });
        let values: Vec<Vec<f32>> = (0..threads)
            .into_par_iter()
            .map(|_| vec![1.0f32; VALUES])
            .collect();
        let memory = best(|| {
            values.par_iter().for_each(|values| {
                // In core, since this crate is compiled without optimisation.
                let (first, second) = values.split_at(VALUES / 2);
                std::hint::black_box(dot(first, second));
            });
        });
        Self {
            gemm_per_second: operations / gemm,
            memory_bytes_per_second: (threads * VALUES * 4) as f64 / memory,
        }
    }
}

/// Seconds of the fastest attempt.
fn best(work: impl Fn()) -> f64 {
    let attempt = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..ATTEMPTS).map(attempt).fold(f64::INFINITY, f64::min)
}
