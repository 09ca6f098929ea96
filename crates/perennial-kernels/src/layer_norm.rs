//! Layer norm: every row is normalised by its own mean and deviation.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;
use crate::exponential::sum;

/// Rows per partial sum: fixed, so that sums do not depend on the number of threads.
const BLOCK_ROWS: usize = 256;

/// `output = (values - mean) / sqrt(variance + epsilon) * gamma + beta`, mean and biased variance over each row. Returns both factors that
/// the backward pass needs: per row, the mean and the inverse deviation.
///
/// # Shapes
///
/// - values, output: `[rows, dim]`
/// - gamma, beta: `[dim]`, result: `[rows]`
///
/// **Source**: Ba et al., Layer Normalization, arXiv 1607.06450.
pub fn layer_norm(
    values: &[f32],
    [gamma, beta]: [&[f32]; 2],
    epsilon: f64,
    output: &mut [f32],
) -> Vec<[f32; 2]> {
    let dim = gamma.len();
    assert_eq!(beta.len(), dim, "one value per dimension");
    assert!(
        values.len() == output.len() && values.len().is_multiple_of(dim),
        "values are whole rows"
    );
    let mut statistics = vec![[0.0; 2]; values.len() / dim];
    output
        .par_chunks_mut(BLOCK_ROWS * dim)
        .zip(values.par_chunks(BLOCK_ROWS * dim))
        .zip(statistics.par_chunks_mut(BLOCK_ROWS))
        .for_each(|((output, values), statistics)| {
            arch().dispatch(Forward {
                values,
                gamma,
                beta,
                epsilon,
                output,
                statistics,
            });
        });
    statistics
}

/// What [`layer_norm_backward`] returns.
#[derive(Debug)]
pub struct LayerNormGradients {
    /// `[rows, dim]`
    pub values: Vec<f32>,
    /// `[dim]`
    pub gamma: Vec<f32>,
    /// `[dim]`
    pub beta: Vec<f32>,
}

/// Gradient of [`layer_norm`].
///
/// # Shapes
///
/// - values, gradient: `[rows, dim]`, statistics: what [`layer_norm`] returned
pub fn layer_norm_backward(
    values: &[f32],
    statistics: &[[f32; 2]],
    gamma: &[f32],
    gradient: &[f32],
) -> LayerNormGradients {
    let dim = gamma.len();
    assert!(
        values.len() == gradient.len() && values.len() == statistics.len() * dim,
        "values are whole rows"
    );
    let mut result = buffers::buffer(values.len());
    let parts: Vec<Vec<f32>> = result
        .par_chunks_mut(BLOCK_ROWS * dim)
        .zip(values.par_chunks(BLOCK_ROWS * dim))
        .zip(gradient.par_chunks(BLOCK_ROWS * dim))
        .zip(statistics.par_chunks(BLOCK_ROWS))
        .map(|(((result, values), gradient), statistics)| {
            let mut sums = vec![0.0; 2 * dim];
            arch().dispatch(Backward {
                values,
                gradient,
                statistics,
                gamma,
                result,
                sums: &mut sums,
            });
            sums
        })
        .collect();
    let mut total = vec![0.0_f64; 2 * dim];
    for sums in &parts {
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += f64::from(*sum);
        }
    }
    let total: Vec<f32> = total.into_iter().map(|sum| sum as f32).collect();
    let (gamma, beta) = total.split_at(dim);
    LayerNormGradients {
        values: result,
        gamma: gamma.to_vec(),
        beta: beta.to_vec(),
    }
}

struct Forward<'a> {
    values: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    epsilon: f64,
    output: &'a mut [f32],
    statistics: &'a mut [[f32; 2]],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let dim = self.gamma.len();
        let rows = self
            .output
            .chunks_exact_mut(dim)
            .zip(self.values.chunks_exact(dim));
        for ((output, values), statistics) in rows.zip(self.statistics) {
            let mean = sum(values, values, |value, _| value) / dim as f32;
            let squares = sum(values, values, |value, _| (value - mean) * (value - mean));
            let variance = f64::from(squares) / dim as f64;
            let inverse = (1.0 / (variance + self.epsilon).sqrt()) as f32;
            *statistics = [mean, inverse];
            let factors = self.gamma.iter().zip(self.beta);
            for ((output, value), (gamma, beta)) in output.iter_mut().zip(values).zip(factors) {
                *output = (value - mean) * inverse * gamma + beta;
            }
        }
    }
}

struct Backward<'a> {
    values: &'a [f32],
    gradient: &'a [f32],
    statistics: &'a [[f32; 2]],
    gamma: &'a [f32],
    result: &'a mut [f32],
    /// Of gamma, then of beta.
    sums: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let dim = self.gamma.len();
        let (of_gamma, of_beta) = self.sums.split_at_mut(dim);
        let rows = self
            .result
            .chunks_exact_mut(dim)
            .zip(self.values.chunks_exact(dim))
            .zip(self.gradient.chunks_exact(dim));
        for (((result, values), gradient), &[mean, inverse]) in rows.zip(self.statistics) {
            for ((result, gradient), gamma) in result.iter_mut().zip(gradient).zip(self.gamma) {
                *result = gradient * gamma;
            }
            let offset = sum(result, result, |scaled, _| scaled) / dim as f32;
            let along = sum(result, values, |scaled, value| scaled * (value - mean)) / dim as f32;
            let slope = along * inverse * inverse;
            let sums = of_gamma.iter_mut().zip(of_beta.iter_mut());
            let columns = result.iter_mut().zip(values).zip(gradient);
            for (((result, value), gradient), (of_gamma, of_beta)) in columns.zip(sums) {
                let centred = value - mean;
                *result = inverse * (*result - offset - centred * slope);
                *of_gamma += gradient * centred * inverse;
                *of_beta += gradient;
            }
        }
    }
}
