//! Higher-order compatibility on the simplex.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::checks::{is_default, positive, weight};
use super::{BestSettings, DEFAULT_VERTICES, Objective, Reference, Refers, Step};
use crate::TrainError;
use crate::class_scores::{ClassifierSpec, SimplexClassifier, Softmax};
use crate::losses::{Masking, contrastive, unit_rows};

/// Far above any useful inverse temperature, far below the mask of the contrastive term.
const MAX_MU: f64 = 1e6;

/// The fixed simplex classifier with cross-entropy and a contrastive term against an earlier model:
/// `lambda * CE + (1 - lambda) * contrastive`, the latter by [`contrastive`](crate::losses::contrastive).
///
/// A first task from random weights has no earlier model, and the cross-entropy alone, at weight 1.
///
/// Prototypes and the published contrastive term align classes: they do not ask that an item be nearer to its own old embedding
/// than to those of its class. Two options do, and are not part of the published method: `masking = "kept"`, and
/// `relation_weight` with [`relations`](Self::relations).
///
/// **Source**: arXiv 2405.02581, L_HOC. Relations: after W. Park et al., *Relational Knowledge Distillation*, CVPR 2019 (arXiv
/// 1904.05068), with cosines in the place of distances and angles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hoc {
    /// Simplex vertices `K`; embeddings have `K - 1` dimensions.
    pub vertices: usize,
    /// Weight of the cross-entropy; the contrastive term has `1 - lambda`.
    pub lambda: f64,
    /// With it, the weight of the cross-entropy in a task's first epoch, from which it goes in equal steps to `lambda` in the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_lambda: Option<f64>,
    /// Inverse temperature of the contrastive term.
    pub mu: f64,
    /// Same-class pairs in the contrastive term.
    pub masking: SameClass,
    /// Which earlier model the loss refers to at a replacement.
    pub reference: Reference,
    /// Weight of the distillation of relations; 0 leaves it out.
    #[serde(skip_serializing_if = "is_default")]
    pub relation_weight: f64,
    /// Which cosines the distillation of relations compares.
    #[serde(skip_serializing_if = "is_default")]
    pub relations: Relations,
    /// As [`SimplexClassifier::scale`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// As [`SimplexClassifier::softmax`].
    #[serde(skip_serializing_if = "is_default")]
    pub softmax: Softmax,
}

/// What happens to pairs of one class in the contrastive term's denominator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameClass {
    /// They are left out.
    #[default]
    Excluded,
    /// Their logits become 0, so that each stays in the sum as 1: what the released code does.
    Zeroed,
    /// Pairs of different images stay negatives, whatever their classes: each image is to be told from all others, as in item-like
    /// retrieval.
    Kept,
}

/// Which cosines the distillation of relations compares with those of the old embeddings among themselves. The term is the mean
/// over all pairs of the batch of the squared difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relations {
    /// Those of the new embeddings among themselves. A rotation of the new space does not change them.
    #[default]
    Within,
    /// Those between new and old embeddings: what new queries find in the old gallery.
    Across,
}

impl Default for Hoc {
    fn default() -> Self {
        Self {
            vertices: DEFAULT_VERTICES,
            lambda: 0.1,
            first_lambda: None,
            mu: 10.0,
            masking: SameClass::Excluded,
            reference: Reference::Deployed,
            relation_weight: 0.0,
            relations: Relations::Within,
            scale: None,
            softmax: Softmax::All,
        }
    }
}

impl Objective for Hoc {
    fn classifier(&self) -> ClassifierSpec {
        ClassifierSpec::Simplex(SimplexClassifier {
            vertices: self.vertices,
            scale: self.scale,
            softmax: self.softmax,
        })
    }

    /// By `experiments/bench/tuning.toml`.
    fn best(&self) -> Option<BestSettings> {
        Some(BestSettings {
            start_share: 0.5,
            bridged_replacements: true,
        })
    }

    fn refers(&self) -> Option<Refers> {
        Some(Refers {
            to: self.reference,
            same_dim: true,
            class_centres: false,
        })
    }

    fn loss(&self, step: &Step<'_>) -> Tensor<1> {
        let classification = step.classification.clone();
        let Some(earlier) = &step.earlier else {
            return classification;
        };
        let (new, old) = (step.embeddings.clone(), earlier.embeddings());
        // With a class for each image, every pair is one of different classes.
        let images: Vec<u32> = (0..step.labels.len() as u32).collect();
        let (labels, masking) = match self.masking {
            SameClass::Excluded => (step.labels, Masking::Excluded),
            SameClass::Zeroed => (step.labels, Masking::Zeroed),
            SameClass::Kept => (images.as_slice(), Masking::Excluded),
        };
        let term = contrastive(new.clone(), old.clone(), labels, self.mu, masking);
        let lambda = self.lambda_at(step.progress);
        let loss = classification.mul_scalar(lambda) + term.mul_scalar(1.0 - lambda);
        if self.relation_weight == 0.0 {
            return loss;
        }
        loss + self
            .relations
            .term(new, old)
            .mul_scalar(self.relation_weight)
    }

    fn check(&self) -> Result<(), TrainError> {
        let weights = [
            ("lambda", Some(self.lambda)),
            ("first_lambda", self.first_lambda),
        ];
        for (key, value) in weights {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                return Err(TrainError::config(
                    &format!("method.{key}"),
                    &format!("must be within [0, 1], got {value}"),
                ));
            }
        }
        positive("mu", self.mu, MAX_MU)?;
        weight("relation_weight", self.relation_weight)
    }
}

impl Hoc {
    fn lambda_at(&self, progress: f64) -> f64 {
        let first = self.first_lambda.unwrap_or(self.lambda);
        first + (self.lambda - first) * progress
    }
}

impl Relations {
    /// **Shapes**: new, old `[batch, dim]`; the result is `[1]`.
    fn term(self, new: Tensor<2>, old: Tensor<2>) -> Tensor<1> {
        let (new, old) = (unit_rows(new), unit_rows(old));
        let expected = old.clone().matmul(old.clone().transpose());
        let found = match self {
            Self::Within => new.clone().matmul(new.transpose()),
            Self::Across => new.matmul(old.transpose()),
        };
        (found - expected).square().mean()
    }
}
