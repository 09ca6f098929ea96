//! Sums of slab-times-matrix products: the shared heart of the forward and the input-gradient convolution.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::Epilogue;
use crate::convolution::Connection;
use crate::normalization::rectify;

/// One summand of an output slab: the input slab it reads and the weight tap it is multiplied with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    pub slab: usize,
    pub tap: usize,
}

/// Weights rearranged to `[panel][tap][depth][columns of a tile]`, the last panel filled up with zeros, so that the
/// innermost loop reads them front to back.
pub(crate) struct PackedWeights {
    values: Vec<f32>,
    depth: usize,
    outputs: usize,
    taps: usize,
    columns: usize,
}

impl PackedWeights {
    /// For the forward product: depth = input channels, outputs = output channels.
    pub fn forward(
        weight: &[f32],
        out_channels: usize,
        in_channels: usize,
        taps: usize,
        used: &[Connection],
    ) -> Self {
        Self::pack(
            weight,
            [in_channels, taps],
            [out_channels, in_channels * taps],
            used,
        )
    }

    /// For the input gradient: depth = output channels, outputs = input channels.
    pub fn transposed(
        weight: &[f32],
        out_channels: usize,
        in_channels: usize,
        taps: usize,
        used: &[Connection],
    ) -> Self {
        Self::pack(
            weight,
            [out_channels, in_channels * taps],
            [in_channels, taps],
            used,
        )
    }

    /// `[depth, its stride]` and `[outputs, their stride]` say where weights lie.
    fn pack(
        weight: &[f32],
        [depth, depth_stride]: [usize; 2],
        [outputs, output_stride]: [usize; 2],
        used: &[Connection],
    ) -> Self {
        let columns = crate::tile_columns();
        let taps = used.len();
        let panel_len = taps * depth * columns;
        let mut values = vec![0.0; outputs.div_ceil(columns) * panel_len];
        values
            .par_chunks_mut(panel_len.max(1))
            .enumerate()
            .for_each(|(panel, chunk)| {
                let first = panel * columns;
                let kept = columns.min(outputs - first);
                let mut copy = |column: usize, at: usize| {
                    let source = &weight[(first + column) * output_stride + at * depth_stride..];
                    for (tap, connection) in used.iter().enumerate() {
                        chunk[(tap * depth + at) * columns + column] = source[connection.tap];
                    }
                };
                // Weights are read in the order in which they lie, whichever of the two strides is the small one.
                if output_stride < depth_stride {
                    (0..depth).for_each(|at| (0..kept).for_each(|column| copy(column, at)));
                } else {
                    (0..kept).for_each(|column| (0..depth).for_each(|at| copy(column, at)));
                }
            });
        Self {
            values,
            depth,
            outputs,
            taps,
            columns,
        }
    }

    fn panel(&self, panel: usize) -> &[f32] {
        let len = self.taps * self.depth * self.columns;
        &self.values[panel * len..(panel + 1) * len]
    }
}

/// Rows that one task computes: few enough that its output stays in the second-level cache for the epilogue, and that
/// a 1x1 map still gives every core something to do.
const TASK_ROWS: usize = 64;

/// `output[slab] = sum over terms of input[term.slab] x weights[term.tap]`, then the epilogue.
///
/// # Shapes
///
/// - input: `[slabs, batch, depth]`
/// - output: `[terms.len(), batch, outputs]`
pub(crate) fn product(
    input: &[f32],
    batch: usize,
    terms: &[Vec<Term>],
    weights: &PackedWeights,
    epilogue: Option<Epilogue<'_>>,
    output: &mut [f32],
) {
    let width = weights.outputs;
    if width == 0 || batch == 0 {
        return;
    }
    output
        .par_chunks_mut(batch * width)
        .enumerate()
        .for_each(|(slab, output)| {
            output
                .par_chunks_mut(TASK_ROWS * width)
                .enumerate()
                .for_each(|(block, output)| {
                    let first_row = block * TASK_ROWS;
                    let rows = output.len() / width;
                    let task = Task {
                        input,
                        batch,
                        terms: &terms[slab],
                        weights,
                        first_row,
                        rows,
                        output: &mut *output,
                    };
                    pulp::Arch::new().dispatch(task);
                    if let Some(epilogue) = epilogue {
                        let start = (slab * batch + first_row) * width;
                        pulp::Arch::new().dispatch(|| apply(epilogue, start, output));
                    }
                });
        });
}

