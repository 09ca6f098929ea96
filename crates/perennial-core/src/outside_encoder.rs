//! Encoders of other programs: what `model.toml` says about them.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::checksum::sha256_hex;
use crate::classifier::Classifier;
use crate::endpoint::{Endpoint, EndpointSpace};
use crate::space::Modality;

/// The file of a version that holds the embeddings of fixed inputs, as they were at its import.
pub const CANARY_FILE: &str = "canaries.safetensors";

/// The file of a version that holds the weights of its linear layer; see [`EncoderHead`].
pub const HEAD_FILE: &str = "head.safetensors";
/// The tensor of [`HEAD_FILE`], named like the embedding layer of a network that was trained here.
pub const HEAD_TENSOR: &str = "fc1.weight";

/// The largest height or width of a network's input, in pixels.
pub const MAX_INPUT_SIDE: usize = 4096;
/// The largest number of pixels to which the shorter side of a picture may be scaled.
pub const MAX_SHORTEST_SIDE: usize = 16_384;

/// How a version without a network of our own computes embeddings: the `[encoder]` table of `model.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideEncoder {
    /// What runs it.
    pub kind: EncoderKind,
    /// How pictures are embedded, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageTower>,
    /// How texts are embedded, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextTower>,
    /// The linear layer behind the towers, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Box<EncoderHead>>,
    /// The embedding service that embeds texts, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Box<Endpoint>>,
    /// All files that it needs, in the version's folder.
    pub files: Vec<EncoderFile>,
}

impl OutsideEncoder {
    /// What it embeds.
    pub fn accepts(&self) -> &'static [Modality] {
        if self.endpoint.is_some() {
            return &[Modality::Text];
        }
        match (&self.image, &self.text) {
            (Some(_), Some(_)) => &[Modality::Image, Modality::Text],
            (Some(_), None) => &[Modality::Image],
            (None, Some(_)) => &[Modality::Text],
            (None, None) => &[],
        }
    }

    /// The SHA-256 of the list of files, which stands for all of their contents: of one line `NAME SHA256 BYTES` for each file, in the order
    /// of the names, each with a line feed at its end. Without [`CANARY_FILE`]: what was measured at an import is not what embeddings depend on,
    /// so a second import of the same files is the same encoder. Of an embedding service nothing else is known than what it answered, so there
    /// the canaries count.
    pub fn files_sha256(&self) -> String {
        let mut files: Vec<&EncoderFile> = self.identifying_files().collect();
        files.sort_by_key(|file| &file.name);
        let mut list = String::new();
        for file in files {
            writeln!(list, "{} {} {}", file.name, file.sha256, file.bytes)
                .expect("writing to a String cannot fail");
        }
        sha256_hex(list.as_bytes())
    }

    /// The space of an outside encoder that its embeddings are of.
    pub(crate) fn registered_space(&self) -> Option<&EndpointSpace> {
        self.endpoint.as_ref()?.space.as_ref()
    }

    /// The files by which the encoder is told from others.
    fn identifying_files(&self) -> impl Iterator<Item = &EncoderFile> {
        let all = self.endpoint.is_some();
        let files = self.files.iter();
        files.filter(move |file| all || file.name != CANARY_FILE)
    }

    /// The same encoder, described by what its embeddings depend on.
    pub(crate) fn identity(&self) -> Self {
        Self {
            endpoint: self
                .endpoint
                .as_ref()
                .map(|endpoint| Box::new(endpoint.identity())),
            files: self.identifying_files().cloned().collect(),
            ..self.clone()
        }
    }

    /// The sizes of all files together, in bytes.
    pub fn files_bytes(&self) -> u64 {
        let sizes = self.files.iter().map(|file| file.bytes);
        sizes.fold(0, u64::saturating_add)
    }

    /// Whether both are given the same values for the same picture or text.
    pub(crate) fn prepares_like(&self, other: &Self) -> bool {
        if self.endpoint.is_some() || other.endpoint.is_some() {
            let prefixes = |encoder: &Self| {
                let endpoint = encoder.endpoint.as_ref()?;
                Some((
                    endpoint.query_prefix.clone(),
                    endpoint.document_prefix.clone(),
                ))
            };
            return prefixes(self) == prefixes(other);
        }
        let picture = |encoder: &Self| {
            let tower = encoder.image.as_ref();
            tower.map(|tower| tower.preparation.clone())
        };
        let text = |encoder: &Self| {
            let tower = encoder.text.as_ref()?;
            let mut files = encoder.files.iter();
            let tokenizer = files.find(|file| file.name == tower.tokenizer)?;
            Some((
                tokenizer.sha256.clone(),
                tower.max_tokens,
                tower.query_prefix.clone(),
                tower.document_prefix.clone(),
            ))
        };
        picture(self) == picture(other) && text(self) == text(other)
    }
}

