//! Learning compatible embeddings.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::checks::weight;
use super::{Objective, Reference, Refers, Step};
use crate::TrainError;
use crate::class_scores::ClassifierSpec;
use crate::losses::unit_rows;

/// Experience replay with two terms about the earlier model's class centres `c_y` (unit means of its unit embeddings) and radii
/// `r_y` (the lowest cosine of an image of the class to its centre):
/// `CE + alignment * mean (unit(w_y) - c_y)² + boundary * mean max(r_y - cos(z, c_y), 0)`, where `w_y` is the classifier's row of
/// the class, and the first mean runs over classes and dimensions.
///
/// Centres and radii come from the images that the task trains on, new and remembered, without augmentation.
///
/// **Source**: Q. Meng et al., *Learning Compatible Embeddings*, arXiv 2108.01958 (ICCV 2021), alignment and boundary loss with the
/// weights 100 and 1 of the released code.
///
/// **Reading**: without the paper's trained transformation between the spaces, which the released code leaves out as well when both have one
/// dimension, and with cross-entropy in the place of the paper's margin loss on the new classifier. How the published LCE-ER of arXiv
/// 2405.02581 combines it with replay is not known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lce {
    /// Weight of the alignment of the classifier's rows.
    pub alignment: f64,
    /// Weight of the boundary loss.
    pub boundary: f64,
    /// Which earlier model the loss refers to at a replacement.
    pub reference: Reference,
}

impl Default for Lce {
    fn default() -> Self {
        Self {
            alignment: 100.0,
            boundary: 1.0,
            reference: Reference::Deployed,
        }
    }
}

impl Objective for Lce {
    fn classifier(&self) -> ClassifierSpec {
        ClassifierSpec::Linear
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
        let (Some(centres), Some(classifier)) = (
            step.earlier.as_ref().and_then(|earlier| earlier.centres()),
            step.classifier,
        ) else {
            return classification;
        };
        let classes: Vec<u32> = (0..classifier.classes() as u32).collect();
        let rows = unit_rows(classifier.weight());
        let dim = rows.dims()[1];
        let distance =
            (rows - step.constant(centres.rows(&classes), [classes.len(), dim])).square();
        let alignment = step
            .mean_where(distance.sum_dim(1), &centres.known(&classes))
            .div_scalar(dim as f64);

        let batch = step.labels.len();
        let own = step.constant(centres.rows(step.labels), [batch, dim]);
        let cosine = (unit_rows(step.embeddings.clone()) * own).sum_dim(1);
        let radius = step.constant(centres.radii(step.labels), [batch, 1]);
        let beyond = (radius - cosine).clamp_min(0.0);
        let boundary = step.mean_where(beyond, &centres.known(step.labels));
        classification + alignment.mul_scalar(self.alignment) + boundary.mul_scalar(self.boundary)
    }

    fn check(&self) -> Result<(), TrainError> {
        weight("alignment", self.alignment)?;
        weight("boundary", self.boundary)
    }
}
