//! Progress reports of a run, and requests to stop it.

use perennial_core::ModelVersion;
use perennial_data::ImageSet;
use serde::{Deserialize, Serialize};

use crate::softmax_shares::SoftmaxShares;

/// One line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Task (0-based).
    pub task: usize,
    /// Epoch (0-based).
    pub epoch: usize,
    /// Mean training loss.
    pub loss: f64,
    /// Fraction of training images classified correctly.
    pub accuracy: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Training speed.
    pub images_per_second: f64,
    /// Time spent, in seconds.
    pub seconds: f64,
    /// Fraction of that time in which the loop waited for its next batch. An asynchronous device keeps computing meanwhile, so
    /// there it is an upper bound of the time lost.
    #[serde(default)]
    pub data_wait: f64,
    /// How the classifier saw the epoch's last batch; absent in the records of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softmax: Option<SoftmaxShares>,
}

/// The progress of a run after a step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps done since the run began, over all tasks.
    pub done: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// Task (0-based) and number of tasks.
    pub task: [usize; 2],
    /// Epoch (0-based) and number of epochs.
    pub epoch: [usize; 2],
    /// Mean loss in the epoch so far.
    pub loss: f64,
    /// Fraction classified correctly in the epoch so far.
    pub accuracy: f64,
    /// Training speed in the epoch so far.
    pub images_per_second: f64,
}

/// Watches a run. Every method has a default that does nothing.
pub trait Observer {
    /// The training images are read.
    fn images(&mut self, _set: &ImageSet) {}
    /// Every few steps.
    fn step(&mut self, _report: &StepReport) {}
    /// After each epoch.
    fn epoch(&mut self, _record: &EpochRecord) {}
    /// A task starts from the named version, or from random weights.
    fn task(&mut self, _task: usize, _start: Option<&str>, _replacement: bool) {}
    /// A task's result is in the registry.
    fn version(&mut self, _task: usize, _version: &ModelVersion) {}
    /// Asked after every step; `true` makes the run write a checkpoint and return.
    fn interrupted(&self) -> bool {
        false
    }
}

/// An observer that does nothing.
pub struct Silent;

impl Observer for Silent {}