/// A linear layer without bias behind an encoder of another program: it brings embeddings into another space, such as that of a simplex.
///
/// A row `e` that the graph or table gives becomes `unit(W unit(e))`. For lack of a bias this is `unit(W e)`, so a layer that was fitted on
/// embeddings of unit length is the same behind the graph's own output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderHead {
    /// The file of the weights, one of the encoder's files: safetensors with the one tensor [`HEAD_TENSOR`], f32 of `[dim, inputs]`.
    pub file: String,
    /// The length of a row that the graph or table gives.
    pub inputs: usize,
    /// The classifier that the layer was trained with.
    pub classifier: Classifier,
}

/// What runs an outside encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderKind {
    /// An ONNX graph.
    Onnx,
    /// A table of token vectors, averaged.
    TokenTable,
    /// An embedding service that is asked over HTTP.
    Endpoint,
}

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderFile {
    /// Its name in the version's folder, without separators.
    pub name: String,
    /// SHA-256 of its content, in hexadecimal.
    pub sha256: String,
    /// Its size, in bytes.
    pub bytes: u64,
}

/// The graph of one tower and which of its outputs is the embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// The file of the graph or of the table, one of the encoder's files.
    pub file: String,
    /// The output, or the tensor of a table.
    pub output: String,
    /// How an output of `[batch, positions, d]` becomes `[batch, d]`.
    #[serde(default)]
    pub pooling: Pooling,
}

/// From one vector a position to one vector an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The output is `[batch, d]` already, or `[batch, d, 1, 1]`.
    #[default]
    None,
    /// The mean over the positions that are not padding; over height and width for `[batch, d, h, w]`.
    Mean,
    /// The first position.
    Cls,
    /// The last position that is not padding.
    LastToken,
}

/// Pictures: how they are prepared, and the graph that embeds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTower {
    /// The graph.
    pub graph: Graph,
    /// The preparation.
    pub preparation: ImagePreparation,
}

/// From a decoded picture to the network's input: resize, crop the middle, scale, normalise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePreparation {
    /// Height and width of the network's input, in pixels.
    pub size: [usize; 2],
    /// How a picture gets to that size.
    pub resize: Resize,
    /// How pixels in between are computed.
    pub interpolation: Interpolation,
    /// Order and number of channels.
    pub channels: ChannelOrder,
    /// A byte is multiplied by this first; 1/255 (0.00392156862745098) brings it to 0 to 1.
    pub scale: f64,
    /// Subtracted per channel, after `scale`, in the order of `channels`.
    pub mean: Vec<f32>,
    /// Divided by, per channel, after `mean`.
    pub std: Vec<f32>,
}

/// How a picture gets to the size of a network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resize {
    /// The shorter side is scaled to so many pixels, the other in proportion, and the middle is cut out (torchvision, timm, CLIP).
    ShortestSide(usize),
    /// Both sides are scaled to the size, whatever the proportions.
    Exact,
    /// The largest square in the middle is cut out and scaled (networks that were trained here).
    MiddleSquare,
}

/// How pixels in between are computed when a picture is scaled; all of them antialiased, as Pillow does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Area mean (Pillow's BOX).
    Box,
    /// Linear.
    Bilinear,
    /// Cubic (a = -0.5).
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos,
}

/// Order and number of a network's input channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Brightness alone.
    Grey,
}

impl ChannelOrder {
    /// The number of channels.
    pub fn count(self) -> usize {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// Texts: how they are prepared, and the graph or table that embeds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextTower {
    /// The graph or table.
    pub graph: Graph,
    /// The tokenizer's file (`tokenizer.json`), one of the encoder's files.
    pub tokenizer: String,
    /// Tokens, special ones included, after which a text is cut.
    pub max_tokens: usize,
    /// Put in front of queries.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query_prefix: String,
    /// Put in front of documents.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub document_prefix: String,
}
