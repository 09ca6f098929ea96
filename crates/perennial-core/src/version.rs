//! A model version: what a trained network is, where it came from, and how its input is prepared.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checksum::sha256_hex;
use crate::simplex::SimplexError;
use crate::space::{SpaceId, SpaceRef};
use crate::vertex_map::VertexEnd;

/// The format of `model.toml` that is written and read.
pub(crate) const FORMAT_VERSION: i64 = 1;

/// An invalid or inconsistent description of a version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VersionError {
    /// The text is not TOML, or a key is missing, unknown or of the wrong type.
    #[error("line {line}: {problem}")]
    Syntax {
        /// Line of the problem, from 1.
        line: usize,
        /// What the parser says, with the key.
        problem: String,
    },
    /// The text was written by a later program.
    #[error(
        "format_version is {found}, this program reads {}; use a newer Perennial",
        FORMAT_VERSION
    )]
    FormatVersion {
        /// The version found.
        found: i64,
    },
    /// An invalid value.
    #[error("{key}: {problem}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Pre-trained and local classes do not fit on the simplex together.
    #[error(transparent)]
    Vertices(#[from] SimplexError),
}

/// How a version relates to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Trained from scratch, to be fine-tuned or to replace another version.
    Pretrained,
    /// Its parent, fine-tuned on a new task.
    Update,
    /// A better pre-trained model, fine-tuned and put in the place of its parent.
    Replacement,
    /// Weights that another program trained.
    Imported,
}

/// How class scores are computed from embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassifierKind {
    /// Fixed prototypes at the vertices of a simplex.
    Simplex,
    /// A trained linear layer that grows with the classes.
    Linear,
}

/// The network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// The family, such as `resnet18` or `small`.
    pub backbone: String,
    /// The first layers, such as `imagenet` or `cifar`; empty where the backbone has only one kind.
    pub stem: String,
    /// Channels of the first stage.
    pub width: usize,
    /// Channels, height and width of an input image.
    pub input: [usize; 3],
}

/// The constants that bring pixels (0 to 1) to the network's input: `(pixel - mean) / std`, per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Standard deviation per channel.
    pub std: Vec<f32>,
}

/// The classifier on top of the embeddings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// Fixed simplex or trained layer.
    pub kind: ClassifierKind,
    /// Vertices of the simplex, `dim + 1`; none for a linear classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vertices: Option<usize>,
    /// The end of the simplex that this version's own classes take; none for a linear classifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vertex_end: Option<VertexEnd>,
    /// Vertices at the back that belong to others, so that this version's class 0 is at vertex `K - 1 - skipped_vertices`. 0 for classes at
    /// the front, and for linear classifiers.
    #[serde(default, skip_serializing_if = "crate::vertex_map::is_zero")]
    pub skipped_vertices: usize,
    /// Classes that this version's own training has seen so far, at [`vertex_end`](Self::vertex_end).
    pub classes: usize,
    /// Classes that pre-training has placed at the front, in this version or in those that it builds on.
    pub pretrained_classes: usize,
}

/// Everything about a version that is known before it is published.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionDraft {
    /// The length of an embedding.
    pub dim: usize,
    /// The network.
    pub architecture: Architecture,
    /// How its input is prepared.
    pub preprocessing: Preprocessing,
    /// Whether the mean that its weights hold is subtracted from its embeddings.
    pub centred: bool,
    /// Its classifier.
    pub classifier: Classifier,
    /// The version that it updates or replaces.
    pub parent: Option<String>,
    /// What it is to its parent.
    pub role: Role,
    /// The training method, such as `hoc`.
    pub method: String,
    /// What it was trained on, in words.
    pub data: String,
    /// The seed of its training.
    pub seed: u64,
    /// When it was made, RFC 3339 in UTC, such as `2026-11-22T21:35:00Z`.
    pub created: String,
}

