//! Weights in the order in which the innermost loop reads them.

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use crate::buffers;

/// Values of a cache line; packed weights begin on one, or every vector that is read would lie on two.
const LINE: usize = 16;
/// Values of the longest vector that there is.
const MOST_LANES: usize = 16;
/// Rows that are transposed together: as many as a vector's instructions can interleave.
const TOGETHER: usize = 4;

/// Weights rearranged to `[panel][tap][depth][columns of a tile]`, the last panel filled up with anything.
pub(crate) struct PackedWeights {
    values: Vec<f32>,
    /// Where the first cache line of `values` begins.
    start: usize,
    pub depth: usize,
    pub outputs: usize,
    taps: usize,
    pub columns: usize,
}

impl PackedWeights {
    /// For the forward product, from the used taps of `[taps, depth, outputs]`.
    pub fn forward(weight: &[f32], [depth, outputs]: [usize; 2], used: &[usize]) -> Self {
        Self::new([depth, outputs], used.len(), |first, tap, packed| {
            let columns = packed.len() / depth;
            let kept = columns.min(outputs - first);
            let rows = weight[used[tap] * depth * outputs..].chunks_exact(outputs);
            for (target, row) in packed.chunks_exact_mut(columns).zip(rows) {
                target[..kept].copy_from_slice(&row[first..first + kept]);
            }
        })
    }

    /// For the input gradient, from the used taps of `[taps, outputs, depth]`.
    pub fn transposed(weight: &[f32], [depth, outputs]: [usize; 2], used: &[usize]) -> Self {
        Self::new([depth, outputs], used.len(), |first, tap, packed| {
            let columns = packed.len() / depth;
            let rows = &weight[(used[tap] * outputs + first) * depth..];
            let kept = columns.min(outputs - first);
            arch().dispatch(Transpose {
                rows: &rows[..kept * depth],
                depth,
                packed,
                columns,
            });
        })
    }

    /// `fill(first output, tap, [depth, columns])` writes one tap's part of a panel; values beyond the last output do not matter.
    pub fn new(
        [depth, outputs]: [usize; 2],
        taps: usize,
        fill: impl Fn(usize, usize, &mut [f32]) + Sync,
    ) -> Self {
        let columns = crate::tile_columns(outputs);
        let part = depth * columns;
        let parts = outputs.div_ceil(columns) * taps;
        let mut values = buffers::buffer(parts * part + LINE);
        let start = line_start(&values);
        values[start..start + parts * part]
            .par_chunks_exact_mut(part.max(1))
            .enumerate()
            .for_each(|(at, packed)| fill(at / taps * columns, at % taps, packed));
        Self {
            values,
            start,
            depth,
            outputs,
            taps,
            columns,
        }
    }

    /// The same in memory of its own, for weights that last.
    pub fn lasting(mut self) -> Self {
        // The copy may lie elsewhere relative to cache lines.
        let len = self.values.len() - LINE;
        let mut values = vec![0.0; self.values.len()];
        let start = line_start(&values);
        values[start..start + len].copy_from_slice(&self.values[self.start..self.start + len]);
        self.start = start;
        buffers::recycle(std::mem::replace(&mut self.values, values));
        self
    }

    /// The weights of one tap for one panel of outputs, `[depth, columns]`.
    pub fn panel(&self, panel: usize, tap: usize) -> &[f32] {
        let len = self.depth * self.columns;
        &self.values[self.start + (panel * self.taps + tap) * len..][..len]
    }
}

impl Drop for PackedWeights {
    fn drop(&mut self) {
        buffers::recycle(std::mem::take(&mut self.values));
    }
}

/// Where the first cache line begins.
fn line_start(values: &[f32]) -> usize {
    let offset = values.as_ptr().align_offset(LINE * size_of::<f32>());
    offset.min(LINE)
}

/// Rows of `depth` values into columns, `columns` values from one depth to the next.
struct Transpose<'a> {
    rows: &'a [f32],
    depth: usize,
    packed: &'a mut [f32],
    columns: usize,
}

impl WithSimd for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            rows,
            depth,
            packed,
            columns,
        } = self;
        // Where each depth of a vector is after interleaving, which differs between processors.
        let mut depths = [0.0; MOST_LANES];
        depths
            .iter_mut()
            .zip(0_u8..)
            .for_each(|(at, lane)| *at = f32::from(lane));
        let depths = S::as_simd_f32s(&depths).0[0];
        let places: [S::f32s; TOGETHER] = simd.interleave_shfl_f32s([depths; TOGETHER]);
        let places: &[f32] = bytemuck::cast_slice(&places);
        let vectors = depth / S::F32_LANES;
        for (group, rows) in rows.chunks(TOGETHER * depth).enumerate() {
            let column = group * TOGETHER;
            let mut done = 0;
            if rows.len() == TOGETHER * depth {
                let mut lines = rows.chunks_exact(depth).map(|row| S::as_simd_f32s(row).0);
                let lines: [&[S::f32s]; TOGETHER] =
                    std::array::from_fn(|_| lines.next().unwrap_or_default());
                for vector in 0..vectors {
                    let read = lines.map(|line| line[vector]);
                    let read: [S::f32s; TOGETHER] = simd.interleave_shfl_f32s(read);
                    let read: &[f32] = bytemuck::cast_slice(&read);
                    let target = &mut packed[vector * S::F32_LANES * columns..];
                    let read = read.as_chunks::<TOGETHER>().0;
                    for (values, place) in read.iter().zip(places.iter().step_by(TOGETHER)) {
                        target[*place as usize * columns + column..][..TOGETHER]
                            .copy_from_slice(values);
                    }
                }
                done = vectors * S::F32_LANES;
            }
            for (at, row) in rows.chunks_exact(depth).enumerate() {
                for (depth, value) in row.iter().enumerate().skip(done) {
                    packed[depth * columns + column + at] = *value;
                }
            }
        }
    }
}
