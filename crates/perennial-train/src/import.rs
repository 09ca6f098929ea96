//! Checkpoints of other tools: PyTorch files and safetensors with the official key names, however they are wrapped.
//!
//! [`CheckpointFile::open`] reads what a file declares, [`CheckpointFile::select`] finds the network's weights in it,
//! [`Selection::infer`] tells from their shapes which network it is, and [`Selection::weights`] reads them, strictly.
//! [`Description::beside`] collects what a file and its neighbours say about size, normalisation and classes.

mod description;
mod file;
mod mismatch;
mod places;
mod selection;
mod shapes;

use std::path::Path;

use perennial_core::Simplex;

pub use description::{Description, Found};
pub use file::{CheckpointFile, MAX_CHECKPOINT_BYTES, NumberType, TensorHeader};
pub use mismatch::{Mismatch, Misshapen};
pub use selection::{Candidate, Inferred, Selection, TOP_LEVEL, network_options};
pub use shapes::{Shapes, backbone_shapes};

use crate::network::key_examples;
use crate::state_dict::{StateDict, StateTensor, WeightsError};

/// The largest difference between a stored prototype and the closed form.
const PROTOTYPE_TOLERANCE: f32 = 1e-4;

/// Why a checkpoint's weights cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file or a tensor cannot be read, or a value in it cannot be right.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// No tensor names in the file match a supported network.
    #[error(
        "{source_name} holds {tensors} tensors ({names}), but none of a supported network: look for {}",
        key_examples()
    )]
    NoNetwork {
        /// The file.
        source_name: String,
        /// Tensors in it.
        tensors: usize,
        /// The first few names.
        names: String,
    },
    /// More than one dictionary holds a network.
    #[error("{source_name} holds {} networks: {}; name one with --key", .candidates.len(), keys(.candidates))]
    SeveralNetworks {
        /// The file.
        source_name: String,
        /// The networks.
        candidates: Vec<Candidate>,
    },
    /// There is no network below the key that was named.
    #[error("{source_name} holds no network under the key {key:?}; available: {}", keys(.candidates))]
    UnknownKey {
        /// The file.
        source_name: String,
        /// The key.
        key: String,
        /// The networks that there are.
        candidates: Vec<Candidate>,
    },
    /// The tensors belong to a network of another kind.
    #[error("{source_name}: {problem}")]
    Unlike {
        /// The file.
        source_name: String,
        /// What differs.
        problem: String,
    },
    /// The tensors are not those of the network that was asked for.
    #[error("the weights in {source_name} do not fit the network: {mismatch}{}", .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Fit {
        /// The file.
        source_name: String,
        /// How they differ.
        mismatch: Box<Mismatch>,
        /// The options that would fit, or why none does.
        hint: Option<String>,
    },
    /// There is an embedding layer, and nothing that shows its simplex.
    #[error(
        "{source_name} has an embedding layer ({tensor}) but no classifier: if the model was trained on a simplex, pass --vertices {vertices}"
    )]
    Vertices {
        /// The file.
        source_name: String,
        /// The embedding layer.
        tensor: String,
        /// One more than its rows.
        vertices: usize,
    },
}

fn keys(candidates: &[Candidate]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = candidates
        .iter()
        .take(SHOWN)
        .map(Candidate::to_string)
        .collect();
    let more = match candidates.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(", ") + &more
}

/// Reads every tensor of the network below `key`, or of the only one in the file, under Perennial's names.
///
/// # Errors
///
/// As [`CheckpointFile::open`] and [`CheckpointFile::select`]; a tensor of an unsupported number type.
pub fn read_checkpoint(path: &Path, key: Option<&str>) -> Result<StateDict, ImportError> {
    CheckpointFile::open(path)?.select(key)?.read_all()
}

/// Removes a checkpoint's frozen simplex classifier (`fc2.weight`) after checking that it is one.
///
/// # Errors
///
/// [`WeightsError::NotSimplex`] if the stored prototypes differ from the closed form by more than 1e-4.
pub fn take_simplex_classifier(
    state: &mut StateDict,
    simplex: Simplex,
) -> Result<(), WeightsError> {
    const NAME: &str = "fc2.weight";
    match state.remove(NAME) {
        Some(stored) if !is_simplex(&stored, simplex) => Err(WeightsError::NotSimplex {
            name: NAME.into(),
            vertices: simplex.vertices(),
        }),
        _ => Ok(()),
    }
}

/// Whether a classifier's rows are the prototypes.
fn is_simplex(stored: &StateTensor, simplex: Simplex) -> bool {
    stored.shape == [simplex.vertices(), simplex.dim()]
        && stored
            .values
            .chunks_exact(simplex.dim())
            .enumerate()
            .all(|(vertex, row)| {
                row.iter()
                    .zip(simplex.prototype(vertex))
                    .all(|(stored, exact)| (stored - exact).abs() <= PROTOTYPE_TOLERANCE)
            })
}
