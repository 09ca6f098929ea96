//! How the hits of old and of newly embedded items come into one ranking.

use std::fmt;

use perennial_bridge::Index;
use perennial_eval::{LogisticCalibration, Merge, ShiftedMerge};
use serde::{Deserialize, Serialize};

use crate::recorded_merge::{LinearScale, MergeKind, RecordedMerge};

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
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) merge: CurveMerge,
    /// Of the items that stay old, and of those that are embedded again.
    pub(super) calibrations: Vec<LogisticCalibration>,
    /// What old items gain: standard deviations of z-scores, otherwise similarity in the new space.
    pub(super) shift: f64,
}

impl Chosen {
    /// Without a shift.
    pub(super) fn plain(merge: CurveMerge, calibrations: Vec<LogisticCalibration>) -> Self {
        Self {
            merge,
            calibrations,
            shift: 0.0,
        }
    }

    /// As certificates record it.
    pub(super) fn recorded(&self, queries: u64) -> RecordedMerge {
        RecordedMerge {
            kind: self.merge.kind,
            scale: match self.calibrations.as_slice() {
                [old, new] => LinearScale::between(old, new),
                _ => None,
            },
            shift: self.shift,
            queries,
        }
    }

    /// What each part gains on the scale of the ranking.
    pub(super) fn ranking_shifts(&self) -> [f64; 2] {
        let old = match (self.merge.kind, self.calibrations.get(1)) {
            // Log-odds.
            (MergeKind::Calibrated, Some(new)) => self.shift * new.slope,
            _ => self.shift,
        };
        [old, 0.0]
    }

    /// With its own [`ranking_shifts`](Self::ranking_shifts).
    pub(super) fn for_ranking<'a>(&'a self, shifts: &'a [f64]) -> ShiftedMerge<'a> {
        let merge = match self.merge.kind {
            MergeKind::Cosines => Merge::Scores,
            MergeKind::ZScores => Merge::ZNormalised,
            MergeKind::Calibrated => Merge::Calibrated(&self.calibrations),
        };
        ShiftedMerge { merge, shifts }
    }
}

#[cfg(test)]
mod tests;
