//! Choices that are made on one half of the queries: raw or centred index, kind of bridge, weight of dual queries.

use perennial_bridge::{Bridge, Index};
use perennial_eval::Outcomes;

use super::halves::truth_of;
use crate::evaluation_data::{EvaluationData, Truth};
use crate::measured::{MeasureError, outcomes_of};
use crate::route::{DualEnds, PreparedRef, Route, Search};

/// Shares of the old query that are tried.
const WEIGHTS: [f64; 7] = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875];

/// A dual query's settings.
pub(super) struct Choice {
    /// Position of the bridge.
    pub bridge: usize,
    pub weight: f64,
    pub index: Index,
}

/// The mean of the deciding measures.
fn quality(data: &EvaluationData, truth: &Truth, search: &Search<'_>) -> Result<f64, MeasureError> {
    quality_of(data, truth, search.prepare(data)?.as_ref())
}

fn quality_of(
    data: &EvaluationData,
    truth: &Truth,
    prepared: PreparedRef<'_>,
) -> Result<f64, MeasureError> {
    Ok(mean_of_deciding(
        truth,
        &outcomes_of(data, truth, prepared)?,
    ))
}

/// The mean of those deciding measures that the outcomes have.
pub(super) fn mean_of_deciding(truth: &Truth, found: &Outcomes) -> f64 {
    let task = truth.task();
    let deciding = &task.measures()[..task.deciding()];
    let means = deciding.iter().filter_map(|measure| measure.mean(found));
    let means: Vec<f64> = means.collect();
    means.iter().sum::<f64>() / means.len().max(1) as f64
}

/// Whether bridged queries find more among stored vectors as they are or centred.
pub(super) fn best_index(
    tuning: &EvaluationData,
    number: usize,
    bridge: &Bridge,
) -> Result<Index, MeasureError> {
    let truth = truth_of(tuning, number);
    let of = |index| {
        quality(
            tuning,
            truth,
            &Search::through(bridge, Route::Bridged, index),
        )
    };
    let (raw, centred) = (of(Index::Raw)?, of(Index::Centred)?);
    // Stored vectors stay as they are unless centring helps.
    Ok(if centred > raw {
        Index::Centred
    } else {
        Index::Raw
    })
}

/// The bridge, weight and index with which dual queries find most.
pub(super) fn best_dual(
    tuning: &EvaluationData,
    number: usize,
    bridges: &[Bridge],
) -> Result<Choice, MeasureError> {
    let truth = truth_of(tuning, number);
    let mut best: Option<(f64, Choice)> = None;
    for (position, bridge) in bridges.iter().enumerate() {
        for index in [Index::Raw, Index::Centred] {
            let mut ends = DualEnds::of(tuning, bridge, index)?;
            for weight in WEIGHTS {
                let found = quality_of(tuning, truth, ends.at(weight)?)?;
                if best.as_ref().is_none_or(|(most, _)| found > *most) {
                    let choice = Choice {
                        bridge: position,
                        weight,
                        index,
                    };
                    best = Some((found, choice));
                }
            }
        }
    }
    Ok(best
        .expect("weights and both kinds of index were tried for at least one bridge")
        .1)
}
