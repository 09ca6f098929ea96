//! Batch norm over rows of channels, fused with the residual sum and the ReLU that follow it in a ResNet.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;

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

/// Per channel: the mean over a block's rows, then the sum of squares around it.
struct BlockStatistics<'a> {
    block: &'a [f32],
    channels: usize,
    statistics: &'a mut [f32],
}

impl WithSimd for BlockStatistics<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (mean, squares) = self.statistics.split_at_mut(self.channels);
        for row in self.block.chunks_exact(self.channels) {
            for (sum, value) in mean.iter_mut().zip(row) {
                *sum += value;
            }
        }
        let rows = (self.block.len() / self.channels) as f32;
        mean.iter_mut().for_each(|sum| *sum /= rows);
        for row in self.block.chunks_exact(self.channels) {
            for ((sum, value), mean) in squares.iter_mut().zip(row).zip(&*mean) {
                let centred = value - mean;
                *sum += centred * centred;
            }
        }
    }
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
    let scale: Vec<f32> = gamma
        .iter()
        .zip(inverse_deviation)
        .map(|(gamma, inverse)| gamma * inverse)
        .collect();
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
/// - values, output, gradient: `[rows, channels]`; `output` is what [`normalize`] wrote, and tells where the ReLU was shut;
///   pass `None` where there was none. The output's gradient is taken over and becomes the values'.
pub fn normalize_backward(
    values: &[f32],
    [mean, inverse_deviation, gamma]: [&[f32]; 3],
    output: Option<&[f32]>,
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
    assert!(
        output.is_none_or(|output| output.len() == values.len()),
        "output length"
    );
    let rows = (values.len() / channels) as f64;
    let block = BLOCK_ROWS * channels;
    let sums = column_sums(
        gradient
            .par_chunks_mut(block)
            .zip(values.par_chunks(block))
            .enumerate(),
        2 * channels,
        |(at, (gradient, values)), sums| {
            let output = output.map(|output| &output[at * block..at * block + gradient.len()]);
            arch().dispatch(GradientSums {
                values,
                mean,
                output,
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
    // gradient of a value = scale * (g - mean(g)) - (value - mean) * slope
    let scale: Vec<f32> = gamma
        .iter()
        .zip(inverse_deviation)
        .map(|(gamma, inverse)| gamma * inverse)
        .collect();
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

/// Shuts the output's gradient where the ReLU was shut, and sums it and its products with the centred values per channel.
struct GradientSums<'a> {
    values: &'a [f32],
    mean: &'a [f32],
    output: Option<&'a [f32]>,
    gradient: &'a mut [f32],
    sums: &'a mut [f32],
}

impl WithSimd for GradientSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if let Some(output) = self.output {
            for (gradient, output) in self.gradient.iter_mut().zip(output) {
                *gradient = if *output > 0.0 { *gradient } else { 0.0 };
            }
        }
        let channels = self.mean.len();
        let (beta, gamma) = self.sums.split_at_mut(channels);
        let rows = self
            .gradient
            .chunks_exact(channels)
            .zip(self.values.chunks_exact(channels));
        for (gradient, values) in rows {
            let sums = beta.iter_mut().zip(gamma.iter_mut());
            let columns = gradient.iter().zip(values).zip(self.mean);
            for ((beta, gamma), ((gradient, value), mean)) in sums.zip(columns) {
                *beta += gradient;
                *gamma += gradient * (value - mean);
            }
        }
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
