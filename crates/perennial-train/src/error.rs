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
        "{what} in task {task}, epoch {epoch}: start the run under another name with a lower `training.learning_rate`"
    )]
    Diverged {
        /// Task (0-based).
        task: usize,
        /// Epoch (0-based).
        epoch: usize,
        /// The value that became NaN or infinite.
        what: String,
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
    #[error(transparent)]
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

impl TrainError {
    pub(crate) fn config(key: &str, problem: &str) -> Self {
        Self::Config {
            key: key.to_owned(),
            problem: problem.to_owned(),
        }
    }
}
