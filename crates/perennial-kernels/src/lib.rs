#![doc = include_str!("../README.md")]
//! # Layout
//!
//! Feature maps are stored `[height, width, batch, channels]` ("batch-inner"): all images' channels at one spatial
//! position form one contiguous `[batch, channels]` matrix, a *slab*. A convolution is then a sum of small matrix
//! products over whole slabs, so it needs no im2col copy, and a kernel tap that would read padding is simply absent
//! from the sum. At the 4x4, 2x2 and 1x1 maps at the end of a ResNet on 32x32 images, that is most of the taps.
//!
//! Some kinds of convolution go other ways. The first layer, of few channels, reads whole kernel rows from images that are copied
//! into zeros. 3x3 convolutions of many positions, and those of 2x2 maps, go through transforms whose products are as well products of
//! slabs.
//!
//! Convolution weights are `[kernel_height, kernel_width, in_channels / groups, out_channels]`: the products read and write rows of output
//! channels, and taps that read only padding are never touched.
//!
//! # Guarantees
//!
//! Every result depends on the inputs, the processor's vector width, or less where `PERENNIAL_INSTRUCTIONS` says so
//! ([`perennial_core::instructions`]), and the platform's exponential alone, never on the number of threads: a value
//! is always summed by one task in one fixed order, and reductions over rows use blocks of a fixed size.
//! What is dispatched to the processor's instructions is always a type with `WithSimd`: a closure may be compiled apart from the
//! dispatch, without them.
//!
//! Slices of a wrong length are a caller's bug and panic.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attention;
mod buffers;
mod column_sums;
mod combination;
mod contrastive;
mod convolution;
mod exponential;
#[cfg(test)]
mod fewer_instructions;
mod frozen_convolution;
mod gather_product;
mod gelu;
mod geometry;
mod global_mean;
mod grouped;
mod layer_norm;
mod normalization;
mod operations;
mod packed_weights;
mod pooling;
mod row_taps;
mod rows;
mod sgd;
mod softmax;
mod squeeze_excite;
mod two_by_two;
mod weight_gradient;
mod weight_order;
mod winograd;

pub use attention::Attention;
pub use buffers::{buffer, recycle};
pub use contrastive::{contrastive, unit_rows, unit_rows_backward};
pub use frozen_convolution::FrozenConvolution;
pub use gather_product::Epilogue;
pub use gelu::{gelu, gelu_backward};
pub use geometry::Convolution;
pub use global_mean::{global_mean, global_mean_backward};
pub use layer_norm::{LayerNormGradients, layer_norm, layer_norm_backward};
pub use normalization::{
    NormalizationGradients, Rectified, batch_statistics, channel_sums, normalize,
    normalize_backward,
};
pub use operations::{Operations, multiply_adds};
pub use pooling::{MaxPool, max_pool, max_pool_backward};
pub use rows::{add, add_row, scale, transpose};
pub use sgd::sgd_step;
pub use softmax::{CrossEntropy, cross_entropy};
pub use squeeze_excite::{GateLayers, Gates, SqueezeExcite, SqueezeExciteGradients};
pub use weight_order::{channels_first, taps_first};

use perennial_core::instructions::arch;
use pulp::{Simd, WithSimd};

struct Lanes;

impl WithSimd for Lanes {
    type Output = (usize, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        (S::F32_LANES, S::REGISTER_COUNT)
    }
}

/// Columns that one register tile covers: four vectors of the processor at hand where it has the registers and the columns
/// fill them, otherwise two.
fn tile_columns(outputs: usize) -> usize {
    let (lanes, registers) = arch().dispatch(Lanes);
    let filled = |vectors: usize| outputs.next_multiple_of(vectors * lanes);
    if registers >= 32 && filled(4) == filled(2) {
        4 * lanes
    } else {
        2 * lanes
    }
}
