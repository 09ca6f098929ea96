//! Backward-compatible training.

use burn::tensor::{Int, Tensor, TensorData, activation};
use serde::{Deserialize, Serialize};

use super::checks::weight;
use super::{Objective, Reference, Refers, Step};
use crate::TrainError;
use crate::class_scores::ClassifierSpec;

/// Experience replay, and the influence loss: the new embeddings are classified by the frozen earlier classifier as well,
/// `CE + weight * CE(earlier classifier, z_new)`.
///
/// There is no such term where the earlier model has no classifier of this run's classes: in the first task, and with
/// `reference = "initial"` at a replacement.
///
/// **Source**: Y. Shen et al., *Towards Backward-Compatible Representation Learning*, arXiv 2003.11942 (CVPR 2020), the influence
/// loss, weight 1.
///
/// **Reading**: the term is the mean over the batch's images of classes that the earlier classifier has, which are remembered ones. The
/// paper's other variant, which makes rows for new classes from the earlier model's mean embeddings, is not offered: how such a row is to be
/// scaled beside trained ones could not be established. How the published BCT-ER of arXiv 2405.02581 reads this is not known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bct {
    /// Weight of the influence loss.
    pub weight: f64,
    /// Which earlier model the loss refers to at a replacement.
    pub reference: Reference,
}

impl Default for Bct {
    fn default() -> Self {
        Self {
            weight: 1.0,
            reference: Reference::Deployed,
        }
    }
}

impl Objective for Bct {
    fn classifier(&self) -> ClassifierSpec {
        ClassifierSpec::Linear
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
        let classifier = step
            .earlier
            .as_ref()
            .and_then(|earlier| earlier.classifier());
        let Some(classifier) = classifier else {
            return classification;
        };
        let classes = classifier.classes() as u32;
        let known: Vec<bool> = step.labels.iter().map(|&label| label < classes).collect();
        if !known.contains(&true) {
            return classification;
        }
        let batch = known.len();
        // A row of an unknown class gets any column: its flag leaves it out.
        let columns: Vec<i32> = step
            .labels
            .iter()
            .map(|&label| if label < classes { label as i32 } else { 0 })
            .collect();
        let columns = Tensor::<2, Int>::from_data(
            TensorData::new(columns, [batch, 1]),
            &step.embeddings.device(),
        );
        let logits = classifier.logits(step.embeddings.clone());
        let losses = activation::log_softmax(logits, 1).gather(1, columns).neg();
        classification + step.mean_where(losses, &known).mul_scalar(self.weight)
    }

    fn check(&self) -> Result<(), TrainError> {
        weight("weight", self.weight)
    }
}
