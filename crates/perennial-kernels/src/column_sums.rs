//! Sums over the rows of a block, channel by channel: some channels at a time over all rows, so that their sums stay in registers.

use pulp::{Simd, WithSimd};

/// Vectors of channels whose sums are in registers at a time.
const VECTORS: usize = 4;

/// Calls a method for all channels: `VECTORS` vectors at a time, one vector at a time, and the rest one by one.
macro_rules! each_column {
    ($self:ident, $simd:ident, $channels:expr) => {{
        let (channels, lanes) = ($channels, S::F32_LANES);
        let mut first = 0;
        while channels - first >= VECTORS * lanes {
            $self.vectors::<S, VECTORS>($simd, first);
            first += VECTORS * lanes;
        }
        while channels - first >= lanes {
            $self.vectors::<S, 1>($simd, first);
            first += lanes;
        }
        for channel in first..channels {
            $self.single(channel);
        }
    }};
}

/// The vectors of a row from a channel on.
#[inline(always)]
fn vectors<S: Simd, const N: usize>(row: &[f32], first: usize) -> &[S::f32s; N] {
    let (vectors, _) = S::as_simd_f32s(&row[first..first + N * S::F32_LANES]);
    vectors
        .first_chunk()
        .expect("as many vectors as values for them")
}

/// The same, to be changed.
#[inline(always)]
fn vectors_mut<S: Simd, const N: usize>(row: &mut [f32], first: usize) -> &mut [S::f32s; N] {
    let (vectors, _) = S::as_mut_simd_f32s(&mut row[first..first + N * S::F32_LANES]);
    vectors
        .first_chunk_mut()
        .expect("as many vectors as values for them")
}

/// Per channel: the mean over a block's rows, then the sum of squares around it.
pub(crate) struct BlockStatistics<'a> {
    pub block: &'a [f32],
    pub channels: usize,
    /// `[2, channels]`, written.
    pub statistics: &'a mut [f32],
}

impl WithSimd for BlockStatistics<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        each_column!(self, simd, self.channels);
    }
}

impl BlockStatistics<'_> {
    #[inline(always)]
    fn vectors<S: Simd, const N: usize>(&mut self, simd: S, first: usize) {
        let rows = self.block.len() / self.channels;
        let mut mean = [simd.splat_f32s(0.0); N];
        for row in self.block.chunks_exact(self.channels) {
            for (sum, value) in mean.iter_mut().zip(vectors::<S, N>(row, first)) {
                *sum = simd.add_f32s(*sum, *value);
            }
        }
        let count = simd.splat_f32s(rows as f32);
        for sum in &mut mean {
            *sum = simd.div_f32s(*sum, count);
        }
        let mut squares = [simd.splat_f32s(0.0); N];
        for row in self.block.chunks_exact(self.channels) {
            let values = vectors::<S, N>(row, first).iter().zip(&mean);
            for (sum, (value, mean)) in squares.iter_mut().zip(values) {
                let centred = simd.sub_f32s(*value, *mean);
                *sum = simd.mul_add_e_f32s(centred, centred, *sum);
            }
        }
        let (of_mean, of_squares) = self.statistics.split_at_mut(self.channels);
        *vectors_mut::<S, N>(of_mean, first) = mean;
        *vectors_mut::<S, N>(of_squares, first) = squares;
    }

    fn single(&mut self, channel: usize) {
        let rows = self.block.len() / self.channels;
        let column = || self.block.iter().skip(channel).step_by(self.channels);
        let mean = column().sum::<f32>() / rows as f32;
        let squares = column().map(|value| (value - mean) * (value - mean)).sum();
        self.statistics[channel] = mean;
        self.statistics[self.channels + channel] = squares;
    }
}

/// Where a gradient passes through a ReLU.
#[derive(Clone, Copy)]
pub(crate) enum Gate<'a> {
    /// Everywhere.
    Open,
    /// Where this is positive, `[rows, channels]`.
    Output(&'a [f32]),
    /// Where `(value - mean) * scale + shift` is, `[channels]` each.
    Norm { scale: &'a [f32], shift: &'a [f32] },
}

/// Shuts the output's gradient where the ReLU was shut, and sums it and its products with the centred values per channel.
pub(crate) struct GradientSums<'a> {
    pub values: &'a [f32],
    pub mean: &'a [f32],
    pub gate: Gate<'a>,
    pub gradient: &'a mut [f32],
    /// `[2, channels]`, written.
    pub sums: &'a mut [f32],
}

impl WithSimd for GradientSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        each_column!(self, simd, self.mean.len());
    }
}

impl GradientSums<'_> {
    #[inline(always)]
    fn vectors<S: Simd, const N: usize>(&mut self, simd: S, first: usize) {
        let channels = self.mean.len();
        let zero = simd.splat_f32s(0.0);
        let mean = *vectors::<S, N>(self.mean, first);
        let (mut scale, mut shift) = ([zero; N], [zero; N]);
        if let Gate::Norm {
            scale: scales,
            shift: shifts,
        } = self.gate
        {
            scale = *vectors::<S, N>(scales, first);
            shift = *vectors::<S, N>(shifts, first);
        }
        let (mut beta, mut gamma) = ([zero; N], [zero; N]);
        let rows = self
            .gradient
            .chunks_exact_mut(channels)
            .zip(self.values.chunks_exact(channels));
        for (row, (gradient, values)) in rows.enumerate() {
            let gradient = vectors_mut::<S, N>(gradient, first);
            let values = vectors::<S, N>(values, first);
            let output = match self.gate {
                Gate::Output(output) => *vectors::<S, N>(output, row * channels + first),
                Gate::Open | Gate::Norm { .. } => [zero; N],
            };
            for (at, (gradient, value)) in gradient.iter_mut().zip(values).enumerate() {
                let centred = simd.sub_f32s(*value, mean[at]);
                let output = match self.gate {
                    Gate::Open => None,
                    Gate::Output(_) => Some(output[at]),
                    Gate::Norm { .. } => {
                        let scaled = simd.mul_f32s(centred, scale[at]);
                        Some(simd.add_f32s(scaled, shift[at]))
                    }
                };
                if let Some(output) = output {
                    let passes = simd.greater_than_f32s(output, zero);
                    *gradient = simd.select_f32s(passes, *gradient, zero);
                }
                beta[at] = simd.add_f32s(beta[at], *gradient);
                gamma[at] = simd.mul_add_e_f32s(*gradient, centred, gamma[at]);
            }
        }
        let (of_beta, of_gamma) = self.sums.split_at_mut(channels);
        *vectors_mut::<S, N>(of_beta, first) = beta;
        *vectors_mut::<S, N>(of_gamma, first) = gamma;
    }

    fn single(&mut self, channel: usize) {
        let channels = self.mean.len();
        let mean = self.mean[channel];
        let (mut beta, mut gamma) = (0.0, 0.0);
        let places = (channel..self.values.len()).step_by(channels);
        for place in places {
            let centred = self.values[place] - mean;
            let passes = match self.gate {
                Gate::Open => true,
                Gate::Output(output) => output[place] > 0.0,
                Gate::Norm { scale, shift } => centred * scale[channel] + shift[channel] > 0.0,
            };
            if !passes {
                self.gradient[place] = 0.0;
            }
            beta += self.gradient[place];
            gamma += self.gradient[place] * centred;
        }
        self.sums[channel] = beta;
        self.sums[channels + channel] = gamma;
    }
}
