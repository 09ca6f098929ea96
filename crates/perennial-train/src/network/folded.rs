//! Convolutions with what follows them folded in, before their weights are packed for the kernels.

use perennial_kernels::{Convolution, FrozenConvolution, recycle};

/// A convolution, what is added to every output channel, and whether a ReLU follows.
#[derive(Debug)]
pub struct FoldedConvolution {
    /// Its batch does not count.
    pub geometry: Convolution,
    /// `[kernel_height, kernel_width, in_channels / groups, out_channels]`
    pub weight: Vec<f32>,
    /// `[out_channels]`
    pub shift: Vec<f32>,
    /// Whether a ReLU follows, after what is added.
    pub relu: bool,
}

impl FoldedConvolution {
    /// Height and width of the output map.
    pub fn output(&self) -> [usize; 2] {
        self.geometry.output()
    }

    /// Multiplications and additions for one image, padding counted as if it were pixels.
    pub fn operations(&self) -> f64 {
        let [height, width] = self.output();
        2.0 * (height * width) as f64 * self.geometry.weight_len() as f64
    }

    /// Packs the weights.
    pub fn frozen(self) -> FrozenConvolution {
        let Self {
            geometry,
            weight,
            shift,
            relu,
        } = self;
        let frozen = FrozenConvolution::new(geometry, &weight, shift, relu);
        recycle(weight);
        frozen
    }
}
