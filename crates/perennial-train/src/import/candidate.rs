//! Places in a checkpoint that hold a network.

use std::fmt;

use crate::network::BackboneKind;

/// How the top level of a file is named where a key is asked for.
pub const TOP_LEVEL: &str = ".";

/// A place in a checkpoint that holds a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its key: the dictionaries that lead to it, joined by dots, or [`TOP_LEVEL`].
    pub key: String,
    /// How many tensors it holds.
    pub tensors: usize,
    /// The prefix of the backbone's own names.
    pub(super) prefix: String,
    pub(super) backbone: BackboneKind,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} tensors)", self.key, self.tensors)
    }
}
