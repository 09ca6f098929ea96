//! The weight gradient: products of transposed slabs, summed over positions and images.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::convolution::Connection;

/// Input channels of one task; with a tap, the unit of parallel work.
const TASK_CHANNELS: usize = 48;

/// For every used tap, `sum over its (input, output) pairs of input_slab^T x gradient_slab`.
///
/// # Shapes
///
/// - input: `[in_slabs, batch, in_channels]`
/// - gradient: `[out_slabs, batch, out_channels]`
/// - result: `[used taps, in_channels, columns]` with `columns` the output channels rounded up to whole tiles.
pub(crate) fn sums(
    input: &[f32],
    gradient: &[f32],
    batch: usize,
    [in_channels, out_channels]: [usize; 2],
    connections: &[Connection],
) -> Vec<f32> {
    let tile = crate::tile_columns(out_channels);
    let columns = out_channels.next_multiple_of(tile);
    let padded;
    let gradient = if columns == out_channels {
        gradient
    } else {
        padded = pad_rows(gradient, out_channels, columns);
        &padded
    };
    let mut result = vec![0.0; connections.len() * in_channels * columns];
    result
        .par_chunks_mut((in_channels * columns).max(1))
        .zip(connections)
        .for_each(|(result, connection)| {
            result
                .par_chunks_mut(TASK_CHANNELS * columns)
                .enumerate()
                .for_each(|(block, result)| {
                    pulp::Arch::new().dispatch(Task {
                        input,
                        gradient,
                        batch,
                        in_channels,
                        first_channel: block * TASK_CHANNELS,
                        columns,
                        tile,
                        pairs: &connection.pairs,
                        result,
                    });
                });
        });
    result
}

fn pad_rows(values: &[f32], from: usize, to: usize) -> Vec<f32> {
    let mut padded = vec![0.0; values.len() / from * to];
    for (row, padded) in values.chunks_exact(from).zip(padded.chunks_exact_mut(to)) {
        padded[..from].copy_from_slice(row);
    }
    padded
}

struct Task<'a> {
    input: &'a [f32],
    gradient: &'a [f32],
    batch: usize,
    in_channels: usize,
    first_channel: usize,
    columns: usize,
    tile: usize,
    pairs: &'a [(usize, usize)],
    result: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.tile / S::F32_LANES, S::REGISTER_COUNT >= 32) {
            (4, _) => self.run::<S, 4>(simd, 6),
            (_, true) => self.run::<S, 2>(simd, 8),
            (_, false) => self.run::<S, 2>(simd, 6),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(mut self, simd: S, most: usize) {
        let channels = self.result.len() / self.columns;
        // One pair's slabs are small enough to stay in cache while all tiles of the block pass over them.
        for &pair in self.pairs {
            for start in (0..self.columns).step_by(self.tile) {
                let mut channel = 0;
                while channel < channels {
                    let rows = most.min(channels - channel);
                    let at = [channel, start];
                    match rows {
                        8 => tile::<S, 8, VECTORS>(simd, &mut self, pair, at),
                        7 => tile::<S, 7, VECTORS>(simd, &mut self, pair, at),
                        6 => tile::<S, 6, VECTORS>(simd, &mut self, pair, at),
                        5 => tile::<S, 5, VECTORS>(simd, &mut self, pair, at),
                        4 => tile::<S, 4, VECTORS>(simd, &mut self, pair, at),
                        3 => tile::<S, 3, VECTORS>(simd, &mut self, pair, at),
                        2 => tile::<S, 2, VECTORS>(simd, &mut self, pair, at),
                        _ => tile::<S, 1, VECTORS>(simd, &mut self, pair, at),
                    }
                    channel += rows;
                }
            }
        }
    }
}

/// Adds one pair of slabs to `ROWS` rows (input channels) by `VECTORS` vectors of the result.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    task: &mut Task<'_>,
    pair: (usize, usize),
    [channel, start]: [usize; 2],
) {
    let (in_channels, columns) = (task.in_channels, task.columns);
    let first = task.first_channel + channel;
    let inputs =
        &task.input[pair.0 * task.batch * in_channels..(pair.0 + 1) * task.batch * in_channels];
    let gradients =
        &task.gradient[pair.1 * task.batch * columns..(pair.1 + 1) * task.batch * columns];
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (input, gradient) in inputs
        .chunks_exact(in_channels)
        .zip(gradients.chunks_exact(columns))
    {
        let input: &[f32; ROWS] = input[first..]
            .first_chunk()
            .expect("a task's channels end within the row");
        let (vectors, _) = S::as_simd_f32s(&gradient[start..start + task.tile]);
        let gradient: &[S::f32s; VECTORS] = vectors
            .first_chunk()
            .expect("a tile has as many vectors as its width says");
        for (sums, value) in sums.iter_mut().zip(input) {
            let value = simd.splat_f32s(*value);
            for (sum, gradient) in sums.iter_mut().zip(gradient) {
                *sum = simd.mul_add_e_f32s(value, *gradient, *sum);
            }
        }
    }
    for (at, sums) in sums.iter().enumerate() {
        let row = (channel + at) * columns + start;
        let (vectors, _) = S::as_mut_simd_f32s(&mut task.result[row..row + task.tile]);
        for (total, sum) in vectors.iter_mut().zip(sums) {
            *total = simd.add_f32s(*total, *sum);
        }
    }
}
