//! Images of which a version has no embedding, counted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Images of which a version has no embedding, since its network's output for them is all zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithoutEmbedding {
    /// The version.
    pub version: String,
    /// Queries, which count as missed.
    pub queries: usize,
    /// Gallery images, which count as never found.
    pub gallery: usize,
    /// Images to fit on, which are left out.
    pub fit: usize,
}

impl fmt::Display for WithoutEmbedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            queries,
            gallery,
            fit,
        } = self;
        write!(
            f,
            "{version} has no embedding (all zeros) of {queries} queries and {gallery} gallery images, which count as missed and never found, and              of {fit} images to fit on, which are left out"
        )
    }
}
