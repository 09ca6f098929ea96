//! The fixed simplex classifier alone.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::checks::is_default;
use super::{DEFAULT_VERTICES, Objective, Step};
use crate::class_scores::{ClassifierSpec, SimplexClassifier, Softmax};

/// The fixed simplex classifier and cross-entropy.
///
/// **Source**: arXiv 2405.02581, the d-Simplex fixed classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimplexOnly {
    /// Simplex vertices `K`; embeddings have `K - 1` dimensions.
    pub vertices: usize,
    /// As [`SimplexClassifier::scale`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// As [`SimplexClassifier::softmax`].
    #[serde(skip_serializing_if = "is_default")]
    pub softmax: Softmax,
}

impl Default for SimplexOnly {
    fn default() -> Self {
        Self {
            vertices: DEFAULT_VERTICES,
            scale: None,
            softmax: Softmax::All,
        }
    }
}

impl Objective for SimplexOnly {
    fn classifier(&self) -> ClassifierSpec {
        ClassifierSpec::Simplex(SimplexClassifier {
            vertices: self.vertices,
            scale: self.scale,
            softmax: self.softmax,
        })
    }

    fn loss(&self, step: &Step<'_>) -> Tensor<1> {
        step.classification.clone()
    }
}
