//! How the hits of old and of newly embedded items come into one ranking.

use std::fmt;

use perennial_bridge::Index;
use perennial_eval::{LogisticCalibration, Merge};
use serde::{Deserialize, Serialize};

use crate::recorded_merge::MergeKind;

/// How the curve's hits were merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurveMerge {
    /// What is done to the similarities.
    pub kind: MergeKind,
    /// Whether newly embedded items and their queries are compared as they are, or centred with the mean of the fit set.
    pub new_items: Index,
}

impl fmt::Display for CurveMerge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            MergeKind::Cosines => "cosines",
            MergeKind::ZScores => "z-scores of each query",
            MergeKind::Calibrated => "calibrated cosines",
        })?;
        f.write_str(match self.new_items {
            Index::Raw => ", new items as they are",
            Index::Centred => ", new items centred",
        })
    }
}

/// A merge with what it needs.
pub(super) struct Chosen {
    pub(super) merge: CurveMerge,
    pub(super) calibrations: Vec<LogisticCalibration>,
}

impl Chosen {
    pub(super) fn for_ranking(&self) -> Merge<'_> {
        match self.merge.kind {
            MergeKind::Cosines => Merge::Scores,
            MergeKind::ZScores => Merge::ZNormalised,
            MergeKind::Calibrated => Merge::Calibrated(&self.calibrations),
        }
    }
}
