//! Convolution geometry and the three products of a training step.

use rayon::prelude::*;

use crate::gather_product::{self, Term};
use crate::packed_weights::PackedWeights;
use crate::weight_gradient;
use crate::winograd::Winograd;

/// The geometry of one two-dimensional convolution (square stride, padding and dilation, no bias).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Images in the batch.
    pub batch: usize,
    /// Channels read.
    pub in_channels: usize,
    /// Channels written.
    pub out_channels: usize,
    /// Height and width of the input map.
    pub input: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step between output positions, in input positions.
    pub stride: usize,
    /// Zeros around the input map.
    pub padding: usize,
    /// Distance between kernel taps, in input positions.
    pub dilation: usize,
}

/// What happens to a convolution's output while it is still in cache: a shift per channel, a residual, a ReLU.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    /// Added to every position, `[out_channels]`.
    pub shift: &'a [f32],
    /// Added element by element, the shape of the output.
    pub residual: Option<&'a [f32]>,
    /// Whether negative results become zero.
    pub relu: bool,
}

/// A tap in use: its place in the kernel, and the pairs (input position, output position) that it connects.
pub(crate) struct Connection {
    pub tap: usize,
    pub pairs: Vec<(usize, usize)>,
}

/// Parts in which the first layer's weight gradient is summed: fixed, so that sums do not depend on the number of threads.
const GRADIENT_PARTS: usize = 16;

fn add(total: &mut [f32], values: &[f32]) {
    for (total, value) in total.iter_mut().zip(values) {
        *total += value;
    }
}

