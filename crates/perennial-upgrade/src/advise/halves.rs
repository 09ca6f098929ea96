//! One half of the queries chooses settings, the other half is measured.

use crate::evaluation_data::{EvaluationData, Truth};

/// The evaluation set in two halves.
pub(super) struct Halves {
    pub(super) tuning: EvaluationData,
    pub(super) judging: EvaluationData,
}

/// The truth of a half.
pub(super) fn truth_of(data: &EvaluationData, number: usize) -> &Truth {
    &data.truths[number]
}
