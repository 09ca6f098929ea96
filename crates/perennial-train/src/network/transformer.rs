//! The layers of a transformer, on the fused CPU kernels where they apply and on burn's own operations elsewhere.
//!
//! Tokens are `[tokens, 1, batch, dim]` on the fused path, and `[batch, 1, tokens, dim]` on burn's.

use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::{Tensor, activation, module as ops, ops::ConvOptions};
use perennial_kernels::{Attention, Convolution, taps_first};

use super::folded::FoldedConvolution;
use super::layers::{Path, SharedMap, addend, values};
use super::stage::Stage;
use super::start::Start;
use crate::fused::{Activation, TokenLayers};

/// Numbers of a head.
const HEAD: usize = 64;
/// What layer norms add to a variance, as timm's vision transformers do.
const EPSILON: f64 = 1e-6;

/// The convolution that turns an image into patches.
#[derive(Module, Debug)]
pub struct Patches {
    /// `[dim, channels, side, side]`
    weight: Param<Tensor<4>>,
    /// `[dim]`
    bias: Param<Tensor<1>>,
}

impl Patches {
    /// Patches of `side` by `side` pixels.
    pub fn new([channels, dim]: [usize; 2], side: usize, start: &mut Start) -> Self {
        let deviation = (1.0 / (channels * side * side) as f64).sqrt();
        Self {
            weight: start.truncated_normal([dim, channels, side, side], deviation),
            bias: start.filled([dim], 0.0),
        }
    }

    /// Images `[batch, channels, height, width]` to tokens.
    pub fn forward(&self, images: Tensor<4>, path: Path) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let [dim, _, side, _] = weight.dims();
        match path {
            Path::Fused => {
                let map = fused(
                    path.enter(images),
                    weight,
                    bias,
                    None,
                    side,
                    Activation::None,
                );
                let [height, width, batch, dim] = map.dims();
                map.reshape([height * width, 1, batch, dim])
            }
            Path::Plain => {
                let options = ConvOptions::new([side; 2], [0; 2], [1, 1], 1);
                let map = ops::conv2d(images, weight, Some(bias), options);
                let [batch, _, height, width] = map.dims();
                let tokens: Tensor<3> = map.reshape([batch, dim, height * width]);
                tokens
                    .swap_dims(1, 2)
                    .reshape([batch, 1, height * width, dim])
            }
        }
    }

    /// For embedding alone, for images of the given height and width.
    pub(super) fn folded(&self, input: [usize; 2]) -> FoldedConvolution {
        let weight = self.weight.val().without_autodiff();
        folded(weight, self.bias.val(), input)
    }
}

/// A convolution over patches with bias, and what follows it.
fn fused(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    residual: Option<SharedMap>,
    stride: usize,
    activation: Activation,
) -> Tensor<4> {
    let (residual, residual_fork) = residual.map(SharedMap::into_parts).unzip();
    Tensor::from_dispatch(<Dispatch as TokenLayers>::conv_bias(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        addend(residual),
        residual_fork.unwrap_or_default(),
        stride,
        activation,
    ))
}

/// Kernels of `[outputs, inputs, side, side]` that follow one another without gaps.
fn folded(weight: Tensor<4>, bias: Tensor<1>, input: [usize; 2]) -> FoldedConvolution {
    let [out_channels, in_channels, side, _] = weight.dims();
    let geometry = Convolution {
        batch: 0,
        in_channels,
        out_channels,
        input,
        kernel: [side, side],
        stride: side,
        padding: 0,
        dilation: 1,
        groups: 1,
    };
    let weight = taps_first(&values(weight), [out_channels, in_channels, side * side]);
    FoldedConvolution {
        geometry,
        weight,
        shift: values(bias.without_autodiff()),
        relu: false,
    }
}

/// A linear layer over every token.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[outputs, inputs]`
    weight: Param<Tensor<2>>,
    /// `[outputs]`
    bias: Param<Tensor<1>>,
}

impl Linear {
    /// Weights from a normal distribution of deviation 0.02, cut off at twice that, as timm's vision transformers start.
    pub fn new([inputs, outputs]: [usize; 2], start: &mut Start) -> Self {
        Self {
            weight: start.truncated_normal([outputs, inputs], 0.02),
            bias: start.filled([outputs], 0.0),
        }
    }

    /// Tokens to tokens; adds the residual, or ends with a GELU where asked for.
    fn forward(
        &self,
        x: Tensor<4>,
        residual: Option<SharedMap>,
        gelu: bool,
        path: Path,
    ) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let [outputs, inputs] = weight.dims();
        match path {
            Path::Fused => {
                let end = if gelu {
                    Activation::Gelu
                } else {
                    Activation::None
                };
                let weight = weight.reshape([outputs, inputs, 1, 1]);
                fused(x, weight, bias, residual, 1, end)
            }
            Path::Plain => {
                let weight = weight.transpose().reshape([1, 1, inputs, outputs]);
                let sum = x.matmul(weight) + bias.reshape([1, 1, 1, outputs]);
                let sum = match residual {
                    Some(residual) => sum + residual.into_parts().0,
                    None => sum,
                };
                if gelu { activation::gelu(sum) } else { sum }
            }
        }
    }

    fn folded(&self, tokens: usize) -> Stage<FoldedConvolution> {
        let weight = self.weight.val().without_autodiff();
        let [outputs, inputs] = weight.dims();
        let weight = weight.reshape([outputs, inputs, 1, 1]);
        Stage::Convolution(folded(weight, self.bias.val(), [tokens, 1]))
    }
}

