//! What an embedding service is asked for, and what it gives.

use serde::Serialize;

/// How inputs are to be embedded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// Whether embeddings are of unit length (`true`) or as the encoder makes them (`false`); without it, as the service gives them.
    pub normalize: Option<bool>,
    /// Whether inputs that are too long are cut, where the service can.
    pub truncate: Option<bool>,
    /// At which end.
    pub truncation_direction: Option<TruncationDirection>,
}

/// The end at which an input that is too long is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum TruncationDirection {
    /// The beginning is left out.
    Left,
    /// The end is left out.
    Right,
}

/// Embeddings, and what they cost.
#[derive(Debug, Default)]
pub struct Embedded {
    /// `[n, dim]`.
    pub vectors: Vec<f32>,
    /// Tokens of the inputs, where the service counts them.
    pub tokens: u64,
}
