//! A model version: what computes its embeddings, where it came from, and how its input is prepared.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checksum::sha256_hex;
use crate::classifier::Classifier;
use crate::outside_encoder::OutsideEncoder;
use crate::simplex::SimplexError;
use crate::space::{Modality, SpaceId, SpaceRef};

/// The format of `model.toml` for networks of our own.
pub(crate) const NETWORK_FORMAT: i64 = 1;
/// The format of `model.toml` for encoders of other programs, which programs before 0.3 do not know.
pub(crate) const OUTSIDE_FORMAT: i64 = 2;

/// An invalid or inconsistent description of a version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
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
        "format_version is {found}, this program reads {NETWORK_FORMAT} and {OUTSIDE_FORMAT}; use a newer Perennial"
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

/// What a version's embedding is, before it is scaled to unit length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbeddingSource {
    /// The output of the network's last layer: of the embedding layer where there is one, otherwise of the backbone.
    #[default]
    Layer,
    /// The features of the backbone, although the network has an embedding layer: it was trained behind them, and further training goes on
    /// with it. Programs that do not know this refuse the version.
    Features,
}

impl EmbeddingSource {
    /// Left out of a written description then.
    pub fn is_layer(&self) -> bool {
        *self == Self::Layer
    }
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
    /// What the embedding is.
    #[serde(default, skip_serializing_if = "EmbeddingSource::is_layer")]
    pub embedding: EmbeddingSource,
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

/// A network that Perennial trains and runs itself.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainedNetwork {
    /// The network.
    pub architecture: Architecture,
    /// How its input is prepared.
    pub preprocessing: Preprocessing,
    /// Its classifier.
    pub classifier: Classifier,
}

/// What computes a version's embeddings.
#[derive(Debug, Clone, PartialEq)]
pub enum VersionEncoder {
    /// A network that Perennial trains and runs itself.
    Network(TrainedNetwork),
    /// An encoder of another program.
    Outside(OutsideEncoder),
}

impl VersionEncoder {
    /// The network of our own, if it is one.
    pub fn network(&self) -> Option<&TrainedNetwork> {
        match self {
            Self::Network(network) => Some(network),
            Self::Outside(_) => None,
        }
    }

    /// The encoder of another program, if it is one.
    pub fn outside(&self) -> Option<&OutsideEncoder> {
        match self {
            Self::Network(_) => None,
            Self::Outside(outside) => Some(outside),
        }
    }
}

/// Everything about a version that is known before it is published.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionDraft {
    /// The length of an embedding.
    pub dim: usize,
    /// What computes its embeddings.
    pub encoder: VersionEncoder,
    /// Whether the mean that its weights hold is subtracted from its embeddings. Never for an encoder of another program.
    pub centred: bool,
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
#[derive(Debug, Clone, PartialEq)]
pub struct ModelVersion {
    /// The name given by the registry, such as `v0003`.
    pub name: String,
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
    /// When it was made, RFC 3339 in UTC.
    pub created: String,
    /// The length of an embedding.
    pub dim: usize,
    /// Whether the mean that the weights hold is subtracted from embeddings, which are then `unit(unit(x) - mean)`.
    pub centred: bool,
    /// Of a network: SHA-256 of `weights.safetensors`, in hexadecimal. Of an outside encoder:
    /// [`OutsideEncoder::files_sha256`].
    pub weights_sha256: String,
    /// Of a network: size of `weights.safetensors`, in bytes. Of an outside encoder: the sizes of its files together.
    pub weights_bytes: u64,
    /// What computes the embeddings.
    pub encoder: VersionEncoder,
}

impl VersionDraft {
    /// The network to change, where the draft has one of our own.
    pub fn network_mut(&mut self) -> Option<&mut TrainedNetwork> {
        match &mut self.encoder {
            VersionEncoder::Network(network) => Some(network),
            VersionEncoder::Outside(_) => None,
        }
    }

