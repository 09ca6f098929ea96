//! The quality that a certificate lets expect of a route: absolute figures, beside the margin that decides.

use std::fmt;

use perennial_core::{CompatibilityRecord, ConfidenceInterval, Interval};

use crate::certificate::TaskResult;
use crate::measured::Measured;

/// One measure of the items that a route leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedQuality {
    /// The measure, such as `recall@1`.
    pub measure: String,
    /// What was measured on the evaluation set, a fraction.
    pub value: f64,
    /// Its bootstrap interval; none in certificates and compatibility records of programs that did not compute it.
    pub interval: Option<Interval>,
    /// The interval's confidence, a fraction.
    pub confidence: f64,
}

impl ExpectedQuality {
    /// Of queries by the certified route.
    pub(crate) fn of_route(result: &TaskResult, confidence: f64) -> Vec<Self> {
        let measures = result.measures.iter();
        let of = |one: &Measured| Self {
            measure: one.comparison.measure.to_string(),
            value: one.comparison.new,
            interval: ConfidenceInterval::at(&one.new_intervals, confidence),
            confidence,
        };
        measures.map(of).collect()
    }

    /// Of the new encoder's queries on its own items.
    pub(crate) fn of_new_self(result: &TaskResult, confidence: f64) -> Vec<Self> {
        let measures = result.measures.iter();
        let of = |one: &Measured| {
            Some(Self {
                measure: one.comparison.measure.to_string(),
                value: one.new_self_test?,
                interval: ConfidenceInterval::at(&one.new_self_intervals, confidence),
                confidence,
            })
        };
        measures.filter_map(of).collect()
    }

    /// Of route own by a compatibility record.
    pub(crate) fn of_record(record: &CompatibilityRecord, confidence: f64) -> Vec<Self> {
        vec![Self {
            measure: "ncm".to_owned(),
            value: record.cross_test,
            interval: record.cross_test_interval_at(confidence),
            confidence,
        }]
    }
}

impl fmt::Display for ExpectedQuality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.4}", self.measure, self.value)?;
        match self.interval {
            Some(Interval { low, high }) => write!(f, " [{low:.4}, {high:.4}]"),
            None => Ok(()),
        }
    }
}
