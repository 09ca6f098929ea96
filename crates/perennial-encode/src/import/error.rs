//! Why an encoder cannot be imported.

use std::path::PathBuf;

use thiserror::Error;

use crate::outside_model::LoadModelError;
use crate::presets::PresetError;

/// An encoder that cannot be imported.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A file that cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither a graph nor a table.
    #[error(
        "{} holds no ONNX graph{}; export the encoder to ONNX (docs/encoders.md says how) and give the graph or its folder",
        path.display(), found.as_ref().map(|found| format!(", only {found}")).unwrap_or_default()
    )]
    NoGraph {
        /// The folder.
        path: PathBuf,
        /// A file with weights that was found instead.
        found: Option<String>,
    },
    /// Several graphs, and none is chosen.
    #[error("{} holds several graphs: {}; say which (graph)", path.display(), graphs.join(", "))]
    SeveralGraphs {
        /// The folder.
        path: PathBuf,
        /// The graphs, relative to it.
        graphs: Vec<String>,
    },
    /// Weights of a network, for which no graph says what it computes.
    #[error(
        "{} holds weights and no table of token vectors alone ({problem}); weights do not say what the network computes: export the encoder to \
         ONNX (docs/encoders.md says how)", path.display()
    )]
    WeightsAlone {
        /// The file.
        path: PathBuf,
        /// Why it is no table.
        problem: String,
    },
    /// Something that is neither given nor found.
    #[error("it is not known {what}: nothing is said by {looked}; say it with the option {option}")]
    Needed {
        /// What is not known.
        what: &'static str,
        /// Where it was looked for.
        looked: &'static str,
        /// The option that says it.
        option: &'static str,
    },
    /// An option that does not fit.
    #[error("{option}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What does not fit.
        problem: String,
    },
    /// A configuration file that is no JSON.
    #[error("{} is no JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value of a configuration file that does not fit or is not supported.
    #[error("{}: {key} {problem}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A preparation of pictures that does not fit or is not supported.
    #[error(transparent)]
    Preparation(#[from] PresetError),
    /// The graph, table or tokenizer cannot be used.
    #[error(transparent)]
    Load(#[from] LoadModelError),
    /// A tokenizer that belongs to another encoder, as far as the files say.
    #[error(
        "{} seems to be the tokenizer of another encoder: {problem}; put the encoder's own tokenizer.json there, or name the right one with the option \
         tokenizer, which then counts more than the files beside it", path.display()
    )]
    OtherTokenizer {
        /// The tokenizer.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// Embeddings of the towers have different lengths.
    #[error(
        "pictures have embeddings of {image} values and texts of {text}; towers of one encoder share a space, so choose other outputs or import one tower"
    )]
    Towers {
        /// Values of a picture's embedding.
        image: usize,
        /// Values of a text's.
        text: usize,
    },
    /// The first run failed.
    #[error("the encoder fails on a plain input: {0}")]
    Run(String),
}
