//! The weight gradient: products of transposed slabs, summed over positions and images.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::buffers;
use crate::gather_product::Source;
use crate::geometry::Connection;

/// Input channels of one task at most; with a tap, the unit of parallel work.
const TASK_CHANNELS: usize = 48;
/// Input channels of one task at least: two tiles.
const FEWEST_CHANNELS: usize = 12;
/// Tasks for each thread, so that none waits long for the last one; unless they had too few channels.
const TASKS: usize = 8;

/// Rows that one task fills up with zeros.
const PADDED_ROWS: usize = 256;

/// For every tap, `sum over its (input, output) pairs of input_slab^T x gradient_slab`; zero for taps without a connection.
///
/// # Shapes
///
/// - source: slabs of `[batch, in_channels]`
/// - gradient: `[out_slabs, batch, out_channels]`
/// - result (written): `[taps, in_channels, out_channels]`
pub(crate) fn sums(
    source: Source<'_>,
    gradient: &[f32],
    batch: usize,
    [in_channels, out_channels]: [usize; 2],
    connections: &[Connection],
    result: &mut [f32],
) {
    if result.is_empty() {
        return;
    }
    let tile = crate::tile_columns(out_channels);
    let columns = out_channels.next_multiple_of(tile);
    if columns == out_channels {
        return whole_sums(
            source,
            gradient,
            batch,
            [in_channels, columns],
            connections,
            result,
        );
    }
    let gradient = pad_rows(gradient, out_channels, columns);
    let mut padded = buffers::buffer(result.len() / out_channels * columns);
    whole_sums(
        source,
        &gradient,
        batch,
        [in_channels, columns],
        connections,
        &mut padded,
    );
    let rows = result.chunks_exact_mut(out_channels);
    for (row, padded) in rows.zip(padded.chunks_exact(columns)) {
        row.copy_from_slice(&padded[..out_channels]);
    }
    buffers::recycle(gradient);
    buffers::recycle(padded);
}

/// The same for rows of whole tiles.
fn whole_sums(
    source: Source<'_>,
    gradient: &[f32],
    batch: usize,
    [in_channels, columns]: [usize; 2],
    connections: &[Connection],
    result: &mut [f32],
) {
    let tile = crate::tile_columns(columns);
    let of_tap = (in_channels * columns).max(1);
    // Which channels are a task changes no sum.
    let channels = (in_channels * connections.len())
        .div_ceil(TASKS * rayon::current_num_threads())
        .next_multiple_of(FEWEST_CHANNELS)
        .clamp(FEWEST_CHANNELS, TASK_CHANNELS);
    let mut pairs: Vec<&[(usize, usize)]> = vec![&[]; result.len() / of_tap];
    for connection in connections {
        pairs[connection.tap] = &connection.pairs;
    }
    result
        .par_chunks_mut(of_tap)
        .zip(pairs)
        .for_each(|(result, pairs)| {
            result
                .par_chunks_mut(channels * columns)
                .enumerate()
                .for_each(|(block, result)| {
                    arch().dispatch(SlabProducts {
                        source,
                        gradient,
                        gradient_stride: batch * columns,
                        batch,
                        first_channel: block * channels,
                        columns,
                        tile,
                        pairs,
                        together: 1,
                        fresh: true,
                        result,
                    });
                });
        });
}

/// The sums over some output positions, one position after the other.
///
/// # Shapes
///
/// - starts: per position, (tap, input slab) pairs, the same taps everywhere
/// - gradient: `[positions, batch, out_channels]`
/// - result: `[taps, in_channels, out_channels]`
pub(crate) fn sums_by_position(
    source: Source<'_>,
    gradient: &[f32],
    batch: usize,
    [in_channels, out_channels]: [usize; 2],
    starts: &[Vec<(usize, usize)>],
) -> Vec<f32> {
    let tile = crate::tile_columns(out_channels);
    let columns = out_channels.next_multiple_of(tile);
    let padded = (columns != out_channels).then(|| pad_rows(gradient, out_channels, columns));
    let gradient = padded.as_deref().unwrap_or(gradient);
    let taps = starts.first().map_or(0, Vec::len);
    let mut result = vec![0.0; taps * in_channels * columns];
    for (position, starts) in starts.iter().enumerate() {
        for &(tap, slab) in starts {
            arch().dispatch(SlabProducts {
                source,
                gradient,
                gradient_stride: batch * columns,
                batch,
                first_channel: 0,
                columns,
                tile,
                pairs: &[(slab, position)],
                together: 1,
                fresh: false,
                result: &mut result[tap * in_channels * columns..][..in_channels * columns],
            });
        }
    }
    let Some(padded) = padded else {
        return result;
    };
    buffers::recycle(padded);
    let rows = result.chunks_exact(columns);
    rows.flat_map(|row| &row[..out_channels]).copied().collect()
}

