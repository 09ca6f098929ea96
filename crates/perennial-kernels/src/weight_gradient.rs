//! The weight gradient: products of transposed slabs, summed over positions and images.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::convolution::Connection;

/// Input channels of one task; with a tap, the unit of parallel work.
const TASK_CHANNELS: usize = 32;

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
    let tile = crate::tile_columns();
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
    pairs: &'a [(usize, usize)],
    result: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let most = if S::REGISTER_COUNT >= 32 { 8 } else { 6 };
        let channels = self.result.len() / self.columns;
        // One pair's slabs are small enough to stay in cache while all tiles of the block pass over them.
        for &pair in self.pairs {
            let mut channel = 0;
            while channel < channels {
                let rows = most.min(channels - channel);
                match rows {
                    8 => tiles::<S, 8>(simd, &mut self, pair, channel),
                    7 => tiles::<S, 7>(simd, &mut self, pair, channel),
                    6 => tiles::<S, 6>(simd, &mut self, pair, channel),
                    5 => tiles::<S, 5>(simd, &mut self, pair, channel),
                    4 => tiles::<S, 4>(simd, &mut self, pair, channel),
                    3 => tiles::<S, 3>(simd, &mut self, pair, channel),
                    2 => tiles::<S, 2>(simd, &mut self, pair, channel),
                    _ => tiles::<S, 1>(simd, &mut self, pair, channel),
                }
                channel += rows;
            }
        }
    }
}

/// Adds one pair of slabs to `ROWS` rows (input channels) of the result, tile by tile.
#[inline(always)]
fn tiles<S: Simd, const ROWS: usize>(
    simd: S,
    task: &mut Task<'_>,
    pair: (usize, usize),
    channel: usize,
) {
    let (in_channels, columns) = (task.in_channels, task.columns);
    let first = task.first_channel + channel;
    let inputs =
        &task.input[pair.0 * task.batch * in_channels..(pair.0 + 1) * task.batch * in_channels];
    let gradients =
        &task.gradient[pair.1 * task.batch * columns..(pair.1 + 1) * task.batch * columns];
    let tile = 2 * S::F32_LANES;
    for start in (0..columns).step_by(tile) {
        let mut sums = [[simd.splat_f32s(0.0); 2]; ROWS];
        for (input, gradient) in inputs
            .chunks_exact(in_channels)
            .zip(gradients.chunks_exact(columns))
        {
            let input: &[f32; ROWS] = input[first..]
                .first_chunk()
                .expect("a task's channels end within the row");
            let (vectors, _) = S::as_simd_f32s(&gradient[start..start + tile]);
            let (left, right) = (vectors[0], vectors[1]);
            for (sum, value) in sums.iter_mut().zip(input) {
                let value = simd.splat_f32s(*value);
                sum[0] = simd.mul_add_e_f32s(value, left, sum[0]);
                sum[1] = simd.mul_add_e_f32s(value, right, sum[1]);
            }
        }
        for (at, sum) in sums.iter().enumerate() {
            let row = (channel + at) * columns + start;
            let (vectors, _) = S::as_mut_simd_f32s(&mut task.result[row..row + tile]);
            vectors[0] = simd.add_f32s(vectors[0], sum[0]);
            vectors[1] = simd.add_f32s(vectors[1], sum[1]);
        }
    }
}
