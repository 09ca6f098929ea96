//! The `[training]` table.

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::sgd::Schedule;

/// Optimisation of one task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Epochs per task.
    pub epochs: usize,
    /// Images per batch; half of them from memory once there is one.
    pub batch_size: usize,
    /// Learning rate of the first epoch.
    pub learning_rate: f64,
    /// Learning rate that the schedule leads to; a constant one has none and leaves this out.
    pub final_learning_rate: f64,
    /// How the learning rate goes over a task.
    #[serde(skip_serializing_if = "crate::objective::is_default")]
    pub schedule: Schedule,
    /// SGD momentum, without dampening.
    pub momentum: f64,
    /// Weight decay of parameters with two or more dimensions.
    pub weight_decay: f64,
    /// A checkpoint is written after every so many epochs.
    pub checkpoint_epochs: usize,
    /// The share that the weights of a task's start have in those of its version; the others are as trained. 0 is training as usual, and so
    /// is none in a completed configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_share: Option<f64>,
    /// Decay per step of a moving average of weights and running statistics, which a version gets in the place of the last step's; 0 is
    /// without.
    #[serde(skip_serializing_if = "crate::objective::is_default")]
    pub average_decay: f64,
    /// Radius of sharpness-aware minimisation: gradients are taken so far along the first ones, at twice the time; 0 is without.
    #[serde(skip_serializing_if = "crate::objective::is_default")]
    pub sharpness_radius: f64,
    /// Epochs at the beginning of each task in which only the embedding layer and the classifier are trained.
    #[serde(skip_serializing_if = "crate::objective::is_default")]
    pub warm_start_epochs: usize,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            epochs: 70,
            batch_size: 128,
            learning_rate: 1e-3,
            final_learning_rate: 1e-5,
            schedule: Schedule::Cosine,
            momentum: 0.9,
            weight_decay: 5e-4,
            checkpoint_epochs: 1,
            start_share: None,
            average_decay: 0.0,
            sharpness_radius: 0.0,
            warm_start_epochs: 0,
        }
    }
}

impl TrainingConfig {
    /// Learning rate of an epoch of a task, from 0.
    pub fn learning_rate_in(&self, epoch: usize) -> f64 {
        let [first, last] = [self.learning_rate, self.final_learning_rate];
        self.schedule.learning_rate(epoch, self.epochs, first, last)
    }

    pub(super) fn check(&self) -> Result<(), TrainError> {
        let positive = [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("checkpoint_epochs", self.checkpoint_epochs),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(TrainError::config(
                    &format!("training.{key}"),
                    "must be at least 1",
                ));
            }
        }
        if self.batch_size < 2 {
            return Err(TrainError::config(
                "training.batch_size",
                "batch norm needs at least 2 images",
            ));
        }
        let rates = [
            ("learning_rate", self.learning_rate),
            ("final_learning_rate", self.final_learning_rate),
            ("momentum", self.momentum),
            ("weight_decay", self.weight_decay),
            ("sharpness_radius", self.sharpness_radius),
        ];
        for (key, value) in rates {
            if !value.is_finite() || value < 0.0 {
                return Err(TrainError::config(
                    &format!("training.{key}"),
                    &format!("must be a finite number of at least 0, got {value}"),
                ));
            }
        }
        let share = self.start_share.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&share) {
            return Err(TrainError::config(
                "training.start_share",
                &format!("must be within [0, 1], got {share}"),
            ));
        }
        let below_one = [
            ("momentum", self.momentum),
            ("average_decay", self.average_decay),
        ];
        for (key, value) in below_one {
            if !(0.0..1.0).contains(&value) {
                return Err(TrainError::config(
                    &format!("training.{key}"),
                    &format!("must be at least 0 and below 1, got {value}"),
                ));
            }
        }
        if self.warm_start_epochs > self.epochs {
            return Err(TrainError::config(
                "training.warm_start_epochs",
                &format!(
                    "must be at most training.epochs ({}), got {}",
                    self.epochs, self.warm_start_epochs
                ),
            ));
        }
        Ok(())
    }
}
