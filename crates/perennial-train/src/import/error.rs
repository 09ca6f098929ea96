//! Why a checkpoint's weights cannot be imported.

use super::candidate::Candidate;
use super::mismatch::Mismatch;
use crate::network::key_examples;
use crate::state_dict::WeightsError;

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
