//! The losses that methods are composed of.

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::fused::{ContrastiveOptions, FusedLosses};
use crate::network::Path;

/// What happens to same-class pairs in the contrastive term's denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// They are left out.
    Excluded,
    /// Their logits become 0, so that each stays in the sum as 1: what the released code does.
    Zeroed,
}

/// Mean cross-entropy.
///
/// # Shapes
///
/// - logits: `[batch, classes]`, targets: `[batch]`
/// - result: `[1]`
///
/// # Panics
///
/// If a target is none of the classes, on the CPU; other devices may not notice.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    cross_entropy_and_correct(logits, targets).0
}

/// [`cross_entropy`], and how many rows have their largest logit at the target; no gradients flow through the latter.
///
/// # Shapes
///
/// - logits: `[batch, classes]`, targets: `[batch]`
/// - results: `[1]` each, the second on the device without gradients
///
/// # Panics
///
/// As [`cross_entropy`].
pub fn cross_entropy_and_correct(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
) -> (Tensor<1>, Tensor<1>) {
    match Path::for_device(&logits.device()) {
        Path::Fused => {
            let (loss, correct) = <Dispatch as FusedLosses>::cross_entropy(
                logits.into_dispatch(),
                targets.into_dispatch(),
            );
            let correct = Tensor::from_dispatch(correct).without_autodiff();
            (Tensor::from_dispatch(loss), correct)
        }
        Path::Plain => plain_cross_entropy(logits, targets),
    }
}

/// [`cross_entropy_and_correct`] in burn's own operations.
fn plain_cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> (Tensor<1>, Tensor<1>) {
    let [batch, _] = logits.dims();
    let correct = logits
        .clone()
        .without_autodiff()
        .argmax(1)
        .reshape([batch])
        .equal(targets.clone().without_autodiff())
        .float()
        .sum();
    let loss = activation::log_softmax(logits, 1)
        .gather(1, targets.reshape([batch, 1]))
        .mean()
        .neg();
    (loss, correct)
}

/// The higher-order compatibility term: pulls every new feature towards the old model's feature of the same image and
/// away from the old features of other classes.
///
/// With `s[n][m] = mu * cos(old_n, new_m)`, the loss of row n is `-s[n][n] + log sum exp s[n][m]` over the m of another
/// class. A row without such an m adds nothing.
///
/// # Shapes
///
/// - new, old: `[batch, dim]`, not normalised; gradients flow into `new` alone
/// - labels: one per row, on the host
/// - result: `[1]`
///
/// **Source**: arXiv 2405.02581, the contrastive term of the HOC loss.
pub fn contrastive(
    new: Tensor<2>,
    old: Tensor<2>,
    labels: &[u32],
    mu: f64,
    masking: Masking,
) -> Tensor<1> {
    match Path::for_device(&new.device()) {
        Path::Fused => Tensor::from_dispatch(<Dispatch as FusedLosses>::contrastive(
            new.into_dispatch(),
            old.into_dispatch(),
            ContrastiveOptions {
                labels: labels.to_vec(),
                mu: mu as f32,
                zeroed: masking == Masking::Zeroed,
            },
        )),
        Path::Plain => plain_contrastive(new, old.detach(), labels, mu, masking),
    }
}

/// [`contrastive`] in burn's own operations.
fn plain_contrastive(
    new: Tensor<2>,
    old: Tensor<2>,
    labels: &[u32],
    mu: f64,
    masking: Masking,
) -> Tensor<1> {
    let [batch, _] = new.dims();
    let device = new.device();
    let on_device = |values: Vec<f32>, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(values, shape), &device)
    };
    let negatives: Vec<f32> = labels
        .iter()
        .flat_map(|row| {
            labels
                .iter()
                .map(move |column| if row == column { 0.0 } else { 1.0 })
        })
        .collect();
    let counted: Vec<f32> = negatives
        .chunks_exact(batch)
        .map(|row| if row.contains(&1.0) { 1.0 } else { 0.0 })
        .collect();

    let (old, new) = (unit_rows(old), unit_rows(new));
    let positive = (old.clone() * new.clone()).sum_dim(1).mul_scalar(mu);
    let similarity = old.matmul(new.transpose()).mul_scalar(mu);
    let negative_mask = on_device(negatives, [batch, batch]);
    let logits = match masking {
        // Far below any logit (at most mu in size), yet finite: a fully masked row stays free of NaN.
        Masking::Excluded => similarity + (negative_mask - 1.0).mul_scalar(1e9),
        Masking::Zeroed => similarity * negative_mask,
    };
    let highest = logits.clone().detach().max_dim(1);
    let log_sum = (logits - highest.clone()).exp().sum_dim(1).log() + highest;
    ((log_sum - positive) * on_device(counted, [batch, 1])).mean()
}