#[inline(always)]
fn apply(epilogue: Epilogue<'_>, start: usize, output: &mut [f32]) {
    let floor = if epilogue.relu {
        0.0
    } else {
        f32::NEG_INFINITY
    };
    let channels = epilogue.shift.len();
    match epilogue.residual {
        None => {
            for row in output.chunks_exact_mut(channels) {
                for (value, shift) in row.iter_mut().zip(epilogue.shift) {
                    *value = rectify(*value + shift, floor);
                }
            }
        }
        Some(residual) => {
            let residual = &residual[start..start + output.len()];
            for (row, residual) in output
                .chunks_exact_mut(channels)
                .zip(residual.chunks_exact(channels))
            {
                for ((value, shift), residual) in row.iter_mut().zip(epilogue.shift).zip(residual) {
                    *value = rectify(*value + shift + residual, floor);
                }
            }
        }
    }
}

struct Task<'a> {
    input: &'a [f32],
    batch: usize,
    terms: &'a [Term],
    weights: &'a PackedWeights,
    first_row: usize,
    rows: usize,
    output: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Two vectors wide, and as many rows as the registers hold accumulators for.
        let most = if S::REGISTER_COUNT >= 32 { 8 } else { 6 };
        for panel in 0..self.weights.outputs.div_ceil(self.weights.columns) {
            let mut row = 0;
            while row < self.rows {
                let rows = most.min(self.rows - row);
                match rows {
                    8 => tile::<S, 8>(simd, &mut self, panel, row),
                    7 => tile::<S, 7>(simd, &mut self, panel, row),
                    6 => tile::<S, 6>(simd, &mut self, panel, row),
                    5 => tile::<S, 5>(simd, &mut self, panel, row),
                    4 => tile::<S, 4>(simd, &mut self, panel, row),
                    3 => tile::<S, 3>(simd, &mut self, panel, row),
                    2 => tile::<S, 2>(simd, &mut self, panel, row),
                    _ => tile::<S, 1>(simd, &mut self, panel, row),
                }
                row += rows;
            }
        }
    }
}

/// `ROWS` rows by two vectors of the output, summed over every term without leaving the registers.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize>(simd: S, task: &mut Task<'_>, panel: usize, row: usize) {
    let depth = task.weights.depth;
    let columns = task.weights.columns;
    let panel_values = task.weights.panel(panel);
    let mut sums = [[simd.splat_f32s(0.0); 2]; ROWS];
    for term in task.terms {
        let start = (term.slab * task.batch + task.first_row + row) * depth;
        // Slices of exactly `depth` values, so that the compiler drops the bounds checks of the innermost loop.
        let rows: [&[f32]; ROWS] =
            std::array::from_fn(|at| &task.input[start + at * depth..][..depth]);
        let (vectors, _) = S::as_simd_f32s(&panel_values[term.tap * depth * columns..]);
        let pairs = &vectors.as_chunks::<2>().0[..depth];
        for at in 0..depth {
            let [left, right] = pairs[at];
            for (sum, values) in sums.iter_mut().zip(&rows) {
                let value = simd.splat_f32s(values[at]);
                sum[0] = simd.mul_add_e_f32s(value, left, sum[0]);
                sum[1] = simd.mul_add_e_f32s(value, right, sum[1]);
            }
        }
    }
    let width = task.weights.outputs;
    let first = panel * columns;
    let kept = columns.min(width - first);
    for (at, sum) in sums.iter().enumerate() {
        let output =
            &mut task.output[(row + at) * width + first..(row + at) * width + first + kept];
        if kept == columns {
            let (vectors, _) = S::as_mut_simd_f32s(output);
            vectors[0] = sum[0];
            vectors[1] = sum[1];
        } else {
            output.copy_from_slice(&pulp::bytemuck::cast_slice::<_, f32>(sum)[..kept]);
        }
    }
}
