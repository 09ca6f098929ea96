//! Learning without forgetting.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

use super::checks::{positive, weight};
use super::{Objective, Reference, Refers, Step};
use crate::TrainError;
use crate::class_scores::ClassifierSpec;
use crate::earlier::EarlierClassifier;

/// Experience replay, and for the earlier model's classes the cross-entropy between its class probabilities and the new ones, both
/// at a temperature: `CE + weight * mean_n -sum_k p_k log q_k` with `p = softmax(old logits / T)`, `q = softmax(new logits / T)`.
///
/// Only logits are compared, so the embeddings may have different dimensions. There is no such term where the earlier model has no
/// classifier of this run's classes: in the first task, and with `reference = "initial"` at a replacement.
///
/// **Source**: Z. Li, D. Hoiem, *Learning without Forgetting*, arXiv 1606.09282, equations 1 to 4: `T = 2`, weight 1.
///
/// **Reading**: the paper keeps no old images and has one head per task. Here, as in class-incremental use with replay, one head grows, its
/// first rows are the old classes, and the term covers all images of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lwf {
    /// Weight of the distillation.
    pub weight: f64,
    /// Temperature of both softmaxes.
    pub temperature: f64,
    /// Which earlier model the loss refers to at a replacement.
    pub reference: Reference,
}

impl Default for Lwf {
    fn default() -> Self {
        Self {
            weight: 1.0,
            temperature: 2.0,
            reference: Reference::Deployed,
        }
    }
}

impl Objective for Lwf {
    fn classifier(&self) -> ClassifierSpec {
        ClassifierSpec::Linear
    }

    fn refers(&self) -> Option<Refers> {
        Some(Refers {
            to: self.reference,
            same_dim: false,
            class_centres: false,
        })
    }

    fn loss(&self, step: &Step<'_>) -> Tensor<1> {
        let classification = step.classification.clone();
        let Some((earlier, classifier)) = step
            .earlier
            .as_ref()
            .and_then(|earlier| Some((earlier, earlier.classifier()?)))
        else {
            return classification;
        };
        let distilled = distillation(step, classifier, earlier.embeddings(), self.temperature);
        classification + distilled.mul_scalar(self.weight)
    }

    fn check(&self) -> Result<(), TrainError> {
        weight("weight", self.weight)?;
        positive("temperature", self.temperature, 1e6)
    }
}

/// Mean cross-entropy between the class probabilities of an earlier classifier and the new ones, over the classes that both have.
///
/// **Shapes**: `old`, the earlier model's embeddings of the batch, `[batch, its dim]`; the result is `[1]`.
pub(super) fn distillation(
    step: &Step<'_>,
    classifier: &EarlierClassifier,
    old: Tensor<2>,
    temperature: f64,
) -> Tensor<1> {
    let classes = classifier.classes().min(step.logits.dims()[1]);
    let cooled = |logits: Tensor<2>| logits.narrow(1, 0, classes).div_scalar(temperature);
    let old = activation::softmax(cooled(classifier.logits(old)), 1);
    let new = activation::log_softmax(cooled(step.logits.clone()), 1);
    (old * new).sum_dim(1).mean().neg()
}