    /// The version under its final name, with the hash and the size of its weights.
    pub(crate) fn into_version(
        self,
        name: String,
        weights_sha256: String,
        weights_bytes: u64,
    ) -> ModelVersion {
        ModelVersion {
            name,
            parent: self.parent,
            role: self.role,
            method: self.method,
            data: self.data,
            seed: self.seed,
            created: self.created,
            dim: self.dim,
            centred: self.centred,
            weights_sha256,
            weights_bytes,
            encoder: self.encoder,
        }
    }
}

impl ModelVersion {
    /// The network of our own, if it is one.
    pub fn network(&self) -> Option<&TrainedNetwork> {
        self.encoder.network()
    }

    /// The encoder of another program, if it is one.
    pub fn outside(&self) -> Option<&OutsideEncoder> {
        self.encoder.outside()
    }

    /// What it embeds.
    pub fn accepts(&self) -> &'static [Modality] {
        match &self.encoder {
            VersionEncoder::Network(_) => &[Modality::Image],
            VersionEncoder::Outside(outside) => outside.accepts(),
        }
    }

    /// Vertices of the simplex that its embeddings were trained onto. None for a classifier of another kind, and where the embeddings are the
    /// features in front of the layer that was.
    pub fn simplex_vertices(&self) -> Option<usize> {
        let network = self.network();
        let layer = network.is_none_or(|network| network.architecture.embedding.is_layer());
        self.classifier().filter(|_| layer)?.vertices
    }

    /// The classifier that its embeddings were trained with; none for an encoder of another program without a linear layer of its own.
    pub fn classifier(&self) -> Option<&Classifier> {
        match &self.encoder {
            VersionEncoder::Network(network) => Some(&network.classifier),
            VersionEncoder::Outside(outside) => Some(&outside.head.as_ref()?.classifier),
        }
    }

    /// Height and width of the pictures that its network is given, in pixels; none for an encoder of texts alone.
    pub fn picture_size(&self) -> Option<[usize; 2]> {
        match &self.encoder {
            VersionEncoder::Network(network) => {
                let [_, height, width] = network.architecture.input;
                Some([height, width])
            }
            VersionEncoder::Outside(outside) => Some(outside.image.as_ref()?.preparation.size),
        }
    }

    /// Whether both versions' encoders are given the same values for the same picture or text, so that it need be prepared only once.
    pub fn prepares_like(&self, other: &Self) -> bool {
        match (&self.encoder, &other.encoder) {
            (VersionEncoder::Network(own), VersionEncoder::Network(other)) => {
                own.architecture.input == other.architecture.input
                    && own.preprocessing == other.preprocessing
            }
            (VersionEncoder::Outside(own), VersionEncoder::Outside(other)) => {
                own.prepares_like(other)
            }
            _ => false,
        }
    }

    /// The version's embedding space. Its fingerprint covers everything that embeddings depend on: weights, network and preprocessing, or
    /// the `[encoder]` table with the hashes of all files. That of an embedding service which gives the embeddings of a registered space is that
    /// space's.
    pub fn space(&self) -> SpaceRef {
        let registered = self.outside().and_then(OutsideEncoder::registered_space);
        let content = match &self.encoder {
            VersionEncoder::Network(network) => serde_json::to_vec(&(
                &self.weights_sha256,
                &network.architecture,
                &network.preprocessing,
            )),
            VersionEncoder::Outside(outside) => {
                serde_json::to_vec(&(&self.weights_sha256, outside.identity()))
            }
        };
        let content = content.expect("a version has string keys");
        SpaceRef {
            dim: self.dim,
            id: SpaceId::new(self.name.as_str()).ok(),
            fingerprint: Some(match registered {
                Some(space) => space.fingerprint.clone(),
                None => sha256_hex(&content),
            }),
        }
    }

    /// The version's description without its name and hash, as a start for a new draft.
    pub fn draft(&self) -> VersionDraft {
        let version = self.clone();
        VersionDraft {
            dim: version.dim,
            encoder: version.encoder,
            centred: version.centred,
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
        let again = published
            .draft()
            .into_version("v0003".to_owned(), sha256_hex(b"abc"), 3);
        assert_eq!(again, published);
    }
}
