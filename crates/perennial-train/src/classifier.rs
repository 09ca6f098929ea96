//! Classifiers: the fixed simplex in closed form, and the growing linear one of the baseline.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use perennial_core::Simplex;

use crate::network::{Start, linear_bound};

/// Logits of the fixed simplex classifier, `<prototype_k, z>`, with O(K) work per sample and no stored prototypes.
///
/// Every prototype but the last is `diagonal * e_k + offset * 1` and the last is `last * 1`, so a logit is one scaled
/// coordinate plus a multiple of the coordinates' sum. Gradients follow through the same few operations.
///
/// # Shapes
///
/// - features: `[batch, K - 1]`, not normalised
/// - result: `[batch, K]`
///
/// **Source**: arXiv 2405.02581, the d-Simplex fixed classifier.
pub fn simplex_logits(simplex: Simplex, features: Tensor<2>) -> Tensor<2> {
    let coefficients = simplex.coefficients();
    let sum = features.clone().sum_dim(1);
    let first =
        features.mul_scalar(coefficients.diagonal) + sum.clone().mul_scalar(coefficients.offset);
    Tensor::cat(vec![first, sum.mul_scalar(coefficients.last)], 1)
}

/// A trainable linear classifier whose rows grow with the classes seen.
#[derive(Module, Debug)]
pub struct LinearClassifier {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl LinearClassifier {
    /// `classes` rows over `features` inputs, uniform in `±1/sqrt(features)`, bias 0.
    pub fn new(classes: usize, features: usize, seed: u64, device: &Device) -> Self {
        let mut start = Start::random(seed, device);
        Self {
            weight: start.uniform([classes, features], linear_bound(features)),
            bias: start.filled([classes], 0.0),
        }
    }

    /// Classes it tells apart.
    pub fn classes(&self) -> usize {
        self.weight.val().dims()[0]
    }

    /// The same classifier with new rows at the end, up to `classes`.
    pub fn grow(self, classes: usize, seed: u64) -> Self {
        let [old, features] = self.weight.val().dims();
        if classes <= old {
            return self;
        }
        let device = self.weight.val().device();
        let fresh = Self::new(classes - old, features, seed, &device);
        let join = |kept: Tensor<2>, new: Tensor<2>| Tensor::cat(vec![kept, new], 0);
        let associate = |tensor: Tensor<2>| {
            if device.is_autodiff() {
                Tensor::from_inner(tensor)
            } else {
                tensor
            }
        };
        let rows = |param: &Param<Tensor<2>>| param.val().without_autodiff();
        let weight = associate(join(rows(&self.weight), rows(&fresh.weight)));
        let column = |param: &Param<Tensor<1>>| param.val().without_autodiff().reshape([-1, 1]);
        let bias = associate(join(column(&self.bias), column(&fresh.bias))).reshape([classes]);
        Self {
            weight: Param::from_tensor(weight),
            bias: Param::from_tensor(bias),
        }
    }

    /// # Shapes
    ///
    /// - features: `[batch, features]`
    /// - result: `[batch, classes]`
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        features.matmul(self.weight.val().transpose()) + self.bias.val().reshape([1, -1])
    }
}
