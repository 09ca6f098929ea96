//! Continual learning for visual search.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::checks::{positive, weight};
use super::{Objective, Reference, Refers, Step};
use crate::TrainError;
use crate::class_scores::ClassifierSpec;
use crate::losses::unit_rows;

/// Three losses on unit embeddings: cross-entropy of a cosine classifier (`scale` times the cosine to a trained row per class);
/// `model_coherence` times a triplet loss with the new embedding as anchor, the old embedding of the same image as positive and the
/// nearest old embedding of another class in the batch as negative (Euclidean distances); and `data_coherence` times the
/// mean squared distance of old classes' embeddings to the earlier model's class centre.
///
/// **Source**: T. S. T. Wan et al., *Continual Learning for Visual Search with Backward Consistent Feature Embedding*, arXiv 2205.13384
/// (CVPR 2022): intra-session discrimination, neighbor-session model coherence, inter-session data coherence, with the released code's
/// weights 1 and 1, margin 0.1 and temperature 0.05.
///
/// **Reading**: the centres are unit means of the earlier model's unit embeddings of remembered images; the paper takes them from the whole
/// old gallery, whose images a run here no longer has. A row whose batch has no image of another class has no triplet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cvs {
    /// What the cosines of the classifier are multiplied with: the inverse of the paper's temperature.
    pub scale: f64,
    /// Weight of the triplet loss.
    pub model_coherence: f64,
    /// Margin of the triplet loss, a Euclidean distance between unit vectors.
    pub margin: f64,
    /// Weight of the distance to class centres.
    pub data_coherence: f64,
    /// Which earlier model the loss refers to at a replacement.
    pub reference: Reference,
}

impl Default for Cvs {
    fn default() -> Self {
        Self {
            scale: 20.0,
            model_coherence: 1.0,
            margin: 0.1,
            data_coherence: 1.0,
            reference: Reference::Deployed,
        }
    }
}

impl Objective for Cvs {
    fn classifier(&self) -> ClassifierSpec {
        ClassifierSpec::Cosine { scale: self.scale }
    }

    fn refers(&self) -> Option<Refers> {
        Some(Refers {
            to: self.reference,
            same_dim: true,
            class_centres: true,
        })
    }

    fn loss(&self, step: &Step<'_>) -> Tensor<1> {
        let classification = step.classification.clone();
        let Some(earlier) = &step.earlier else {
            return classification;
        };
        let new = unit_rows(step.embeddings.clone());
        let old = unit_rows(earlier.embeddings());
        let triplets = self.triplets(step, new.clone(), old);
        let loss = classification + triplets.mul_scalar(self.model_coherence);
        let Some(centres) = earlier.centres() else {
            return loss;
        };
        let flags: Vec<bool> = centres
            .known(step.labels)
            .into_iter()
            .zip(step.labels)
            .map(|(known, &label)| known && step.classes.is_old(label))
            .collect();
        let [batch, dim] = new.dims();
        let own = step.constant(centres.rows(step.labels), [batch, dim]);
        let distance = (new - own).square().sum_dim(1);
        loss + step
            .mean_where(distance, &flags)
            .mul_scalar(self.data_coherence)
    }

    fn check(&self) -> Result<(), TrainError> {
        weight("model_coherence", self.model_coherence)?;
        positive("margin", self.margin, 2.0)?;
        weight("data_coherence", self.data_coherence)
    }
}

impl Cvs {
    /// Mean of `max(|new - old| - |new - hardest| + margin, 0)`, `[1]`. Rows have unit length.
    fn triplets(&self, step: &Step<'_>, new: Tensor<2>, old: Tensor<2>) -> Tensor<1> {
        let labels = step.labels;
        let batch = labels.len();
        let others: Vec<f32> = labels
            .iter()
            .flat_map(|row| labels.iter().map(move |column| f32::from(row != column)))
            .collect();
        let flags: Vec<bool> = others
            .chunks_exact(batch.max(1))
            .map(|row| row.contains(&1.0))
            .collect();
        // Of unit rows the nearest is the one with the highest cosine. Pairs of one class are moved below all cosines.
        let cosines = new.clone().detach().matmul(old.clone().transpose())
            + (step.constant(others, [batch, batch]) - 1.0).mul_scalar(4.0);
        let hardest = cosines.argmax(1).reshape([batch]);
        let negative = distance(new.clone(), old.clone().select(0, hardest));
        let losses = (distance(new, old) - negative + self.margin).clamp_min(0.0);
        step.mean_where(losses, &flags)
    }
}

/// Euclidean distance of rows, `[batch, 1]`.
fn distance(one: Tensor<2>, other: Tensor<2>) -> Tensor<2> {
    // Clamped before the root, whose gradient at 0 is infinite.
    (one - other).square().sum_dim(1).clamp_min(1e-12).sqrt()
}
