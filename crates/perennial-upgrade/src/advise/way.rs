//! One way to handle an upgrade, measured.

use perennial_bridge::Index;
use serde::{Deserialize, Serialize};

use super::cost::Cost;
use super::way_kind::WayKind;
use crate::finding::Finding;
use crate::measured::Measured;
use crate::route::Route;

/// One way and its quality on the judging half.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Way {
    /// The kind.
    pub kind: WayKind,
    /// In words, such as `dual queries, orthogonal bridge, weight 0.5`.
    pub name: String,
    /// How queries are searched, where one route serves all items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Whether stored embeddings are compared as they are or centred.
    pub index: Index,
    /// The bridge's kind and strength.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// What follows.
    pub finding: Finding,
    /// Why it is not compatible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Every measure.
    pub measures: Vec<Measured>,
    /// What it costs.
    pub cost: Cost,
}

impl Way {
    /// The mean margin of the deciding measures over doing nothing.
    pub fn margin(&self) -> f64 {
        let deciding = self.measures.iter().filter(|one| one.decides);
        let margins: Vec<f64> = deciding.map(|one| one.comparison.margin).collect();
        margins.iter().sum::<f64>() / margins.len().max(1) as f64
    }
}
