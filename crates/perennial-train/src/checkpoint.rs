//! The checkpoint of a run: one file, replaced atomically, with everything needed to resume.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::state_dict::{StateDict, from_safetensors, to_safetensors};

/// The largest checkpoint that is read back.
const MAX_BYTES: u64 = 8 << 30;

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The current task (0-based); the number of tasks once all are done.
    pub task: usize,
    /// The current epoch.
    pub epoch: usize,
    /// Steps done in that epoch.
    pub step: usize,
    /// Sum over the epoch's images so far of the batch loss.
    pub loss_sum: f64,
    /// Images classified correctly in the epoch so far.
    pub correct: f64,
    /// Images seen in the epoch so far.
    pub images: u64,
    /// Seconds spent in the epoch so far.
    pub seconds: f64,
    /// Seconds of these in which the loop waited for a batch.
    #[serde(default)]
    pub data_wait_seconds: f64,
    /// Remembered images, as positions in the training set.
    pub memory: Vec<usize>,
    /// Registry names of the versions that finished tasks produced.
    pub versions: Vec<String>,
    /// Registry versions that tasks start from other than the one before: the initial model and the replacements, as
    /// their names were resolved when the run began.
    pub starts: BTreeMap<usize, String>,
    /// SHA-256 over the training images and their local labels.
    pub inputs_sha256: String,
    /// SHA-256 of the resolved configuration: a run cannot be resumed with another one.
    pub config_sha256: String,
}

/// Progress, and inside a task what is trained.
pub(crate) struct Checkpoint {
    pub progress: Progress,
    pub learner: Option<LearnerState>,
}

/// A model in training.
#[derive(Clone)]
pub(crate) struct LearnerState {
    pub network: StateDict,
    pub velocity: StateDict,
    /// The moving average of the weights, where the training keeps one.
    pub average: Option<StateDict>,
}

const NETWORK: &str = "network.";
const VELOCITY: &str = "velocity.";
const AVERAGE: &str = "average.";
const PROGRESS: &str = "progress";

pub(crate) fn path_in(run: &Path) -> PathBuf {
    run.join("checkpoint").join("latest.safetensors")
}

impl Checkpoint {
    pub fn write(&self, run: &Path) -> Result<(), TrainError> {
        let path = path_in(run);
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let mut tensors = StateDict::new();
        if let Some(LearnerState {
            network,
            velocity,
            average,
        }) = &self.learner
        {
            let prefixed = |prefix: &'static str, state: &StateDict| {
                state
                    .clone()
                    .into_iter()
                    .map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
            };
            tensors.extend(prefixed(NETWORK, network));
            tensors.extend(prefixed(VELOCITY, velocity));
            if let Some(average) = average {
                tensors.extend(prefixed(AVERAGE, average));
            }
        }
        let progress = serde_json::to_string(&self.progress).map_err(std::io::Error::from)?;
        let metadata = HashMap::from([(PROGRESS.to_owned(), progress)]);
        perennial_core::write_atomically(&path, to_safetensors(&tensors, Some(metadata))?)?;
        Ok(())
    }

    pub fn read(run: &Path) -> Result<Option<Self>, TrainError> {
        let path = path_in(run);
        if !path.exists() {
            return Ok(None);
        }
        let broken = |problem: String| TrainError::RunFolder {
            path: path.clone(),
            problem: format!("{problem}; remove the run's folder to start it anew"),
        };
        let bytes = perennial_core::read_at_most(&path, MAX_BYTES)?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
            .map_err(|error| broken(error.to_string()))?;
        let text = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(PROGRESS));
        let text = text.ok_or_else(|| broken("it has no progress record".into()))?;
        let progress = serde_json::from_str(text).map_err(|error| broken(error.to_string()))?;
        let state = from_safetensors(&bytes, &path.display().to_string())
            .map_err(|error| broken(error.to_string()))?;
        let part = |prefix: &str| -> StateDict {
            let named = state.iter().filter_map(|(name, tensor)| {
                name.strip_prefix(prefix)
                    .map(|name| (name.to_owned(), tensor.clone()))
            });
            named.collect()
        };
        let network = part(NETWORK);
        let average = part(AVERAGE);
        let learner = (!network.is_empty()).then(|| LearnerState {
            network,
            velocity: part(VELOCITY),
            average: (!average.is_empty()).then_some(average),
        });
        Ok(Some(Self { progress, learner }))
    }
}
