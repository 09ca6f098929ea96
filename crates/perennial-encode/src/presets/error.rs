//! Preparations that are not known.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::preparation::PreparationError;

/// The names of the presets.
pub const NAMES: [&str; 3] = ["timm", "torchvision", "clip"];

/// A preparation that is not known, or a configuration that does not describe one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PresetError {
    /// No preset of that name.
    #[error("there is no preset {name:?} for pictures; there are {}, and files such as preprocessor_config.json", NAMES.join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no JSON.
    #[error("{file} is no JSON: {source}")]
    Json {
        /// The file's name.
        file: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// JSON that describes something else.
    #[error(
        "{file} does not say how pictures are prepared: it has neither input_size or pretrained_cfg (timm) nor size or image_mean \
         (transformers); give another file or one of the presets {}", NAMES.join(", ")
    )]
    Other {
        /// The file's name.
        file: String,
    },
    /// A value that is missing, of the wrong type, or not supported.
    #[error("{file}: {key} {problem}")]
    Key {
        /// The file's name.
        file: String,
        /// The key, with those that it is inside of, separated by points.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Values of the right types that no picture can be prepared with.
    #[error("{file}: {source}")]
    Preparation {
        /// The file's name.
        file: String,
        /// Which, and why.
        source: PreparationError,
    },
}
