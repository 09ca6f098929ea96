//! Stored probes: embeddings of a few inputs, recorded when a version first went live, and the check that it still computes them.
//!
//! The gallery holds embeddings that a version computed long ago. A later build of the program, another device or damaged
//! preprocessing may compute others from the same weights, which no checksum notices. So the gallery's folder keeps, per version,
//! probe inputs and the embeddings that they had. The registry's entry stays as it was published.

use std::path::{Path, PathBuf};

use perennial_core::{read_at_most, write_atomically};
use thiserror::Error;

use crate::loaded_model::LoadedModel;
use crate::probe_file::{Compared, MAX_FILE_BYTES, ProbeInputError, Probes, metadata};

const FORMAT: &str = "perennial-probes";

/// Errors from checking a version against its stored probes.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// A damaged file.
    #[error(
        "the probe file {file} of the gallery {problem}; remove it to record the current embeddings instead"
    )]
    File {
        /// The file's name.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The name belongs to other weights.
    #[error(
        "the gallery holds items of another model with this name (weights {stored}); publish this model under another name"
    )]
    OtherWeights {
        /// The hash of the weights that the gallery's items came from.
        stored: String,
    },
    /// The version no longer reproduces its stored embeddings.
    #[error(
        "probe {probe}: the embedding differs by {distance:.1e} from the one recorded when the version first went live \
         (limit {tolerance:.0e}). The build, the device, the preprocessing or the model behind an endpoint has changed ({file} of the gallery)"
    )]
    Changed {
        /// The file's name.
        file: String,
        /// Position of the probe, from 0.
        probe: usize,
        /// Length of the difference of the two embeddings.
        distance: f64,
        /// How long it may be.
        tolerance: f64,
    },
    /// A probe that cannot be embedded.
    #[error(transparent)]
    Input(#[from] ProbeInputError),
}

/// The folder of probe files.
pub struct StoredProbes {
    folder: PathBuf,
}

/// The result of the check of a version.
pub enum Checked {
    /// The embeddings are the stored ones, up to this distance.
    Same {
        /// The largest length of a difference.
        distance: f64,
    },
    /// There are none yet; these are to be stored once the version is live.
    New(Probes),
}

impl StoredProbes {
    /// The probes in a folder, which appears with the first file.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Their folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Compares a version with its stored probes. `in_use` says whether the gallery has items of this name. Blocks for one forward
    /// pass.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn check(&self, model: &LoadedModel, in_use: bool) -> Result<Checked, ProbeError> {
        let stored = match self.read(model)? {
            Some(Stored::Same(probes)) => probes,
            Some(Stored::OtherWeights(stored)) if in_use => {
                return Err(ProbeError::OtherWeights { stored });
            }
            // There are none, or no items are left of the model that had this name.
            None | Some(Stored::OtherWeights(_)) => {
                return Ok(Checked::New(Probes::generated(model)?));
            }
        };
        match stored.compare(model)? {
            Compared::Same(distance) => Ok(Checked::Same { distance }),
            Compared::Changed {
                probe,
                distance,
                tolerance,
            } => Err(ProbeError::Changed {
                file: file_name(model.name()),
                probe,
                distance,
                tolerance,
            }),
        }
    }

    /// Stores the new probes that [`check`](Self::check) returned.
    ///
    /// # Errors
    /// The error names the file.
    pub fn keep(&self, model: &LoadedModel, probes: &Probes) -> std::io::Result<()> {
        fs_err::create_dir_all(&self.folder)?;
        let about = [
            ("model_version", model.name()),
            ("weights_sha256", &model.version.weights_sha256),
        ];
        let bytes = probes.to_bytes(FORMAT, model.version.dim, &about)?;
        write_atomically(self.path(model.name()), bytes)
    }

    fn path(&self, version: &str) -> PathBuf {
        self.folder.join(file_name(version))
    }

    /// The stored probes of a version, if there is a file.
    fn read(&self, model: &LoadedModel) -> Result<Option<Stored>, ProbeError> {
        let damaged = |problem: String| ProbeError::File {
            file: file_name(model.name()),
            problem,
        };
        let bytes = match read_at_most(self.path(model.name()), MAX_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(damaged(format!("cannot be read: {}", error.kind()))),
        };
        stored(&bytes, model).map(Some).map_err(damaged)
    }
}

/// What a file holds.
enum Stored {
    Same(Probes),
    /// The hash of the weights. The rest is another model's, of another shape perhaps.
    OtherWeights(String),
}

fn stored(bytes: &[u8], model: &LoadedModel) -> Result<Stored, String> {
    let mut metadata = metadata(bytes, FORMAT)?;
    if metadata.get("model_version").map(String::as_str) != Some(model.name()) {
        return Err("belongs to another version".to_owned());
    }
    let weights = metadata.remove("weights_sha256").unwrap_or_default();
    if weights != model.version.weights_sha256 {
        return Ok(Stored::OtherWeights(weights));
    }
    Probes::from_bytes(bytes, model.version.dim).map(Stored::Same)
}

fn file_name(version: &str) -> String {
    format!("{version}.safetensors")
}
