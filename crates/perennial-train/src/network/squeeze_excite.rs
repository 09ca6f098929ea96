//! The squeeze-and-excitation layer of SENet and RegNetY, with torchvision's and timm's parameter names.

use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation};
use perennial_kernels::{GateLayers, SqueezeExcite as Geometry, transpose};

use super::layers::{Path, SharedMap, addend, plain_linear, values};
use super::start::Start;
use crate::fused::SqueezeExciteLayer;

/// Scales every channel of an image by a gate between 0 and 1 that the channels' means decide.
///
/// **Source**: Hu et al., Squeeze-and-Excitation Networks, arXiv 1709.01507.
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    fc1: Pointwise,
    fc2: Pointwise,
}

/// A 1x1 convolution with bias.
#[derive(Module, Debug)]
struct Pointwise {
    /// `[outputs, inputs, 1, 1]`
    weight: Param<Tensor<4>>,
    /// `[outputs]`
    bias: Param<Tensor<1>>,
}

impl Pointwise {
    fn new([inputs, outputs]: [usize; 2], start: &mut Start) -> Self {
        let deviation = (2.0 / outputs as f64).sqrt();
        Self {
            weight: start.normal([outputs, inputs, 1, 1], deviation),
            bias: start.filled([outputs], 0.0),
        }
    }

    /// Rows `[batch, inputs]` to `[batch, outputs]`.
    fn plain(&self, rows: Tensor<2>) -> Tensor<2> {
        let [outputs, inputs, _, _] = self.weight.val().dims();
        let weight = self.weight.val().reshape([outputs, inputs]);
        plain_linear(rows, weight, Some(self.bias.val()))
    }

    /// Weights `[inputs, outputs]` and bias, on the host.
    fn frozen(&self) -> [Vec<f32>; 2] {
        let weight = self.weight.val().without_autodiff();
        let [outputs, inputs, _, _] = weight.dims();
        [
            transpose(&values(weight), outputs, inputs),
            values(self.bias.val().without_autodiff()),
        ]
    }
}

impl SqueezeExcite {
    /// Random weights, `squeezed` channels between the two layers.
    pub fn new(channels: usize, squeezed: usize, start: &mut Start) -> Self {
        Self {
            fc1: Pointwise::new([channels, squeezed], start),
            fc2: Pointwise::new([squeezed, channels], start),
        }
    }

    /// Scales a map, then adds the residual and ends with a ReLU where there is one.
    ///
    /// # Shapes
    ///
    /// In the layout of `path`: map, residual, result.
    pub fn forward(&self, map: Tensor<4>, residual: Option<SharedMap>, path: Path) -> Tensor<4> {
        let (residual, residual_fork) = residual.map(SharedMap::into_parts).unzip();
        match path {
            Path::Fused => Tensor::from_dispatch(<Dispatch as SqueezeExciteLayer>::squeeze_excite(
                map.into_dispatch(),
                self.fc1.weight.val().into_dispatch(),
                self.fc1.bias.val().into_dispatch(),
                self.fc2.weight.val().into_dispatch(),
                self.fc2.bias.val().into_dispatch(),
                addend(residual),
                residual_fork.unwrap_or_default(),
            )),
            Path::Plain => {
                let [batch, channels, _, _] = map.dims();
                let hidden = activation::relu(self.fc1.plain(path.global_mean(map.clone())));
                let gate = activation::sigmoid(self.fc2.plain(hidden));
                let scaled = map * gate.reshape([batch, channels, 1, 1]);
                match residual {
                    Some(residual) => activation::relu(scaled + residual),
                    None => scaled,
                }
            }
        }
    }

    /// For embedding alone, for maps of the given height and width.
    pub(super) fn frozen(&self, [height, width]: [usize; 2]) -> FrozenExcitation {
        let ([first, first_bias], [second, second_bias]) = (self.fc1.frozen(), self.fc2.frozen());
        FrozenExcitation {
            geometry: Geometry {
                positions: height * width,
                batch: 0,
                channels: second_bias.len(),
                squeezed: first_bias.len(),
            },
            first,
            first_bias,
            second,
            second_bias,
        }
    }
}

/// The same with weights that no longer change.
#[derive(Debug)]
pub struct FrozenExcitation {
    /// Its batch does not count.
    geometry: Geometry,
    first: Vec<f32>,
    first_bias: Vec<f32>,
    second: Vec<f32>,
    second_bias: Vec<f32>,
}

impl FrozenExcitation {
    /// Maps `[height, width, batch, channels]`, as [`SqueezeExcite::forward`].
    pub(super) fn forward(&self, batch: usize, map: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
        let geometry = Geometry {
            batch,
            ..self.geometry
        };
        let layers = GateLayers {
            first: &self.first,
            first_bias: &self.first_bias,
            second: &self.second,
            second_bias: &self.second_bias,
        };
        let mut output = perennial_kernels::buffer(map.len());
        geometry.forward(map, layers, residual, residual.is_some(), &mut output);
        output
    }

    /// Weights `[inputs, outputs]` and biases of the two layers.
    pub(super) fn layers(&self) -> [[&[f32]; 2]; 2] {
        [
            [&self.first, &self.first_bias],
            [&self.second, &self.second_bias],
        ]
    }

    /// Multiplications and additions for one image.
    pub(super) fn operations(&self) -> f64 {
        2.0 * (self.first.len() + self.second.len()) as f64
    }
}
