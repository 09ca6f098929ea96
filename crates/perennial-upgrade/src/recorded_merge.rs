//! The merge that ranked best when a route was certified, as certificates record it and searches use it.

use perennial_eval::LogisticCalibration;
use serde::{Deserialize, Serialize};

/// What is done to similarities before hits of several spaces are ranked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergeKind {
    /// Cosines as they are.
    Cosines,
    /// Less their mean over the partition's items, divided by their deviation, for each query.
    ZScores,
    /// Log-odds of a right item, by a logistic calibration for each partition.
    Calibrated,
}

/// How hits of a route are ranked together with hits of the query's own space.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedMerge {
    /// The merge that found most.
    pub kind: MergeKind,
    /// What brings similarities of the route to the scale of those in the query's own space; of calibrated merges only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<LinearScale>,
    /// Queries that it was chosen on.
    pub queries: u64,
}

/// A similarity of one space on the scale of another: `slope * similarity + intercept`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearScale {
    /// Above 0.
    pub slope: f64,
    /// At similarity 0.
    pub intercept: f64,
}

impl LinearScale {
    /// Similarities as they are.
    pub const AS_THEY_ARE: Self = Self {
        slope: 1.0,
        intercept: 0.0,
    };

    /// Gives each similarity of one side the similarity of the other that has the same log-odds of a right item. Nothing where one of them does
    /// not rise with the similarity.
    pub fn between(from: &LogisticCalibration, to: &LogisticCalibration) -> Option<Self> {
        let scale = Self {
            slope: from.slope / to.slope,
            intercept: (from.intercept - to.intercept) / to.slope,
        };
        (from.slope > 0.0 && to.slope > 0.0 && scale.is_sound()).then_some(scale)
    }

    /// Whether it keeps the order of similarities.
    pub fn is_sound(&self) -> bool {
        self.slope.is_finite() && self.slope > 0.0 && self.intercept.is_finite()
    }

    /// A similarity on the other scale.
    pub fn apply(&self, similarity: f32) -> f64 {
        self.slope * f64::from(similarity) + self.intercept
    }
}

impl RecordedMerge {
    /// What brings similarities to the query's own scale; nothing where standard scores ranked best, or a record makes no sense.
    pub fn own_scale(&self) -> Option<LinearScale> {
        match self.kind {
            MergeKind::Cosines => Some(LinearScale::AS_THEY_ARE),
            MergeKind::Calibrated => self.scale.filter(LinearScale::is_sound),
            MergeKind::ZScores => None,
        }
    }

    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self.own_scale() {
            None => Z_SCORES,
            Some(_) if self.kind == MergeKind::Cosines => "cosines",
            Some(_) => "calibrated",
        }
    }
}

/// The merge where nothing better was measured.
pub(crate) const Z_SCORES: &str = "z_scores";

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration(slope: f64, intercept: f64) -> LogisticCalibration {
        LogisticCalibration {
            slope,
            intercept,
            log_loss: 0.1,
        }
    }

    #[test]
    fn equal_log_odds_become_equal_similarities() {
        let (from, to) = (calibration(10.0, -5.0), calibration(20.0, -16.0));
        let scale = LinearScale::between(&from, &to).unwrap();
        for similarity in [0.2f32, 0.5, 0.9] {
            let log_odds = 10.0 * f64::from(similarity) - 5.0;
            let other = scale.apply(similarity);
            assert!((20.0 * other - 16.0 - log_odds).abs() < 1e-9);
        }
        for (from, to) in [(-1.0, 1.0), (1.0, -1.0), (1.0, 0.0), (f64::NAN, 1.0)] {
            let sides = [calibration(from, 0.0), calibration(to, 0.0)];
            assert_eq!(LinearScale::between(&sides[0], &sides[1]), None);
        }
    }

    #[test]
    fn a_record_without_sense_falls_back_to_standard_scores() {
        let record = |kind, scale| RecordedMerge {
            kind,
            scale,
            queries: 60,
        };
        let backwards = LinearScale {
            slope: -1.0,
            intercept: 0.0,
        };
        for scale in [None, Some(backwards)] {
            let merge = record(MergeKind::Calibrated, scale);
            assert_eq!((merge.own_scale(), merge.name()), (None, Z_SCORES));
        }
        let cosines = record(MergeKind::Cosines, None);
        assert_eq!(cosines.name(), "cosines");
        assert_eq!(cosines.own_scale().unwrap().apply(0.5), 0.5);
    }
}
