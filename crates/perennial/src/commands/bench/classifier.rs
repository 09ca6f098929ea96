//! The simplex classifier in closed form beside a dense one: logits and their gradient, per sample.

use perennial_core::{Simplex, dot_products};

use super::peaks::Peaks;
use super::timing::{Measurement, measure};

/// Vertices up to which the dense matrix is measured too: beyond, it alone would take gigabytes.
const DENSE_UP_TO: usize = 10_000;
const VERTICES: [usize; 5] = [100, 1000, 10_000, 30_000, 100_000];
const BATCH: usize = 32;

/// One measurement for every number of vertices, and one of the dense classifier where it fits.
pub fn measure_all(samples: usize, peaks: Peaks) -> anyhow::Result<Vec<Measurement>> {
    let mut found = Vec::new();
    for vertices in VERTICES {
        let simplex = Simplex::new(vertices)?;
        let dim = simplex.dim();
        let features: Vec<f32> = (0..BATCH * dim)
            .map(|at| (at % 97) as f32 / 97.0 - 0.5)
            .collect();
        let mut logits = vec![0.0; BATCH * vertices];
        let mut gradient = vec![0.0; BATCH * dim];
        let title = |kind: &str| {
            format!("{kind} classifier, logits and gradient, {vertices} vertices, batch {BATCH}")
        };
        let closed = measure(title("simplex"), samples, || {
            for sample in 0..BATCH {
                let logits = &mut logits[sample * vertices..][..vertices];
                simplex.logits(&features[sample * dim..][..dim], logits);
                simplex.logits_backward(logits, &mut gradient[sample * dim..][..dim]);
            }
        });
        // Features and gradient in and out, logits written and read.
        let bytes = 4 * BATCH * (2 * dim + 2 * vertices);
        found.push(
            closed
                .per_call(BATCH, "samples")
                .bytes(bytes as f64, peaks.memory_bytes_per_second),
        );
        if vertices > DENSE_UP_TO {
            continue;
        }
        let prototypes: Vec<f32> = (0..vertices)
            .flat_map(|vertex| simplex.prototype(vertex))
            .collect();
        let transposed: Vec<f32> = (0..dim)
            .flat_map(|axis| prototypes.iter().skip(axis).step_by(dim))
            .copied()
            .collect();
        let dense = measure(title("dense"), samples, || {
            dot_products(&features, &prototypes, dim, &mut logits);
            dot_products(&logits, &transposed, vertices, &mut gradient);
        });
        let operations = (4 * BATCH * vertices * dim) as f64;
        found.push(
            dense
                .per_call(BATCH, "samples")
                .operations(operations, peaks.gemm_per_second),
        );
    }
    Ok(found)
}
