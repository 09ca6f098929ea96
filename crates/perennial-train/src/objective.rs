//! Methods of training: which classifier, which earlier model, and the loss of one step.
//!
//! A method is a struct of options with an implementation of [`Objective`], in a file of its own below `objective/`, and one
//! row in [`OBJECTIVES`]. The loop over tasks and batches asks the objective and knows no method by name.
//!
//! An objective of one's own needs no row: [`Learner`](crate::Learner) takes any implementation, as `examples/own_loss.rs` shows.

mod bct;
mod checks;
mod cvs;
mod er;
mod fan;
mod fd;
mod hoc;
mod lce;
mod lwf;
mod simplex;
mod table;

use std::fmt::Debug;

use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::class_scores::{ClassifierSpec, TaskClasses};
use crate::classifier::LinearClassifier;
use crate::earlier::Earlier;
use crate::losses::cross_entropy_and_correct;

pub use bct::Bct;
pub(crate) use checks::is_default;
pub use cvs::Cvs;
pub use er::Er;
pub use fan::Fan;
pub use fd::{Fd, FdGrowth};
pub use hoc::{Hoc, Relations, SameClass};
pub use lce::Lce;
pub use lwf::Lwf;
pub use simplex::SimplexOnly;
pub use table::{MethodConfig, OBJECTIVES, ObjectiveEntry};

/// Simplex vertices of the published recipe.
pub const DEFAULT_VERTICES: usize = 1024;

/// What a method trains with: its classifier, the earlier model that it refers to, and its loss on a step.
///
/// Every objective may ask for an earlier model ([`refers`](Self::refers)) and then gets it with each step, where there is one:
/// a first task from random weights has none.
pub trait Objective: Debug + Send + Sync {
    /// The classifier that the network is trained with.
    fn classifier(&self) -> ClassifierSpec;

    /// The earlier model that the loss refers to, or `None` for a loss without one.
    fn refers(&self) -> Option<Refers> {
        None
    }

    /// The loss of one step.
    ///
    /// **Shapes**: the result is `[1]`. Gradients flow into the step's embeddings, logits and classifier.
    fn loss(&self, step: &Step<'_>) -> Tensor<1>;

    /// The settings around the method that measured best on validation images, where they are not the published ones.
    fn best(&self) -> Option<BestSettings> {
        None
    }

    /// Checks the options.
    ///
    /// # Errors
    ///
    /// The first key with an invalid value, and the values it takes.
    fn check(&self) -> Result<(), TrainError> {
        Ok(())
    }
}

/// Settings of a run around its method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BestSettings {
    /// `training.start_share`.
    pub start_share: f64,
    /// Whether replacements enter by a fitted map, `entry = "bridged"`.
    pub bridged_replacements: bool,
}

/// What an objective asks of an earlier model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refers {
    /// Which earlier model.
    pub to: Reference,
    /// Whether its embeddings or its classifier are compared with the new embeddings themselves, so that both need one
    /// dimension.
    pub same_dim: bool,
    /// Whether the loss needs the mean of its embeddings in each class. They are computed when a task begins.
    pub class_centres: bool,
}

/// Which earlier model is the old one. The choices differ only at a replacement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// The version deployed before the task: the one that embedded the newest part of the gallery.
    #[default]
    Deployed,
    /// The model that the task starts from, so at a replacement the replacement itself: the released code's choice.
    Initial,
}

/// [`Step::progress`] in an epoch, from 0. A single epoch is the last one.
pub(crate) fn progress(epoch: usize, epochs: usize) -> f64 {
    match epochs.saturating_sub(1) {
        0 => 1.0,
        last => (epoch as f64 / last as f64).min(1.0),
    }
}

/// One batch in training.
#[derive(Debug)]
pub struct Step<'a> {
    /// The network's output, `[batch, dim]`, not normalised.
    pub embeddings: Tensor<2>,
    /// Mean cross-entropy of the classifier, `[1]`.
    pub classification: Tensor<1>,
    /// Scores of the classifier that the objective asked for, `[batch, columns]`.
    pub logits: Tensor<2>,
    /// The right column of each row, `[batch]`.
    pub targets: Tensor<1, Int>,
    /// Local label of each row, on the host.
    pub labels: &'a [u32],
    /// Which classes are old, new and pre-trained.
    pub classes: TaskClasses,
    /// The trained classifier; `None` with a simplex.
    pub classifier: Option<&'a LinearClassifier>,
    /// The earlier model, for an objective that refers to one, where there is one.
    pub earlier: Option<Earlier<'a>>,
    /// How far the task's training is: 0 in its first epoch, 1 in its last.
    pub progress: f64,
}

impl<'a> Step<'a> {
    /// A batch under a classifier, and how many of its rows have their highest score at the right column, `[1]`, on the device without
    /// gradients.
    pub(crate) fn of_batch(
        spec: &ClassifierSpec,
        classes: TaskClasses,
        classifier: Option<&'a LinearClassifier>,
        embeddings: Tensor<2>,
        labels: &'a [u32],
        earlier: Option<Earlier<'a>>,
    ) -> (Self, Tensor<1>) {
        let (logits, targets) = spec.scores(&classes, classifier, embeddings.clone(), labels);
        let (classification, correct) = cross_entropy_and_correct(logits.clone(), targets.clone());
        let step = Self {
            embeddings,
            classification,
            logits,
            targets,
            labels,
            classes,
            classifier,
            earlier,
            progress: 0.0,
        };
        (step, correct)
    }

    /// The mean over the rows whose flag is set of `values`, `[batch, 1]`; 0 without such a row.
    pub fn mean_where(&self, values: Tensor<2>, flags: &[bool]) -> Tensor<1> {
        let count = flags.iter().filter(|&&flag| flag).count().max(1);
        let mask = flags.iter().map(|&flag| f32::from(flag)).collect();
        (values * self.constant(mask, [flags.len(), 1]))
            .sum()
            .div_scalar(count as f64)
    }

    /// Numbers from the host as a tensor without gradient, beside the embeddings.
    pub fn constant(&self, values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values, shape), &self.embeddings.device())
    }
}

#[cfg(test)]
mod tests;
