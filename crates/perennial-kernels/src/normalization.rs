//! Batch norm over rows of channels, fused with the residual sum and the ReLU that follow it in a ResNet.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;
use crate::column_sums::{BlockStatistics, Gate, GradientSums};

/// Rows per partial sum: fixed, so that sums do not depend on the number of threads.
const BLOCK_ROWS: usize = 256;

/// Mean and biased variance of every channel over all rows.
///
/// # Shapes
///
/// - values: `[rows, channels]`
/// - results: `[channels]` each
pub fn batch_statistics(values: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    assert_eq!(values.len() % channels, 0, "values are whole rows");
    let rows = (values.len() / channels) as f64;
    // Around each block's own mean, while the block is in cache: the one-pass formula cancels badly in f32.
    let blocks: Vec<Vec<f32>> = values
        .par_chunks(BLOCK_ROWS * channels)
        .map(|block| {
            let mut statistics = vec![0.0; 2 * channels];
            arch().dispatch(BlockStatistics {
                block,
                channels,
                statistics: &mut statistics,
            });
            statistics
        })
        .collect();
    let block_rows = |at: usize| {
        let first = at * BLOCK_ROWS;
        (BLOCK_ROWS as f64).min(rows - first as f64)
    };
    let mut mean = vec![0.0; channels];
    for (at, block) in blocks.iter().enumerate() {
        for (mean, of_block) in mean.iter_mut().zip(block) {
            *mean += block_rows(at) / rows * f64::from(*of_block);
        }
    }
    let mut variance = vec![0.0; channels];
    for (at, block) in blocks.iter().enumerate() {
        let (means, squares) = block.split_at(channels);
        for (((variance, mean), of_block), squares) in
            variance.iter_mut().zip(&mean).zip(means).zip(squares)
        {
            let away = f64::from(*of_block) - mean;
            *variance += (f64::from(*squares) + block_rows(at) * away * away) / rows;
        }
    }
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    (narrow(mean), narrow(variance))
}

/// Adds per-block partial sums (f32 inside a block of 256 rows, f64 across blocks) in block order.
fn column_sums<I: Send>(
    blocks: impl IndexedParallelIterator<Item = I>,
    columns: usize,
    add: impl Fn(I, &mut [f32]) + Sync,
) -> Vec<f64> {
    let partial: Vec<Vec<f32>> = blocks
        .map(|block| {
            let mut sums = vec![0.0; columns];
            add(block, &mut sums);
            sums
        })
        .collect();
    let mut total = vec![0.0; columns];
    for sums in &partial {
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += f64::from(*sum);
        }
    }
    total
}

/// Sums of every channel over all rows.
///
/// # Shapes
///
/// - values: `[rows, channels]`, result: `[channels]`
pub fn channel_sums(values: &[f32], channels: usize) -> Vec<f32> {
    assert_eq!(values.len() % channels, 0, "values are whole rows");
    let sums = column_sums(
        values.par_chunks(BLOCK_ROWS * channels),
        channels,
        |block, sums| arch().dispatch(RowSums { block, sums }),
    );
    sums.into_iter().map(|sum| sum as f32).collect()
}