/// Rows filled up with zeros, in a buffer to be recycled.
fn pad_rows(values: &[f32], from: usize, to: usize) -> Vec<f32> {
    let mut padded = buffers::buffer(values.len() / from * to);
    padded
        .par_chunks_mut(PADDED_ROWS * to)
        .zip(values.par_chunks(PADDED_ROWS * from))
        .for_each(|(padded, values)| {
            for (row, padded) in values.chunks_exact(from).zip(padded.chunks_exact_mut(to)) {
                let (taken, rest) = padded.split_at_mut(from);
                taken.copy_from_slice(row);
                rest.fill(0.0);
            }
        });
    padded
}

/// `result (+)= sum over pairs of input_slab^T x gradient_slab`, for some of the input channels.
pub(crate) struct SlabProducts<'a> {
    pub source: Source<'a>,
    pub gradient: &'a [f32],
    /// Values from one slab of the gradient to the next.
    pub gradient_stride: usize,
    pub batch: usize,
    pub first_channel: usize,
    /// Values of a row of the gradient and of the result, whole tiles.
    pub columns: usize,
    pub tile: usize,
    pub pairs: &'a [(usize, usize)],
    /// Pairs that are summed in registers before the result is read and written.
    pub together: usize,
    /// Whether what the result holds is overwritten.
    pub fresh: bool,
    /// `[channels, columns]`
    pub result: &'a mut [f32],
}

impl WithSimd for SlabProducts<'_> {
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

impl SlabProducts<'_> {
    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize>(mut self, simd: S, most: usize) {
        let channels = self.result.len() / self.columns;
        if self.pairs.is_empty() && self.fresh {
            self.result.fill(0.0);
        }
        // Slabs that are summed together are small enough to stay in cache while all tiles of the block pass over them.
        for pairs in self.pairs.chunks(self.together) {
            for start in (0..self.columns).step_by(self.tile) {
                let mut channel = 0;
                while channel < channels {
                    let rows = most.min(channels - channel);
                    let at = [channel, start];
                    match rows {
                        8 => tile::<S, 8, VECTORS>(simd, &mut self, pairs, at),
                        7 => tile::<S, 7, VECTORS>(simd, &mut self, pairs, at),
                        6 => tile::<S, 6, VECTORS>(simd, &mut self, pairs, at),
                        5 => tile::<S, 5, VECTORS>(simd, &mut self, pairs, at),
                        4 => tile::<S, 4, VECTORS>(simd, &mut self, pairs, at),
                        3 => tile::<S, 3, VECTORS>(simd, &mut self, pairs, at),
                        2 => tile::<S, 2, VECTORS>(simd, &mut self, pairs, at),
                        _ => tile::<S, 1, VECTORS>(simd, &mut self, pairs, at),
                    }
                    channel += rows;
                }
            }
            self.fresh = false;
        }
    }
}

/// Adds some pairs of slabs to `ROWS` rows (input channels) by `VECTORS` vectors of the result.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    task: &mut SlabProducts<'_>,
    pairs: &[(usize, usize)],
    [channel, start]: [usize; 2],
) {
    let columns = task.columns;
    let stride = task.source.image_stride;
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for &(slab, position) in pairs {
        let first = task.source.row(slab, 0) + task.first_channel + channel;
        let inputs = &task.source.values[first..];
        let gradients = &task.gradient[position * task.gradient_stride..][..task.batch * columns];
        for (image, gradient) in gradients.chunks_exact(columns).enumerate() {
            let input: &[f32; ROWS] = inputs[image * stride..]
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
    }
    for (at, sums) in sums.iter().enumerate() {
        let row = (channel + at) * columns + start;
        let (vectors, _) = S::as_mut_simd_f32s(&mut task.result[row..row + task.tile]);
        for (total, sum) in vectors.iter_mut().zip(sums) {
            *total = match task.fresh {
                true => *sum,
                false => simd.add_f32s(*total, *sum),
            };
        }
    }
}
