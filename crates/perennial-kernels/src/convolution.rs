//! Convolution geometry and the three products of a training step.

use crate::gather_product::{self, Source, Term};
use crate::packed_weights::PackedWeights;
use crate::weight_gradient;
use crate::winograd::{self, Winograd};

/// The geometry of one two-dimensional convolution (square stride, padding and dilation, no bias).
///
/// With several groups, channels are cut into as many equal parts, and every part of the output reads the same part of the input only.
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
    /// Parts that the channels are cut into; divides both numbers of channels.
    pub groups: usize,
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
        self.out_channels * (self.in_channels / self.groups) * self.taps()
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The taps that read anything but padding, which at small maps are the fewest.
    pub(crate) fn connections(&self) -> Vec<Connection> {
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

    /// Applies the convolution.
    ///
    /// # Shapes
    ///
    /// - input: `[in_height, in_width, batch, in_channels]`
    /// - weight: `[kernel_height, kernel_width, in_channels / groups, out_channels]`
    /// - output (written): `[out_height, out_width, batch, out_channels]`
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
        if self.groups > 1 {
            return self.grouped_forward(input, weight, epilogue, output);
        }
        if self.takes_rows() {
            let (terms, packed) = self.prepared_rows(weight);
            return self.row_product(input, &terms, &packed, epilogue, output);
        }
        if winograd::suits(self, self.batch) {
            return Winograd::forward(self, weight).apply(self.batch, input, epilogue, output);
        }
        let (terms, packed) = self.prepared(weight);
        let source = Source::dense(input, self.batch, self.in_channels);
        gather_product::product(source, self.batch, &terms, &packed, epilogue, output);
    }

    /// What every output position is summed from, and the weights for it.
    pub(crate) fn prepared(&self, weight: &[f32]) -> (Vec<Vec<Term>>, PackedWeights) {
        let (terms, used) = self.terms();
        let channels = [self.in_channels, self.out_channels];
        let packed = PackedWeights::forward(weight, channels, &used);
        (terms, packed)
    }

    /// What every output position is summed from, and the taps that are used.
    pub(crate) fn terms(&self) -> (Vec<Vec<Term>>, Vec<usize>) {
        let [out_height, out_width] = self.output();
        let connections = self.connections();
        let mut terms = vec![Vec::new(); out_height * out_width];
        for (tap, Connection { pairs, .. }) in connections.iter().enumerate() {
            for &(from, to) in pairs {
                terms[to].push(Term { slab: from, tap });
            }
        }
        (terms, used(&connections))
    }

    /// The same for every position of the input gradient.
    pub(crate) fn transposed_terms(&self) -> (Vec<Vec<Term>>, Vec<usize>) {
        let connections = self.connections();
        let mut terms = vec![Vec::new(); self.input[0] * self.input[1]];
        for (tap, Connection { pairs, .. }) in connections.iter().enumerate() {
            for &(to, from) in pairs {
                terms[to].push(Term { slab: from, tap });
            }
        }
        (terms, used(&connections))
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
        self.check_gradients(output_gradient, weight, input_gradient);
        if self.groups > 1 {
            return self.grouped_input_gradient(output_gradient, weight, input_gradient);
        }
        if winograd::suits(self, self.batch) {
            let transposed = Winograd::input_gradient(self, weight);
            return transposed.apply(self.batch, output_gradient, None, input_gradient);
        }
        let (terms, used) = self.transposed_terms();
        let channels = [self.out_channels, self.in_channels];
        let packed = PackedWeights::transposed(weight, channels, &used);
        let source = Source::dense(output_gradient, self.batch, self.out_channels);
        gather_product::product(source, self.batch, &terms, &packed, None, input_gradient);
    }

    /// Gradient with respect to the weights.
    ///
    /// # Shapes
    ///
    /// - weight_gradient (written): `[kernel_height, kernel_width, in_channels / groups, out_channels]`
    pub fn weight_gradient(
        &self,
        input: &[f32],
        output_gradient: &[f32],
        weight_gradient: &mut [f32],
    ) {
        self.check_gradients(output_gradient, weight_gradient, input);
        if self.batch == 0 {
            weight_gradient.fill(0.0);
            return;
        }
        if self.groups > 1 {
            return self.grouped_weight_gradient(input, output_gradient, weight_gradient);
        }
        if self.takes_rows() {
            return self.row_weight_gradient(input, output_gradient, weight_gradient);
        }
        if winograd::suits_weight_gradient(self) {
            return winograd::weight_gradient(self, input, output_gradient, weight_gradient);
        }
        weight_gradient::sums(
            Source::dense(input, self.batch, self.in_channels),
            output_gradient,
            self.batch,
            [self.in_channels, self.out_channels],
            &self.connections(),
            weight_gradient,
        );
    }

    fn check_gradients(&self, output: &[f32], weight: &[f32], input: &[f32]) {
        assert_eq!(output.len(), self.output_len(), "output gradient length");
        assert_eq!(weight.len(), self.weight_len(), "weight length");
        assert_eq!(input.len(), self.input_len(), "input length");
    }
}

fn used(connections: &[Connection]) -> Vec<usize> {
    connections
        .iter()
        .map(|connection| connection.tap)
        .collect()
}
