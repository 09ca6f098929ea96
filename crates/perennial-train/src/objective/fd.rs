//! Feature distillation on the simplex.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::checks::{is_default, weight};
use super::{DEFAULT_VERTICES, Objective, Reference, Refers, Step};
use crate::TrainError;
use crate::class_scores::{ClassifierSpec, SimplexClassifier, Softmax};
use crate::losses::unit_rows;

/// The fixed simplex classifier with cross-entropy, and for remembered images the squared distance between new and old embedding,
/// both of unit length: `CE + weight * mean |unit(z_new) - unit(z_old)|²`.
///
/// A batch without remembered images, so the whole first task, has the cross-entropy alone.
///
/// **Source**: N. Biondi et al., *CL²R: Compatible Lifelong Learning Representations*, arXiv 2211.09032; the baseline d-Simplex-FD
/// of arXiv 2405.02581.
///
/// **Reading**: the term, its restriction to remembered images and the constant weight 5 are those of the baseline in the later paper. The
/// code released with CL²R uses `1 - cosine`, half the squared distance, with a weight that is multiplied by the square root of new per
/// old classes: `growth = "classes"` with half of its base weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fd {
    /// Simplex vertices `K`; embeddings have `K - 1` dimensions.
    pub vertices: usize,
    /// Weight of the distance.
    pub weight: f64,
    /// How the weight depends on the task.
    pub growth: FdGrowth,
    /// Which earlier model the loss refers to at a replacement.
    pub reference: Reference,
    /// As [`SimplexClassifier::scale`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// As [`SimplexClassifier::softmax`].
    #[serde(skip_serializing_if = "is_default")]
    pub softmax: Softmax,
}

/// How the weight of the distance depends on the task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdGrowth {
    /// Not at all.
    #[default]
    Constant,
    /// It is multiplied by the square root of the number of new classes divided by that of old ones.
    Classes,
}

impl Default for Fd {
    fn default() -> Self {
        Self {
            vertices: DEFAULT_VERTICES,
            weight: 5.0,
            growth: FdGrowth::Constant,
            reference: Reference::Deployed,
            scale: None,
            softmax: Softmax::All,
        }
    }
}

impl Objective for Fd {
    fn classifier(&self) -> ClassifierSpec {
        ClassifierSpec::Simplex(SimplexClassifier {
            vertices: self.vertices,
            scale: self.scale,
            softmax: self.softmax,
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
        let remembered: Vec<bool> = step
            .labels
            .iter()
            .map(|&y| step.classes.is_old(y))
            .collect();
        let earlier = step.earlier.as_ref().filter(|_| remembered.contains(&true));
        let Some(earlier) = earlier else {
            return classification;
        };
        let new = unit_rows(step.embeddings.clone());
        let distance = (new - unit_rows(earlier.embeddings())).square().sum_dim(1);
        let weight = match self.growth {
            FdGrowth::Constant => self.weight,
            FdGrowth::Classes => {
                let new = step.classes.seen - step.classes.old;
                self.weight * (new as f64 / step.classes.old as f64).sqrt()
            }
        };
        classification + step.mean_where(distance, &remembered).mul_scalar(weight)
    }

    fn check(&self) -> Result<(), TrainError> {
        weight("weight", self.weight)
    }
}
