//! Classifiers: the fixed simplex in closed form, and the growing linear one of the baseline.

use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use perennial_core::Simplex;

use crate::fused::FusedHead;
use crate::network::{Path, Start, linear, linear_bound};

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
    match Path::for_device(&features.device()) {
        Path::Fused => Tensor::from_dispatch(<Dispatch as FusedHead>::simplex_logits(
            features.into_dispatch(),
            simplex,
        )),
        Path::Plain => plain_simplex_logits(simplex, features),
    }
}

/// [`simplex_logits`] in burn's own operations.
fn plain_simplex_logits(simplex: Simplex, features: Tensor<2>) -> Tensor<2> {
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

    /// Its rows, one per class: `[classes, features]`.
    pub fn weight(&self) -> Tensor<2> {
        self.weight.val()
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
        linear(features, self.weight.val(), Some(self.bias.val()))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn both_paths_compute_the_same_simplex_logits(
            (vertices, batch, values) in (2_usize..70, 1_usize..30).prop_flat_map(|(vertices, batch)| {
                let values = prop::collection::vec(-2.0_f32..2.0, batch * (2 * vertices - 1));
                (Just(vertices), Just(batch), values)
            }),
        ) {
            let simplex = Simplex::new(vertices).unwrap();
            let device = Device::flex().autodiff();
            let matrix = |values: &[f32], width: usize| {
                Tensor::<2>::from_data(TensorData::new(values.to_vec(), [batch, width]), &device)
            };
            let (features, weights) = values.split_at(batch * simplex.dim());
            let run = |logits: fn(Simplex, Tensor<2>) -> Tensor<2>| {
                let features = matrix(features, simplex.dim()).require_grad();
                let logits = logits(simplex, features.clone());
                let gradients = (logits.clone() * matrix(weights, vertices)).sum().backward();
                [logits.inner(), features.grad(&gradients).unwrap()]
                    .map(|tensor| tensor.into_data().try_into_vec::<f32>().unwrap())
            };
            for (fused, plain) in run(simplex_logits).iter().zip(run(plain_simplex_logits)) {
                prop_assert_eq!(fused.len(), plain.len());
                for (fused, plain) in fused.iter().zip(plain) {
                    prop_assert!((fused - plain).abs() <= 1e-5 * (1.0 + plain.abs()));
                }
            }
        }
    }
}