struct RowSums<'a> {
    block: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for RowSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.block.chunks_exact(self.sums.len()) {
            for (sum, value) in self.sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

/// `output = gamma * (values - mean) * inverse_deviation + beta`, plus the residual, then the ReLU.
///
/// # Shapes
///
/// - values, residual, output: `[rows, channels]`
/// - mean, inverse_deviation, gamma, beta: `[channels]`
pub fn normalize(
    values: &[f32],
    [mean, inverse_deviation, gamma, beta]: [&[f32]; 4],
    residual: Option<&[f32]>,
    relu: bool,
    output: &mut [f32],
) {
    let channels = mean.len();
    assert!(
        [inverse_deviation.len(), gamma.len(), beta.len()] == [channels; 3],
        "one value per channel"
    );
    assert!(
        values.len() == output.len() && values.len().is_multiple_of(channels),
        "values are whole rows"
    );
    assert!(
        residual.is_none_or(|residual| residual.len() == output.len()),
        "residual length"
    );
    let scale = scales(gamma, inverse_deviation);
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let block = BLOCK_ROWS * channels;
    let blocks = output
        .par_chunks_mut(block)
        .zip(values.par_chunks(block))
        .enumerate();
    blocks.for_each(|(at, (output, values))| {
        let residual = residual.map(|residual| &residual[at * block..at * block + values.len()]);
        arch().dispatch(NormalizeBlock {
            values,
            channels: [mean, &scale, beta],
            residual,
            floor,
            output,
        });
    });
}

fn scales(gamma: &[f32], inverse_deviation: &[f32]) -> Vec<f32> {
    let factors = gamma.iter().zip(inverse_deviation);
    factors.map(|(gamma, inverse)| gamma * inverse).collect()
}

struct NormalizeBlock<'a> {
    values: &'a [f32],
    /// Mean, scale and shift, `[channels]` each.
    channels: [&'a [f32]; 3],
    residual: Option<&'a [f32]>,
    floor: f32,
    output: &'a mut [f32],
}

impl WithSimd for NormalizeBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let ([mean, scale, beta], floor) = (self.channels, self.floor);
        let channels = mean.len();
        let rows = self
            .output
            .chunks_exact_mut(channels)
            .zip(self.values.chunks_exact(channels));
        for (row, (output, values)) in rows.enumerate() {
            let columns = output.iter_mut().zip(values).zip(mean).zip(scale).zip(beta);
            match self.residual {
                None => {
                    for ((((output, value), mean), scale), beta) in columns {
                        *output = rectify((value - mean) * scale + beta, floor);
                    }
                }
                Some(residual) => {
                    let residual = &residual[row * channels..(row + 1) * channels];
                    for (((((output, value), mean), scale), beta), residual) in
                        columns.zip(residual)
                    {
                        *output = rectify((value - mean) * scale + beta + residual, floor);
                    }
                }
            }
        }
    }
}

/// The larger of a value and a floor. Unlike `f32::max` it hands NaN on, so that a diverged network cannot hide behind
/// its ReLUs.
#[inline(always)]
pub(crate) fn rectify(value: f32, floor: f32) -> f32 {
    if value < floor { floor } else { value }
}