/// Rows scaled to length 1.
///
/// **Shapes**: `[rows, dim]`.
pub fn unit_rows(rows: Tensor<2>) -> Tensor<2> {
    // Clamped before the root, whose gradient at 0 is infinite.
    let norm = rows.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    rows / norm
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;

    /// A loss and its gradient, at a weight that losses in a sum have.
    fn differentiated(
        rows: &[f32],
        batch: usize,
        loss: impl Fn(Tensor<2>) -> Tensor<1>,
    ) -> (f32, Vec<f32>) {
        let rows = matrix(rows, batch).require_grad();
        let loss = loss(rows.clone());
        let gradients = loss.clone().mul_scalar(0.3).backward();
        let gradient = rows.grad(&gradients).unwrap().into_data();
        (loss.into_scalar(), gradient.try_into_vec().unwrap())
    }

    fn matrix(rows: &[f32], batch: usize) -> Tensor<2> {
        let data = TensorData::new(rows.to_vec(), [batch, rows.len() / batch]);
        Tensor::from_data(data, &Device::flex().autodiff())
    }

    fn column(targets: &[i32]) -> Tensor<1, Int> {
        Tensor::from_data(
            TensorData::new(targets.to_vec(), [targets.len()]),
            &Device::flex().autodiff(),
        )
    }

    fn close(found: &(f32, Vec<f32>), expected: &(f32, Vec<f32>)) -> bool {
        let near = |(found, expected): (&f32, &f32)| {
            (found - expected).abs() <= 1e-5 * (1.0 + expected.abs())
        };
        near((&found.0, &expected.0))
            && found.1.len() == expected.1.len()
            && found.1.iter().zip(&expected.1).all(near)
    }

    /// Labels, and values of which none is near 0, since a gradient is divided by the length of its row.
    fn labelled_rows(width: usize) -> impl Strategy<Value = (Vec<u32>, Vec<f32>)> {
        let value = (0.5_f32..3.0, any::<bool>())
            .prop_map(|(size, negative)| if negative { -size } else { size });
        prop::collection::vec(0..width.min(4) as u32, 1..40).prop_flat_map(move |labels| {
            let count = labels.len() * width;
            (Just(labels), prop::collection::vec(value.clone(), count))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn both_paths_compute_the_same_cross_entropy(
            (labels, logits) in (1_usize..50).prop_flat_map(labelled_rows),
        ) {
            let targets: Vec<i32> = labels.iter().map(|&label| label as i32).collect();
            let fused = differentiated(&logits, labels.len(), |logits| {
                cross_entropy(logits, column(&targets))
            });
            let plain = differentiated(&logits, labels.len(), |logits| {
                plain_cross_entropy(logits, column(&targets)).0
            });
            prop_assert!(close(&fused, &plain), "{fused:?} instead of {plain:?}");
            let rows = || matrix(&logits, labels.len());
            let fused = cross_entropy_and_correct(rows(), column(&targets)).1;
            let plain = plain_cross_entropy(rows(), column(&targets)).1;
            prop_assert!(!fused.device().is_autodiff());
            prop_assert_eq!(fused.into_scalar::<f32>(), plain.into_scalar::<f32>());
        }

        #[test]
        fn both_paths_compute_the_same_contrastive_term(
            ((labels, new), shift, mu, zeroed) in (1_usize..50)
                .prop_flat_map(labelled_rows)
                .prop_flat_map(|rows| {
                    (Just(rows), -0.2_f32..0.2, 0.5_f64..10.0, any::<bool>())
                }),
        ) {
            let masking = if zeroed { Masking::Zeroed } else { Masking::Excluded };
            let old: Vec<f32> = new.iter().rev().map(|value| value + shift).collect();
            let old = || matrix(&old, labels.len());
            let fused = differentiated(&new, labels.len(), |new| {
                contrastive(new, old(), &labels, mu, masking)
            });
            let plain = differentiated(&new, labels.len(), |new| {
                plain_contrastive(new, old(), &labels, mu, masking)
            });
            prop_assert!(close(&fused, &plain), "{fused:?} instead of {plain:?}");
        }
    }

    #[test]
    fn a_diverged_network_has_no_loss() {
        let broken = [1.0, 0.5, f32::NAN, 0.25];
        let (loss, gradient) =
            differentiated(&broken, 2, |logits| cross_entropy(logits, column(&[0, 1])));
        assert!(loss.is_nan());
        assert!(gradient[2].is_nan() && gradient[3].is_nan());
        for masking in [Masking::Excluded, Masking::Zeroed] {
            for labels in [[1, 2], [1, 1]] {
                let old = || matrix(&[1.0, 0.0, 0.0, 1.0], 2);
                let (loss, gradient) = differentiated(&broken, 2, |new| {
                    contrastive(new, old(), &labels, 10.0, masking)
                });
                assert!(loss.is_nan());
                assert!(gradient[2].is_nan() && gradient[3].is_nan());
            }
        }
    }

    #[test]
    fn no_gradient_flows_into_the_old_features() {
        let new = matrix(&[1.0, 0.0, 0.5, 1.0], 2).require_grad();
        let old = matrix(&[1.0, 0.5, 0.0, 1.0], 2).require_grad();
        let loss = contrastive(new.clone(), old.clone(), &[1, 2], 10.0, Masking::Excluded);
        let gradients = loss.backward();
        assert!(new.grad(&gradients).is_some());
        assert!(old.grad(&gradients).is_none());
    }

    #[test]
    fn losses_of_tensors_without_gradients_are_the_same() {
        let rows = || matrix(&[1.0, 0.0, 0.5, 1.0], 2);
        let tracked = cross_entropy(rows(), column(&[1, 0])).into_scalar::<f32>();
        let plain = cross_entropy(rows().inner(), column(&[1, 0]).without_autodiff());
        assert_eq!(plain.into_scalar::<f32>(), tracked);
        let old = matrix(&[1.0, 0.5, 0.0, 1.0], 2);
        let term = |new: Tensor<2>, old: Tensor<2>| {
            contrastive(new, old, &[1, 2], 10.0, Masking::Excluded).into_scalar::<f32>()
        };
        assert_eq!(term(rows().inner(), old.clone().inner()), term(rows(), old));
    }
}
