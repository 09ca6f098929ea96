//! What an unfinished result was made of.

use perennial_core::ModelVersion;
use serde::{Deserialize, Serialize};

/// Everything that all rows of a result depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version's name.
    pub version: String,
    /// The fingerprint of its space: weights, network and preprocessing, or the files of an encoder of another program.
    pub fingerprint: Option<String>,
    /// Where it runs: another device or runtime of graphs rounds otherwise.
    pub device: String,
    /// This program, for the same reason.
    pub program: String,
    /// The SHA-256 of the input.
    pub input_sha256: String,
    /// The options that say what is made of it.
    pub options: String,
}

impl Origin {
    pub fn new(
        version: &ModelVersion,
        device: impl Into<String>,
        input_sha256: String,
        options: String,
    ) -> Self {
        Self {
            version: version.name.clone(),
            fingerprint: version.space().fingerprint,
            device: device.into(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            input_sha256,
            options,
        }
    }

    /// What differs, in words.
    pub fn difference(&self, other: &Self) -> &'static str {
        if (&self.version, &self.fingerprint) != (&other.version, &other.fingerprint) {
            "another version"
        } else if self.input_sha256 != other.input_sha256 {
            "another input, or one that has changed"
        } else if self.options != other.options {
            "other options"
        } else {
            "another device, library of onnxruntime or release of this program"
        }
    }
}
