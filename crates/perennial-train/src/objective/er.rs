//! Experience replay.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Objective, Step};
use crate::class_scores::ClassifierSpec;

/// Experience replay: a growing linear classifier and cross-entropy. The ordinary baseline: nothing keeps versions compatible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Er {}

impl Objective for Er {
    fn classifier(&self) -> ClassifierSpec {
        ClassifierSpec::Linear
    }

    fn loss(&self, step: &Step<'_>) -> Tensor<1> {
        step.classification.clone()
    }
}
