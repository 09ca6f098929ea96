//! Convolution geometry: sizes, and which positions a tap connects.

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
}
