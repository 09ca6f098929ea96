//! The classifier that embeddings were trained with.

use serde::{Deserialize, Serialize};

use crate::vertex_map::VertexEnd;

/// How class scores are computed from embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassifierKind {
    /// Fixed prototypes at the vertices of a simplex.
    Simplex,
    /// A trained linear layer that grows with the classes.
    Linear,
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
