//! Checkpoints of other tools: PyTorch files and safetensors with the official key names, however they are wrapped.
//!
//! [`CheckpointFile::open`] reads what a file declares, [`CheckpointFile::select`] finds the network's weights in it,
//! [`Selection::infer`] tells from their shapes which network it is, and [`Selection::weights`] reads them, strictly.
//! [`Description::beside`] collects what a file and its neighbours say about size, normalisation and classes.

mod candidate;
mod description;
mod error;
mod file;
mod mismatch;
mod places;
mod prototypes;
mod selection;
mod shapes;

use std::path::Path;

pub use candidate::{Candidate, TOP_LEVEL};
pub use description::{Description, Found};
pub use error::ImportError;
pub use file::{CheckpointFile, MAX_CHECKPOINT_BYTES, NumberType, TensorHeader};
pub use mismatch::{Mismatch, Misshapen, Shapes};
pub use prototypes::take_simplex_classifier;
pub use selection::{Inferred, Selection, network_options};
pub use shapes::backbone_shapes;

use crate::state_dict::StateDict;

/// Reads every tensor of the network below `key`, or of the only one in the file, under Perennial's names.
///
/// # Errors
///
/// As [`CheckpointFile::open`] and [`CheckpointFile::select`]; a tensor of an unsupported number type.
pub fn read_checkpoint(path: &Path, key: Option<&str>) -> Result<StateDict, ImportError> {
    CheckpointFile::open(path)?.select(key)?.read_all()
}