/// The ReLU of [`normalize`], and how to tell where it was shut.
#[derive(Clone, Copy, Debug)]
pub enum Rectified<'a> {
    /// There was none.
    Nowhere,
    /// It was shut where the output is zero, `[rows, channels]`: what [`normalize`] wrote.
    Output(&'a [f32]),
    /// Nothing was added before it, so it was shut where the normalised values with this shift, [`normalize`]'s `beta`, are not positive. They are
    /// computed again, which takes less time than reading the output.
    Shift(&'a [f32]),
}

/// What [`normalize_backward`] returns.
#[derive(Debug)]
pub struct NormalizationGradients {
    /// With respect to the normalised values, `[rows, channels]`.
    pub values: Vec<f32>,
    /// With respect to the residual, `[rows, channels]`: the output gradient where the ReLU let it through. Only where asked for.
    pub residual: Option<Vec<f32>>,
    /// `[channels]`.
    pub gamma: Vec<f32>,
    /// `[channels]`.
    pub beta: Vec<f32>,
}

/// Gradient of [`normalize`] when mean and deviation are the batch's own.
///
/// # Shapes
///
/// - values, gradient: `[rows, channels]`; the output's gradient is taken over and becomes the values'.
pub fn normalize_backward(
    values: &[f32],
    [mean, inverse_deviation, gamma]: [&[f32]; 3],
    rectified: Rectified<'_>,
    mut gradient: Vec<f32>,
    with_residual: bool,
) -> NormalizationGradients {
    let channels = mean.len();
    assert!(
        [inverse_deviation.len(), gamma.len()] == [channels; 2],
        "one value per channel"
    );
    assert!(
        values.len() == gradient.len() && values.len().is_multiple_of(channels),
        "values are whole rows"
    );
    match rectified {
        Rectified::Nowhere => {}
        Rectified::Output(output) => assert_eq!(output.len(), values.len(), "output length"),
        Rectified::Shift(shift) => assert_eq!(shift.len(), channels, "one shift per channel"),
    }
    let rows = (values.len() / channels) as f64;
    // gradient of a value = scale * (g - mean(g)) - (value - mean) * slope
    let scale = scales(gamma, inverse_deviation);
    let block = BLOCK_ROWS * channels;
    let sums = column_sums(
        gradient
            .par_chunks_mut(block)
            .zip(values.par_chunks(block))
            .enumerate(),
        2 * channels,
        |(at, (gradient, values)), sums| {
            let gate = match rectified {
                Rectified::Nowhere => Gate::Open,
                Rectified::Output(output) => {
                    Gate::Output(&output[at * block..at * block + gradient.len()])
                }
                Rectified::Shift(shift) => Gate::Norm {
                    scale: &scale,
                    shift,
                },
            };
            arch().dispatch(GradientSums {
                values,
                mean,
                gate,
                gradient,
                sums,
            });
        },
    );
    let (beta_sum, centred_sum) = sums.split_at(channels);
    let inverse = |channel: usize| f64::from(inverse_deviation[channel]);
    let gamma_gradient: Vec<f32> = (0..channels)
        .map(|channel| (centred_sum[channel] * inverse(channel)) as f32)
        .collect();
    let beta_gradient: Vec<f32> = beta_sum.iter().map(|&sum| sum as f32).collect();
    let offset: Vec<f32> = beta_sum.iter().map(|sum| (sum / rows) as f32).collect();
    let slope: Vec<f32> = (0..channels)
        .map(|channel| (centred_sum[channel] / rows * inverse(channel) * inverse(channel)) as f32)
        .collect();
    let value_gradient = |gradient: &mut [f32], values: &[f32]| {
        arch().dispatch(ValueGradient {
            values,
            channels: [mean, &scale, &offset, &slope],
            gradient,
        });
    };
    let (values, residual) = if with_residual {
        let mut result = buffers::buffer(gradient.len());
        let blocks = result.par_chunks_mut(block).zip(gradient.par_chunks(block));
        blocks
            .zip(values.par_chunks(block))
            .for_each(|((result, gradient), values)| {
                result.copy_from_slice(gradient);
                value_gradient(result, values);
            });
        (result, Some(gradient))
    } else {
        gradient
            .par_chunks_mut(block)
            .zip(values.par_chunks(block))
            .for_each(|(gradient, values)| value_gradient(gradient, values));
        (gradient, None)
    };
    NormalizationGradients {
        values,
        residual,
        gamma: gamma_gradient,
        beta: beta_gradient,
    }
}

/// The output's gradient becomes the values'.
struct ValueGradient<'a> {
    values: &'a [f32],
    /// Mean, scale, offset and slope, `[channels]` each.
    channels: [&'a [f32]; 4],
    gradient: &'a mut [f32],
}

impl WithSimd for ValueGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [mean, scale, offset, slope] = self.channels;
        let channels = mean.len();
        let rows = self
            .gradient
            .chunks_exact_mut(channels)
            .zip(self.values.chunks_exact(channels));
        for (gradient, values) in rows {
            let columns = gradient.iter_mut().zip(values).zip(mean);
            let factors = scale.iter().zip(offset).zip(slope);
            for (((gradient, value), mean), ((scale, offset), slope)) in columns.zip(factors) {
                *gradient = scale * (*gradient - offset - (value - mean) * slope);
            }
        }
    }
}
