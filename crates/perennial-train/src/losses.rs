//! The losses that methods are composed of.

use burn::tensor::{Int, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

/// What happens to same-class pairs in the contrastive term's denominator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Masking {
    /// They are left out.
    #[default]
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
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    activation::log_softmax(logits, 1)
        .gather(1, targets.reshape([batch, 1]))
        .mean()
        .neg()
}

/// The higher-order compatibility term: pulls every new feature towards the old model's feature of the same image and
/// away from the old features of other classes.
///
/// With `s[n][m] = mu * cos(old_n, new_m)`, the loss of row n is `-s[n][n] + log sum exp s[n][m]` over the m of another
/// class. A row without such an m adds nothing.
///
/// # Shapes
///
/// - new, old: `[batch, dim]`, not normalised; gradients flow into `new`
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
fn unit_rows(rows: Tensor<2>) -> Tensor<2> {
    // Clamped before the root, whose gradient at 0 is infinite.
    let norm = rows.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    rows / norm
}
