//! A small convolutional network for the demo and for tests; trains in seconds on a laptop.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand_chacha::ChaCha8Rng;

use super::frozen::Stage;
use super::layers::{BatchNorm, Conv, Mode, Path, conv_norm, frozen};

/// Four convolutions, each halving the map: `width`, `2 width`, `4 width`, `8 width` channels.
#[derive(Module, Debug)]
pub struct SmallNet {
    layers: Vec<SmallLayer>,
    features: usize,
}

#[derive(Module, Debug)]
struct SmallLayer {
    conv: Conv,
    norm: BatchNorm,
}

impl SmallNet {
    /// Random weights.
    pub fn new(width: usize, in_channels: usize, rng: &mut ChaCha8Rng, device: &Device) -> Self {
        let mut from = in_channels;
        let layers = [1, 2, 4, 8].map(|factor| {
            let to = width * factor;
            let conv = Conv::new([from, to], [3, 2, 1], rng, device);
            from = to;
            SmallLayer {
                conv,
                norm: BatchNorm::new(to, device),
            }
        });
        Self {
            layers: layers.into(),
            features: 8 * width,
        }
    }

    /// Length of the features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Its parts for embedding alone, for images of the given height and width.
    pub(super) fn frozen(&self, input: [usize; 2]) -> Vec<Stage> {
        let mut side = input;
        let stage = |SmallLayer { conv, norm }: &SmallLayer| {
            let convolution = frozen(conv, norm, side, true);
            side = convolution.output();
            Stage::Convolution(convolution)
        };
        self.layers.iter().map(stage).collect()
    }

    /// Images to features.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, channels, height, width]`
    /// - result: `[batch, 8 * width]`
    pub fn forward(&self, images: Tensor<4>, mode: Mode, path: Path) -> Tensor<2> {
        let mut map = path.enter(images);
        for SmallLayer { conv, norm } in &self.layers {
            map = conv_norm(conv, norm, map, None, true, mode, path);
        }
        path.global_mean(map)
    }
}
