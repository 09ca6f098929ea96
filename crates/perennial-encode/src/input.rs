//! What is embedded, before and after an encoder has prepared it.

use perennial_core::Modality;
use serde::{Deserialize, Serialize};

use crate::codec::{DecodeLimits, Picture};

/// What a text is. Many text encoders are trained with different words in front of queries and of documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// Something to search for.
    #[serde(alias = "search_query")]
    Query,
    /// Something to be stored and found.
    #[default]
    #[serde(alias = "search_document", alias = "passage")]
    Document,
}

/// One thing to embed.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// An image file as it is on disk or was uploaded.
    Picture {
        /// The file's bytes.
        file: &'a [u8],
        /// What decoding it may cost.
        limits: DecodeLimits,
    },
    /// An image file that is decoded already, by who needed more of it than its embedding.
    Decoded(&'a Picture),
    /// An image in memory, as data sets hold it.
    Pixels {
        /// `[channels, height, width]`, bytes.
        pixels: &'a [u8],
        /// Channels (1 or 3), height and width.
        shape: [usize; 3],
    },
    /// A text.
    Text {
        /// The text.
        text: &'a str,
        /// Query or document.
        input_type: InputType,
    },
}

impl Input<'_> {
    /// Picture or text.
    pub fn modality(&self) -> Modality {
        match self {
            Self::Picture { .. } | Self::Decoded(_) | Self::Pixels { .. } => Modality::Image,
            Self::Text { .. } => Modality::Text,
        }
    }
}

/// An input that an encoder has made ready. It means nothing to any other encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// What the network is given.
    pub values: Values,
}

/// What a network is given for one input.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Normalised pixels, `[channels, height, width]`.
    Pixels(Vec<f32>),
    /// The ids of the tokens, special ones included.
    Tokens(Vec<u32>),
    /// The text, for a service that splits it itself.
    Text(String),
}

impl Prepared {
    /// What this input takes of a batch: 1 for a picture or a text that another service splits, the number of tokens for any other text.
    pub fn cost(&self) -> usize {
        match &self.values {
            Values::Pixels(_) | Values::Text(_) => 1,
            Values::Tokens(tokens) => tokens.len().max(1),
        }
    }
}
