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
    /// What the route's hits gain in the merge, so that no group of queries finds less than before: standard deviations of z-scores, otherwise
    /// similarity in the query's own space. 0 where nothing was needed, and in records of older programs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shift: f64,
    /// Queries that it was chosen on.
    pub queries: u64,
}

fn is_zero(shift: &f64) -> bool {
    *shift == 0.0
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
    /// What brings similarities to the query's own scale, the shift included; nothing where standard scores ranked best, or a record makes no
    /// sense.
    pub fn own_scale(&self) -> Option<LinearScale> {
        let unshifted = match self.kind {
            MergeKind::Cosines => Some(LinearScale::AS_THEY_ARE),
            MergeKind::Calibrated => self.scale,
            MergeKind::ZScores => None,
        };
        let shifted = unshifted.map(|scale| LinearScale {
            intercept: scale.intercept + self.shift,
            ..scale
        });
        shifted.filter(LinearScale::is_sound)
    }

    /// What is added to standard scores: nothing where another merge is recorded, or a record makes no sense.
    pub fn standard_shift(&self) -> f64 {
        let sound = self.kind == MergeKind::ZScores && self.shift.is_finite();
        if sound { self.shift } else { 0.0 }
    }

    /// What the route's hits gain by this merge, on the scale of [`own_scale`](Self::own_scale) or in standard deviations.
    pub fn effective_shift(&self) -> f64 {
        match self.own_scale() {
            Some(_) => self.shift,
            None => self.standard_shift(),
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
            shift: 0.25,
            queries: 60,
        };
        let backwards = LinearScale {
            slope: -1.0,
            intercept: 0.0,
        };
        for scale in [None, Some(backwards)] {
            let merge = record(MergeKind::Calibrated, scale);
            assert_eq!((merge.own_scale(), merge.name()), (None, Z_SCORES));
            // It was measured on another scale.
            assert_eq!(merge.effective_shift(), 0.0);
        }
        let cosines = record(MergeKind::Cosines, None);
        assert_eq!(cosines.name(), "cosines");
        assert_eq!(cosines.own_scale().unwrap().apply(0.5), 0.75);
        assert_eq!(
            (cosines.effective_shift(), cosines.standard_shift()),
            (0.25, 0.0)
        );
        let endless = RecordedMerge {
            shift: f64::INFINITY,
            ..record(MergeKind::ZScores, None)
        };
        assert_eq!(endless.effective_shift(), 0.0);
    }

    #[test]
    fn records_round_trip_and_those_without_a_shift_are_read_and_written_as_before() {
        let older = r#"{"kind":"z-scores","queries":60}"#;
        let read: RecordedMerge = serde_json::from_str(older).unwrap();
        assert_eq!((read.standard_shift(), read.name()), (0.0, Z_SCORES));
        assert_eq!(serde_json::to_string(&read).unwrap(), older);
        let scale = LinearScale {
            slope: 2.0,
            intercept: -0.5,
        };
        for (kind, scale) in [
            (MergeKind::ZScores, None),
            (MergeKind::Cosines, None),
            (MergeKind::Calibrated, Some(scale)),
        ] {
            let merge = RecordedMerge {
                kind,
                scale,
                shift: 0.375,
                queries: 60,
            };
            let text = serde_json::to_string(&merge).unwrap();
            assert_eq!(serde_json::from_str::<RecordedMerge>(&text).unwrap(), merge);
            assert_eq!(merge.effective_shift(), 0.375);
        }
    }
}