impl Convolution {
    /// Height and width of the output map.
    pub fn output(&self) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let reach = self.dilation * (self.kernel[axis] - 1) + 1;
            let padded = self.input[axis] + 2 * self.padding;
            if padded < reach {
                0
            } else {
                (padded - reach) / self.stride + 1
            }
        })
    }

    /// Elements of the input map over the whole batch.
    pub fn input_len(&self) -> usize {
        self.input[0] * self.input[1] * self.batch * self.in_channels
    }

    /// Elements of the output map over the whole batch.
    pub fn output_len(&self) -> usize {
        let [height, width] = self.output();
        height * width * self.batch * self.out_channels
    }

    /// Elements of the weights.
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.in_channels * self.taps()
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The taps that read anything but padding, which at small maps are the fewest.
    fn connections(&self) -> Vec<Connection> {
        let [out_height, out_width] = self.output();
        let source = |out: usize, tap: usize, limit: usize| {
            (out * self.stride + tap * self.dilation)
                .checked_sub(self.padding)
                .filter(|&at| at < limit)
        };
        let mut connections = Vec::with_capacity(self.taps());
        for tap_y in 0..self.kernel[0] {
            for tap_x in 0..self.kernel[1] {
                let mut pairs = Vec::new();
                for out_y in 0..out_height {
                    let Some(in_y) = source(out_y, tap_y, self.input[0]) else {
                        continue;
                    };
                    for out_x in 0..out_width {
                        let Some(in_x) = source(out_x, tap_x, self.input[1]) else {
                            continue;
                        };
                        pairs.push((in_y * self.input[1] + in_x, out_y * out_width + out_x));
                    }
                }
                if !pairs.is_empty() {
                    connections.push(Connection {
                        tap: tap_y * self.kernel[1] + tap_x,
                        pairs,
                    });
                }
            }
        }
        connections
    }

    /// Whether the input has so few channels that a tap's product is too short to be worth starting: the first layer
    /// of a network. Its taps are then gathered into one long row per output position, at the cost of a copy.
    pub(crate) fn gathers(&self) -> bool {
        self.in_channels <= 4 && self.taps() > 1
    }

    /// The 1x1 convolution that is left to do once all taps of one output position lie side by side.
    pub(crate) fn pointwise(&self) -> Self {
        Self {
            in_channels: self.taps() * self.in_channels,
            input: [1, 1],
            kernel: [1, 1],
            stride: 1,
            padding: 0,
            dilation: 1,
            ..*self
        }
    }

    /// For every output position, the (input position, tap) pairs that it sums over.
    pub(crate) fn sources(&self) -> Vec<Vec<(usize, usize)>> {
        let [out_height, out_width] = self.output();
        let mut sources = vec![Vec::new(); out_height * out_width];
        for Connection { tap, pairs } in self.connections() {
            for (from, to) in pairs {
                sources[to].push((from, tap));
            }
        }
        sources
    }

    /// All taps of one output position side by side, `[batch, taps * in_channels]` with zeros for padding. One position at a
    /// time, because all of them together are many times the input and would go through memory twice.
    pub(crate) fn gathered(&self, input: &[f32], sources: &[(usize, usize)]) -> Vec<f32> {
        let (depth, width) = (self.in_channels, self.taps() * self.in_channels);
        let mut rows = vec![0.0; self.batch * width];
        for &(from, tap) in sources {
            let input = &input[from * self.batch * depth..(from + 1) * self.batch * depth];
            for (row, pixel) in rows.chunks_exact_mut(width).zip(input.chunks_exact(depth)) {
                for (value, from) in row[tap * depth..(tap + 1) * depth].iter_mut().zip(pixel) {
                    *value = *from;
                }
            }
        }
        rows
    }

    /// Applies the convolution to gathered rows, with the weights of [`pointwise`](Self::pointwise).
    pub(crate) fn gathered_product(
        &self,
        input: &[f32],
        sources: &[Vec<(usize, usize)>],
        weights: &PackedWeights,
        epilogue: Option<Epilogue<'_>>,
        output: &mut [f32],
    ) {
        let slab = self.batch * self.out_channels;
        let whole = [vec![Term { slab: 0, tap: 0 }]];
        output
            .par_chunks_mut(slab.max(1))
            .zip(sources)
            .enumerate()
            .for_each(|(at, (output, sources))| {
                let rows = self.gathered(input, sources);
                let epilogue = epilogue.map(|epilogue| Epilogue {
                    residual: epilogue
                        .residual
                        .map(|residual| &residual[at * slab..(at + 1) * slab]),
                    ..epilogue
                });
                gather_product::product(&rows, self.batch, &whole, weights, epilogue, output);
            });
    }

    /// Weights with the taps outside the input channels, as [`gathered`](Self::gathered) orders them.
    pub(crate) fn tap_major(&self, weight: &[f32]) -> Vec<f32> {
        let (taps, inputs) = (self.taps(), self.in_channels);
        (0..weight.len())
            .map(|at| {
                let (out, tap, channel) = (at / (inputs * taps), at / inputs % taps, at % inputs);
                weight[(out * inputs + channel) * taps + tap]
            })
            .collect()
    }

    /// Applies the convolution.
    ///
    /// # Shapes
    ///
    /// - input: `[in_height, in_width, batch, in_channels]`
    /// - weight: `[out_channels, in_channels, kernel_height, kernel_width]`
    /// - output: `[out_height, out_width, batch, out_channels]`
    pub fn forward(
        &self,
        input: &[f32],
        weight: &[f32],
        epilogue: Option<Epilogue<'_>>,
        output: &mut [f32],
    ) {
        assert_eq!(input.len(), self.input_len(), "input length");
        assert_eq!(weight.len(), self.weight_len(), "weight length");
        assert_eq!(output.len(), self.output_len(), "output length");
        if let Some(epilogue) = epilogue {
            assert_eq!(epilogue.shift.len(), self.out_channels, "shift length");
            assert!(
                epilogue
                    .residual
                    .is_none_or(|residual| residual.len() == output.len()),
                "residual length"
            );
        }
        if self.gathers() {
            let (_, packed) = self.pointwise().prepared(&self.tap_major(weight));
            return self.gathered_product(input, &self.sources(), &packed, epilogue, output);
        }
        if Winograd::suits(self) {
            return Winograd::forward(self, weight).apply(self.batch, input, epilogue, output);
        }
        let (terms, packed) = self.prepared(weight);
        gather_product::product(input, self.batch, &terms, &packed, epilogue, output);
    }

    /// What every output position is summed from, and the weights for it.
    pub(crate) fn prepared(&self, weight: &[f32]) -> (Vec<Vec<Term>>, PackedWeights) {
        let [out_height, out_width] = self.output();
        let connections = self.connections();
        let mut terms = vec![Vec::new(); out_height * out_width];
        for (tap, Connection { pairs, .. }) in connections.iter().enumerate() {
            for &(from, to) in pairs {
                terms[to].push(Term { slab: from, tap });
            }
        }
        let packed = PackedWeights::forward(
            weight,
            self.out_channels,
            self.in_channels,
            self.taps(),
            &connections,
        );
        (terms, packed)
    }

    /// Gradient with respect to the input: [`forward`](Self::forward) transposed.
    ///
    /// # Shapes
    ///
    /// - output_gradient: `[out_height, out_width, batch, out_channels]`
    /// - input_gradient (written): `[in_height, in_width, batch, in_channels]`
    pub fn input_gradient(
        &self,
        output_gradient: &[f32],
        weight: &[f32],
        input_gradient: &mut [f32],
    ) {
        assert_eq!(
            output_gradient.len(),
            self.output_len(),
            "output gradient length"
        );
        assert_eq!(weight.len(), self.weight_len(), "weight length");
        assert_eq!(
            input_gradient.len(),
            self.input_len(),
            "input gradient length"
        );
        if Winograd::suits(self) {
            return Winograd::input_gradient(self, weight).apply(
                self.batch,
                output_gradient,
                None,
                input_gradient,
            );
        }
        let connections = self.connections();
        let mut terms = vec![Vec::new(); self.input[0] * self.input[1]];
        for (tap, Connection { pairs, .. }) in connections.iter().enumerate() {
            for &(to, from) in pairs {
                terms[to].push(Term { slab: from, tap });
            }
        }
        let packed = PackedWeights::transposed(
            weight,
            self.out_channels,
            self.in_channels,
            self.taps(),
            &connections,
        );
        gather_product::product(
            output_gradient,
            self.batch,
            &terms,
            &packed,
            None,
            input_gradient,
        );
    }

    /// The weights' gradient from gathered rows, taps outside the input channels.
    fn gathered_weight_gradient(&self, input: &[f32], output_gradient: &[f32]) -> Vec<f32> {
        let pointwise = self.pointwise();
        let sources = self.sources();
        let slab = (self.batch * self.out_channels).max(1);
        let part = sources.len().div_ceil(GRADIENT_PARTS).max(1);
        let parts: Vec<Vec<f32>> = sources
            .par_chunks(part)
            .zip(output_gradient.par_chunks(part * slab))
            .map(|(sources, gradient)| {
                let mut total = vec![0.0; self.weight_len()];
                let mut of_one = total.clone();
                for (sources, gradient) in sources.iter().zip(gradient.chunks_exact(slab)) {
                    let rows = self.gathered(input, sources);
                    pointwise.weight_gradient(&rows, gradient, &mut of_one);
                    add(&mut total, &of_one);
                }
                total
            })
            .collect();
        let mut total = vec![0.0; self.weight_len()];
        parts.iter().for_each(|part| add(&mut total, part));
        total
    }

    /// Gradient with respect to the weights.
    ///
    /// # Shapes
    ///
    /// - weight_gradient (written): `[out_channels, in_channels, kernel_height, kernel_width]`
    pub fn weight_gradient(
        &self,
        input: &[f32],
        output_gradient: &[f32],
        weight_gradient: &mut [f32],
    ) {
        assert_eq!(input.len(), self.input_len(), "input length");
        assert_eq!(
            output_gradient.len(),
            self.output_len(),
            "output gradient length"
        );
        assert_eq!(
            weight_gradient.len(),
            self.weight_len(),
            "weight gradient length"
        );
        if self.gathers() {
            let tap_major = self.gathered_weight_gradient(input, output_gradient);
            let (taps, inputs) = (self.taps(), self.in_channels);
            for (at, value) in weight_gradient.iter_mut().enumerate() {
                let (out, channel, tap) = (at / (inputs * taps), at / taps % inputs, at % taps);
                *value = tap_major[(out * taps + tap) * inputs + channel];
            }
            return;
        }
        let connections = self.connections();
        let by_tap = weight_gradient::sums(
            input,
            output_gradient,
            self.batch,
            [self.in_channels, self.out_channels],
            &connections,
        );
        // [used tap][in][out, padded] -> [out][in][tap]
        let (taps, inputs) = (self.taps(), self.in_channels);
        let columns = by_tap.len() / (connections.len() * inputs).max(1);
        weight_gradient
            .par_chunks_mut(inputs * taps)
            .enumerate()
            .for_each(|(out, row)| {
                row.fill(0.0);
                for (used, connection) in connections.iter().enumerate() {
                    let sums = &by_tap[used * inputs * columns..(used + 1) * inputs * columns];
                    for (channel, sum) in sums.iter().skip(out).step_by(columns).enumerate() {
                        row[channel * taps + connection.tap] = *sum;
                    }
                }
            });
    }
}
