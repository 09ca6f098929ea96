//! Errors of training.

use std::path::PathBuf;

use crate::state_dict::WeightsError;

/// Why a training run cannot start or continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// An invalid configuration value.
    #[error("configuration key `{key}`: {problem}")]
    Config {
        /// Dotted path of the key.
        key: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// The device is unknown or not compiled in.
    #[error("device {name:?}: {problem}")]
    Device {
        /// As asked for.
        name: String,
        /// The problem and the remedy.
        problem: String,
    },
    /// Unknown instructions for the CPU.
    #[error(transparent)]
    Instructions(#[from] perennial_core::instructions::InstructionsError),
    /// A version cannot be the start of a task or the reference of another.
    #[error("model version {version} cannot be used here: {problem}")]
    Version {
        /// Its name.
        version: String,
        /// What is wrong.
        problem: String,
    },
    /// The run's folder holds another run, or no run.
    #[error("{}: {problem}", path.display())]
    RunFolder {
        /// The folder or file.
        path: PathBuf,
        /// The problem and the remedy.
        problem: String,
    },
    /// The loss or a weight became NaN or infinite.
    #[error(
        "{what} in task {task}, epoch {epoch}{}; {}: start the run under another name with a lower `training.learning_rate`",
        at_step(*step, images),
        last_good(checkpoint.as_ref())
    )]
    Diverged {
        /// Task (0-based).
        task: usize,
        /// Epoch (0-based).
        epoch: usize,
        /// The value that became NaN or infinite.
        what: String,
        /// The first step of the epoch (0-based) with such a loss.
        step: Option<usize>,
        /// The images of that step's batch, as positions in the training set.
        images: Vec<usize>,
        /// The last checkpoint before, if there is one.
        checkpoint: Option<GoodCheckpoint>,
    },
    /// Embeddings of training images cannot be used.
    #[error(
        "embeddings of the training images: {problem}; the training may have diverged, try a lower `training.learning_rate`"
    )]
    Embedding {
        /// What is wrong with them.
        problem: String,
    },
    /// Pre-trained and local classes do not fit the simplex, or it has too few vertices.
    #[error("configuration key `method.vertices`: {0}")]
    Simplex(#[from] perennial_core::SimplexError),
    /// The training images cannot be read.
    #[error(transparent)]
    Data(#[from] perennial_data::DataError),
    /// An error of the registry.
    #[error(transparent)]
    Registry(#[from] perennial_core::RegistryError),
    /// The weights do not fit the network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A checkpoint whose weights are all finite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoodCheckpoint {
    /// The file.
    pub path: PathBuf,
    /// Task that it stands in (0-based).
    pub task: usize,
    /// Epochs of that task that are in it.
    pub epochs: usize,
}

/// So many of a batch's images are named.
const NAMED_IMAGES: usize = 16;

fn at_step(step: Option<usize>, images: &[usize]) -> String {
    let Some(step) = step else {
        return String::new();
    };
    let named: Vec<String> = images
        .iter()
        .take(NAMED_IMAGES)
        .map(ToString::to_string)
        .collect();
    let more = match images.len().saturating_sub(NAMED_IMAGES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        ", step {step}, on the images at {}{more} of the training set",
        named.join(", ")
    )
}

fn last_good(checkpoint: Option<&GoodCheckpoint>) -> String {
    checkpoint.map_or("there is no checkpoint yet".to_owned(), |good| {
        format!(
            "the last good checkpoint is {}, after {} epochs of task {}",
            good.path.display(),
            good.epochs,
            good.task
        )
    })
}

impl TrainError {
    /// The same about a key of a set that stands elsewhere in a configuration than in `data`.
    #[must_use]
    pub fn of_set(mut self, place: &str) -> Self {
        if let Self::Config { key, .. } = &mut self
            && let Some(rest) = key.strip_prefix("data")
            && (rest.is_empty() || rest.starts_with('.'))
        {
            *key = format!("{place}{rest}");
        }
        self
    }

    pub(crate) fn config(key: &str, problem: &str) -> Self {
        Self::Config {
            key: key.to_owned(),
            problem: problem.to_owned(),
        }
    }
}
