//! The merge that ranks best where part of the gallery is embedded again.

use perennial_bridge::Index;
use perennial_core::dot;
use perennial_eval::{LogisticCalibration, Requirements};

use super::halves::split;
use super::merging::{Chosen, CurveMerge};
use super::order::order;
use super::sides::{Sides, parts};
use super::tuning::mean_of_deciding;
use crate::evaluation_data::EvaluationData;
use crate::measured::MeasureError;
use crate::recorded_merge::{LinearScale, MergeKind, RecordedMerge};
use crate::route::{Prepared, Route, Search};

/// How newly embedded items can be compared.
pub(super) const BOTH: [Index; 2] = [Index::Raw, Index::Centred];
/// Shares embedded again at which the merges are compared.
const TRIED_SHARES: [f64; 2] = [0.25, 0.75];
/// Right and other items of one query, at most, that a calibration is fitted on.
const CALIBRATED: [usize; 2] = [32, 128];

/// The merge with which the choosing queries find most, with a quarter and with three quarters of the gallery embedded again.
///
/// Items are embedded again in an order that prefers those that are retrieved often, so the new partition is not like the old one: z-scores,
/// which are taken over each partition, then lower what is best. That is why the choice is measured.
///
/// `new_items` says how newly embedded items may be compared.
pub(super) fn choose(
    tuning: &Sides<'_>,
    order: &[usize],
    new_items: &[Index],
) -> Result<Chosen, MeasureError> {
    let mut best: Option<(f64, Chosen)> = None;
    for candidate in candidates(tuning, new_items) {
        let mut quality = 0.0;
        for split in TRIED_SHARES.iter().filter_map(|&share| parts(order, share)) {
            let found = tuning.merged(&candidate, split)?;
            quality += mean_of_deciding(tuning.truth, &found.all);
        }
        if best.as_ref().is_none_or(|(most, _)| quality > *most) {
            best = Some((quality, candidate));
        }
    }
    Ok(best.expect("cosines as they are need nothing").1)
}

/// The merge of a route's hits with those of the new encoder's own queries that finds most, for a certificate: galleries compare vectors as they
/// are. Half of the queries choose, as in advice. Nothing where the route has no partition of its own, the new encoder has not embedded the
/// gallery, or there are too few queries to choose on.
///
/// # Errors
/// Vectors that cannot be compared.
pub(crate) fn best_merge(
    data: &EvaluationData,
    number: usize,
    search: &Search<'_>,
    seed: u64,
) -> Result<Option<RecordedMerge>, MeasureError> {
    let apart = matches!(search.route, Route::Bridged | Route::Dual { .. });
    let enough = data.queries() >= 2 * Requirements::default().queries;
    if !(apart && enough && search.index == Index::Raw && data.new_gallery.is_some()) {
        return Ok(None);
    }
    let [choosing, _] = split(data.queries(), seed);
    let choosing = data.with_queries(&choosing);
    let order = order(&choosing, search)?;
    let Some(sides) = Sides::of(&choosing, number, search)? else {
        return Ok(None);
    };
    let chosen = choose(&sides, &order, &[Index::Raw])?;
    let scale = match chosen.calibrations.as_slice() {
        [old, new] => LinearScale::between(old, new),
        _ => None,
    };
    let record = RecordedMerge {
        kind: chosen.merge.kind,
        scale,
        queries: choosing.queries() as u64,
    };
    // A calibration that does not rise with the similarity cannot be carried over.
    let usable = record.kind != MergeKind::Calibrated || scale.is_some();
    Ok(usable.then_some(record))
}

fn candidates(tuning: &Sides<'_>, new_items: &[Index]) -> Vec<Chosen> {
    let mut candidates = Vec::new();
    let old = calibration(tuning, &tuning.old);
    for &new_items in new_items {
        let candidate = |kind, calibrations| Chosen {
            merge: CurveMerge { kind, new_items },
            calibrations,
        };
        candidates.push(candidate(MergeKind::Cosines, Vec::new()));
        candidates.push(candidate(MergeKind::ZScores, Vec::new()));
        // Without a calibration of both sides, such as where right items are always the most similar ones, there is nothing to try.
        if let (Some(old), Some(new)) = (old, calibration(tuning, tuning.new_side(new_items))) {
            candidates.push(candidate(MergeKind::Calibrated, vec![old, new]));
        }
    }
    candidates
}

/// Fitted on the same queries and items for every side, so that their log-odds mean the same.
fn calibration(tuning: &Sides<'_>, prepared: &Prepared) -> Option<LogisticCalibration> {
    let Prepared {
        queries,
        gallery,
        dim,
    } = prepared;
    let items = gallery.len() / dim;
    let (mut scores, mut marks) = (Vec::new(), Vec::new());
    for (query, vector) in queries.chunks_exact(*dim).enumerate() {
        let own = tuning.data.own.as_ref().and_then(|own| own[query]);
        let usable = |item: &usize| own != Some(*item as u32);
        let right = tuning.truth.relevant_items(query, items);
        let step = items.div_ceil(CALIBRATED[1]).max(1);
        // Another start for each query, so that all items take part.
        let others = (query % step..items).step_by(step);
        let others = others.filter(|&item| !tuning.truth.is_relevant(query, item));
        let right = right.filter(usable).take(CALIBRATED[0]);
        for (item, mark) in right
            .map(|item| (item, true))
            .chain(others.filter(usable).map(|item| (item, false)))
        {
            scores.push(dot(vector, &gallery[item * dim..][..*dim]));
            marks.push(mark);
        }
    }
    LogisticCalibration::fit(&scores, &marks).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation_data::{Names, Rows, Truth};
    use perennial_core::SpaceRef;

    /// Two classes on an arc: all cosines of the new encoder are high, since its vectors share a large part.
    fn data(offset: f32) -> EvaluationData {
        let rows = |count: usize, shared: f32, turn: f32| Rows {
            values: (0..count)
                .flat_map(|row| {
                    let angle = turn + (row % 2) as f32 * 1.5 + (row as f32 * 0.37).sin() * 0.6;
                    [angle.cos(), angle.sin(), shared]
                })
                .collect(),
            dim: 3,
            space: SpaceRef::unnamed(3),
        };
        let classes = |count: usize| (0..count).map(|row| (row % 2) as u32).collect();
        EvaluationData {
            old_queries: rows(40, 0.0, 0.0),
            old_gallery: rows(30, 0.0, 0.0),
            new_queries: rows(40, offset, 0.0),
            new_gallery: Some(rows(30, offset, 0.0)),
            truths: vec![Truth::Classes {
                queries: classes(40),
                gallery: classes(30),
            }],
            own: None,
            names: Names::default(),
        }
    }

    #[test]
    fn cosines_of_unlike_spaces_are_not_merged_as_they_are() {
        let order: Vec<usize> = (0..30).collect();
        let search = Search::own();
        let chosen = |offset| {
            let data = data(offset);
            let sides = Sides::of(&data, 0, &search).unwrap().unwrap();
            choose(&sides, &order, &BOTH).unwrap().merge
        };
        // New items, whose cosines are all close to 1, would stand before every old one.
        assert_ne!(chosen(4.0).kind, MergeKind::Cosines);
        // Of equal merges the simplest is taken.
        let equal = chosen(0.0);
        assert_eq!(
            (equal.kind, equal.new_items),
            (MergeKind::Cosines, Index::Raw)
        );
    }
}
