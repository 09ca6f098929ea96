//! What an importer may be told.

use std::path::PathBuf;

use perennial_core::{ImagePreparation, Pooling};

use crate::graph_runtime::GraphRuntime;

/// What is said about an encoder, instead of being looked for.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Which graph of a folder, relative to it, such as `onnx/model_quantized.onnx`.
    pub graph: Option<PathBuf>,
    /// The output that is the embedding.
    pub output: Option<String>,
    /// How an output of `[batch, positions, d]` becomes `[batch, d]`.
    pub pooling: Option<Pooling>,
    /// How pictures are prepared.
    pub preparation: Option<PreparationChoice>,
    /// The tokenizer's file.
    pub tokenizer: Option<PathBuf>,
    /// Tokens, special ones included, after which a text is cut.
    pub max_tokens: Option<usize>,
    /// Put in front of queries.
    pub query_prefix: Option<String>,
    /// Put in front of documents.
    pub document_prefix: Option<String>,
    /// What runs the graphs.
    pub runtime: GraphRuntime,
}

/// How pictures are prepared, where no file beside the graph says it.
#[derive(Debug, Clone, PartialEq)]
pub enum PreparationChoice {
    /// A name of [`presets`](crate::presets::NAMES), and the side of the square in pixels where the graph leaves it open.
    Preset(String, Option<usize>),
    /// A configuration file of a model hub.
    File(PathBuf),
    /// All of it.
    Spec(ImagePreparation),
}
