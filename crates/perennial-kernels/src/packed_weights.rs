//! Weights in the order in which the innermost loop reads them.

use rayon::prelude::*;

use crate::convolution::Connection;

/// Values of a cache line; packed weights begin on one, or every vector that is read would lie on two.
const LINE: usize = 16;
/// Depths that are rearranged at a time, so that what is read and what is written stay in cache.
const BLOCK: usize = 16;

/// Weights rearranged to `[panel][tap][depth][columns of a tile]`, the last panel filled up with zeros.
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
        let columns = crate::tile_columns(outputs);
        let taps = used.len();
        let panel_len = taps * depth * columns;
        let mut values = vec![0.0; outputs.div_ceil(columns) * panel_len + LINE];
        let start = values
            .as_ptr()
            .align_offset(LINE * size_of::<f32>())
            .min(LINE);
        let blocks = depth.div_ceil(BLOCK);
        if panel_len > 0 {
            values[start..]
                .par_chunks_exact_mut(panel_len)
                .enumerate()
                .for_each(|(panel, packed)| {
                    let first = panel * columns;
                    let kept = columns.min(outputs - first);
                    for block in 0..blocks {
                        let depths = block * BLOCK..depth.min((block + 1) * BLOCK);
                        for (tap, connection) in used.iter().enumerate() {
                            for at in depths.clone() {
                                let source = &weight
                                    [first * output_stride + at * depth_stride + connection.tap..];
                                let target = &mut packed[(tap * depth + at) * columns..][..kept];
                                for (target, value) in
                                    target.iter_mut().zip(source.iter().step_by(output_stride))
                                {
                                    *target = *value;
                                }
                            }
                        }
                    }
                });
        }
        Self {
            values,
            start,
            depth,
            outputs,
            taps,
            columns,
        }
    }

    /// The weights of one tap for one panel of outputs, `[depth, columns]`.
    pub fn panel(&self, panel: usize, tap: usize) -> &[f32] {
        let len = self.depth * self.columns;
        &self.values[self.start + (panel * self.taps + tap) * len..][..len]
    }
}