/// Layer norm over every token.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[dim]`
    weight: Param<Tensor<1>>,
    /// `[dim]`
    bias: Param<Tensor<1>>,
}

impl LayerNorm {
    /// Scale 1, shift 0.
    pub fn new(dim: usize, start: &mut Start) -> Self {
        Self {
            weight: start.filled([dim], 1.0),
            bias: start.filled([dim], 0.0),
        }
    }

    /// Tokens to tokens.
    pub fn forward(&self, x: impl Into<SharedMap>, path: Path) -> Tensor<4> {
        let (x, input_fork) = x.into().into_parts();
        let (weight, bias) = (self.weight.val(), self.bias.val());
        match path {
            Path::Fused => Tensor::from_dispatch(<Dispatch as TokenLayers>::layer_norm(
                x.into_dispatch(),
                weight.into_dispatch(),
                bias.into_dispatch(),
                EPSILON,
                input_fork,
            )),
            Path::Plain => {
                let [dim] = weight.dims();
                let centred = x.clone() - x.mean_dim(3);
                let variance = centred.clone().square().mean_dim(3);
                let normalized = centred / variance.add_scalar(EPSILON).sqrt();
                normalized * weight.reshape([1, 1, 1, dim]) + bias.reshape([1, 1, 1, dim])
            }
        }
    }

    /// For embedding alone.
    pub(super) fn folded(&self) -> Stage<FoldedConvolution> {
        Stage::LayerNorm {
            gamma: values(self.weight.val().without_autodiff()),
            beta: values(self.bias.val().without_autodiff()),
            epsilon: EPSILON,
        }
    }
}

/// Attention and two linear layers, each after a norm and around a shortcut.
#[derive(Module, Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: SelfAttention,
    norm2: LayerNorm,
    mlp: Perceptron,
}

#[derive(Module, Debug)]
struct SelfAttention {
    qkv: Linear,
    proj: Linear,
    dim: usize,
}

#[derive(Module, Debug)]
struct Perceptron {
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    /// Random weights; heads of 64 numbers, four times as many numbers between the two layers.
    pub fn new(dim: usize, start: &mut Start) -> Self {
        Self {
            norm1: LayerNorm::new(dim, start),
            attn: SelfAttention {
                qkv: Linear::new([dim, 3 * dim], start),
                proj: Linear::new([dim, dim], start),
                dim,
            },
            norm2: LayerNorm::new(dim, start),
            mlp: Perceptron {
                fc1: Linear::new([dim, 4 * dim], start),
                fc2: Linear::new([4 * dim, dim], start),
            },
        }
    }

    /// Tokens to tokens.
    pub fn forward(&self, x: Tensor<4>, path: Path) -> Tensor<4> {
        let x = SharedMap::from(x);
        let projected =
            self.attn
                .qkv
                .forward(self.norm1.forward(x.clone(), path), None, false, path);
        let mixed = self.attn.attend(projected, path);
        let x = SharedMap::from(self.attn.proj.forward(mixed, Some(x), false, path));
        let hidden = self
            .mlp
            .fc1
            .forward(self.norm2.forward(x.clone(), path), None, true, path);
        self.mlp.fc2.forward(hidden, Some(x), false, path)
    }

    /// For embedding alone, as two parts.
    pub(super) fn folded(&self, tokens: usize) -> [Stage<FoldedConvolution>; 2] {
        let attention = Attention {
            tokens,
            batch: 0,
            heads: self.attn.dim / HEAD,
            dim: self.attn.dim,
        };
        let part = |stages: Vec<Stage<FoldedConvolution>>| Stage::Block {
            stages,
            shortcut: None,
        };
        [
            part(vec![
                self.norm1.folded(),
                self.attn.qkv.folded(tokens),
                Stage::Attention(attention),
                self.attn.proj.folded(tokens),
            ]),
            part(vec![
                self.norm2.folded(),
                self.mlp.fc1.folded(tokens),
                Stage::Gelu,
                self.mlp.fc2.folded(tokens),
            ]),
        ]
    }
}

impl SelfAttention {
    /// Queries, keys and values to what every token takes from the others.
    fn attend(&self, projected: Tensor<4>, path: Path) -> Tensor<4> {
        let (heads, dim) = (self.dim / HEAD, self.dim);
        match path {
            Path::Fused => Tensor::from_dispatch(<Dispatch as TokenLayers>::attention(
                projected.into_dispatch(),
                heads,
            )),
            Path::Plain => {
                let [batch, _, tokens, _] = projected.dims();
                let parts: Tensor<5> = projected
                    .reshape([batch, tokens, 3, heads, HEAD])
                    .permute([2, 0, 3, 1, 4]);
                let [queries, keys, values] = [0, 1, 2].map(|part| {
                    let part: Tensor<4> = parts
                        .clone()
                        .narrow(0, part, 1)
                        .reshape([batch, heads, tokens, HEAD]);
                    part
                });
                let scale = 1.0 / (HEAD as f64).sqrt();
                let scores = queries.matmul(keys.swap_dims(2, 3)).mul_scalar(scale);
                let mixed = activation::softmax(scores, 3).matmul(values);
                mixed.swap_dims(1, 2).reshape([batch, 1, tokens, dim])
            }
        }
    }
}
