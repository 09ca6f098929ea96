//! Training for feature adaptation.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::checks::{positive, weight};
use super::lwf::distillation;
use super::{Objective, Reference, Refers, Step};
use crate::TrainError;
use crate::class_scores::ClassifierSpec;
use crate::losses::unit_rows;

/// Experience replay with two distillations of the earlier model, both over all images of the batch: of its class probabilities, as
/// [`Lwf`](super::Lwf) has it, and of its embeddings,
/// `CE + weight * mean_n -sum_k p_k log q_k + feature_weight * mean_n (1 - cos(z_new, z_old))`.
///
/// It keeps new embeddings close enough to the old ones that a map between the two spaces can be fitted. That map, the adaptation itself, is
/// no part of the training: it carries stored embeddings into the new space, which is the route *mapped* of an evaluation.
///
/// There is no distillation of probabilities where the earlier model has no classifier of this run's classes: in the first task, and with
/// `reference = "initial"` at a replacement.
///
/// **Source**: A. Iscen et al., *Memory-Efficient Incremental Learning Through Feature Adaptation*, arXiv 2004.00713 (ECCV 2020): the losses
/// of the feature extractor, cross-entropy, knowledge distillation and feature distillation.
///
/// **Reading**: the paper keeps embeddings of old classes in place of their images, so that its losses see images of new classes alone; here
/// they see the remembered images too, as with every other method. The values of the paper's weights could not be established: both are 1, and
/// the temperature is that of [`Lwf`](super::Lwf). The paper adapts stored embeddings by a trained network of two layers, and trains the
/// classifier again on them; here the map is linear and fitted, and the classifier, which retrieval has no use for, is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fan {
    /// Weight of the distillation of class probabilities.
    pub weight: f64,
    /// Temperature of both softmaxes.
    pub temperature: f64,
    /// Weight of the distillation of embeddings.
    pub feature_weight: f64,
    /// Which earlier model the loss refers to at a replacement.
    pub reference: Reference,
}

impl Default for Fan {
    fn default() -> Self {
        Self {
            weight: 1.0,
            temperature: 2.0,
            feature_weight: 1.0,
            reference: Reference::Deployed,
        }
    }
}

impl Objective for Fan {
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
        let Some(earlier) = &step.earlier else {
            return classification;
        };
        // Asked for once: each call is a forward pass.
        let old = earlier.embeddings();
        let cosine = (unit_rows(step.embeddings.clone()) * unit_rows(old.clone())).sum_dim(1);
        let features = cosine.mean().neg() + 1.0;
        let loss = classification + features.mul_scalar(self.feature_weight);
        match earlier.classifier() {
            Some(classifier) => {
                let distilled = distillation(step, classifier, old, self.temperature);
                loss + distilled.mul_scalar(self.weight)
            }
            None => loss,
        }
    }

    fn check(&self) -> Result<(), TrainError> {
        weight("weight", self.weight)?;
        positive("temperature", self.temperature, 1e6)?;
        weight("feature_weight", self.feature_weight)
    }
}
