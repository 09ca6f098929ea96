//! What one pass over a set or a folder comes to.

use perennial_core::Embeddings;
use perennial_data::pictures::LeftOut;

/// The result of one pass over a set.
pub struct Embedded {
    pub embeddings: Embeddings,
    pub set_sha256: String,
    /// Of this run.
    pub seconds: f64,
    /// Of a folder: those of them that the model took.
    pub model_seconds: Option<f64>,
    /// Images that an earlier run embedded.
    pub earlier: usize,
    /// Of a folder: the file of each row.
    pub files: Option<Vec<String>>,
    /// Of a folder.
    pub left_out: Option<LeftOut>,
}
