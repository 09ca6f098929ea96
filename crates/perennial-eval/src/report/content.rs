//! The keys of `compatibility.json`.

use serde::{Deserialize, Serialize};

use crate::{
    Bootstrap, CompatibilityMatrix, MetricIntervals, Metrics, PairComparison, ProbeSet,
    RetrievalScores, TieRule,
};

/// Images of which a version has no embedding, because its network's output for them is all zeros. Queries without one count as missed,
/// gallery images without one as never found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Queries.
    pub queries: usize,
    /// Gallery images.
    pub gallery: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) schema_version: u32,
    pub(super) versions: Vec<String>,
    pub(super) queries: ProbeSet,
    pub(super) gallery: ProbeSet,
    pub(super) tie_rule: TieRule,
    pub(super) bootstrap: Bootstrap,
    pub(super) matrix: CompatibilityMatrix,
    pub(super) metrics: Metrics,
    /// Absent in reports of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metric_intervals: Option<MetricIntervals>,
    /// One for each version; absent where all have an embedding of every image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) without_embedding: Vec<Missing>,
    pub(super) pairs: Vec<PairComparison>,
    pub(super) retrieval: Vec<Vec<RetrievalScores>>,
}