/// A published, immutable model version: the content of `model.toml`.
///
/// Instances come from [`Registry::publish`](crate::Registry::publish), [`Registry::get`](crate::Registry::get) and
/// [`from_toml`](Self::from_toml), which check every value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelVersion {
    // Scalars stay ahead of the tables, as TOML demands.
    format_version: i64,
    /// The name given by the registry, such as `v0003`.
    pub name: String,
    /// The version that it updates or replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What it is to its parent.
    pub role: Role,
    /// The training method, such as `hoc`.
    pub method: String,
    /// What it was trained on, in words.
    pub data: String,
    /// The seed of its training.
    pub seed: u64,
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// The length of an embedding.
    pub dim: usize,
    /// Whether the mean that the weights hold is subtracted from embeddings, which are then `unit(unit(x) - mean)`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub centred: bool,
    /// SHA-256 of `weights.safetensors`, in hexadecimal.
    pub weights_sha256: String,
    /// Size of `weights.safetensors`, in bytes.
    pub weights_bytes: u64,
    /// The network.
    pub architecture: Architecture,
    /// How its input is prepared.
    pub preprocessing: Preprocessing,
    /// Its classifier.
    pub classifier: Classifier,
}

impl VersionDraft {
    /// The version under its final name, with the hash of its weights.
    pub(crate) fn into_version(self, name: String, weights: &[u8]) -> ModelVersion {
        ModelVersion {
            format_version: FORMAT_VERSION,
            name,
            parent: self.parent,
            role: self.role,
            method: self.method,
            data: self.data,
            seed: self.seed,
            created: self.created,
            dim: self.dim,
            centred: self.centred,
            weights_sha256: sha256_hex(weights),
            weights_bytes: weights.len() as u64,
            architecture: self.architecture,
            preprocessing: self.preprocessing,
            classifier: self.classifier,
        }
    }
}

impl ModelVersion {
    /// The version's embedding space. Its fingerprint covers everything that embeddings depend on: weights, network and preprocessing.
    pub fn space(&self) -> SpaceRef {
        let content = (
            &self.weights_sha256,
            &self.architecture,
            &self.preprocessing,
        );
        let content = serde_json::to_vec(&content).expect("a version has string keys");
        SpaceRef {
            dim: self.dim,
            id: SpaceId::new(self.name.as_str()).ok(),
            fingerprint: Some(sha256_hex(&content)),
        }
    }

    /// The version's description without its name and hash, as a start for a new draft.
    pub fn draft(&self) -> VersionDraft {
        let version = self.clone();
        VersionDraft {
            dim: version.dim,
            architecture: version.architecture,
            preprocessing: version.preprocessing,
            centred: version.centred,
            classifier: version.classifier,
            parent: version.parent,
            role: version.role,
            method: version.method,
            data: version.data,
            seed: version.seed,
            created: version.created,
        }
    }
}

/// The number in a version name such as `v0003`; `None` for any other text, including `v3` and `v00003`.
pub(crate) fn version_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix('v')?.parse().ok()?;
    (version_name(number) == name).then_some(number)
}

/// The name of version `number`: `v` and at least four digits.
pub(crate) fn version_name(number: u64) -> String {
    format!("v{number:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_canonical() {
        assert_eq!(version_name(3), "v0003");
        assert_eq!(version_name(12345), "v12345");
        for (name, number) in [("v0003", 3), ("v12345", 12345)] {
            assert_eq!(version_number(name), Some(number));
        }
        for name in [
            "",
            "v",
            "v3",
            "v00003",
            "V0003",
            "v+003",
            "v-001",
            "0003",
            "v0003/",
            "v99999999999999999999",
        ] {
            assert_eq!(version_number(name), None, "{name}");
        }
    }

    #[test]
    fn a_version_carries_its_draft_and_the_hash_of_its_weights() {
        let published = ModelVersion::from_toml(include_str!("../testdata/model.toml")).unwrap();
        let again = published.draft().into_version("v0003".to_owned(), b"abc");
        assert_eq!(again, published);
    }
}
