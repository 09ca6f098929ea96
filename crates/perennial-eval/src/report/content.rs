//! The keys of `compatibility.json`.

use serde::{Deserialize, Serialize};

use crate::{
    Bootstrap, CompatibilityMatrix, MetricIntervals, Metrics, PairComparison, ProbeSet,
    RetrievalScores, TieRule,
};

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
    pub(super) pairs: Vec<PairComparison>,
    pub(super) retrieval: Vec<Vec<RetrievalScores>>,
}
