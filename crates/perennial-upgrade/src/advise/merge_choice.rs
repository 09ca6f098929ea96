//! The merge that ranks best where part of the gallery is embedded again.

use perennial_bridge::Index;
use perennial_core::dot;
use perennial_eval::{LogisticCalibration, Requirements};

use super::halves::split;
use super::merging::{Chosen, CurveMerge};
use super::order::{evenly_drawn, order};
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
/// Old items fill at least this part of their share of the gallery among the first hits where they are evenly drawn; below, they are hidden.
const LEAST_OF_OLD: f64 = 0.5;
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

/// The merge of a route's hits with those of the new encoder's own queries that serves every aim, for a certificate: galleries compare vectors as
/// they are. Half of the queries choose, as in advice. Nothing where the route has no partition of its own, the new encoder has not embedded the
/// gallery, or there are too few queries to choose on.
///
/// Whoever is served does not say whether a class or a single item is wanted, nor which items are embedded again. So the merges are compared for each
/// task that the evaluation set measures, with a quarter and with three quarters of the gallery embedded again, what is retrieved often first as well
/// as evenly drawn, and what counts is a merge's largest loss against the best of them. A merge that hides old items is none: class-like figures
/// do not show that their single items are not found any more. Standard scores, which need no labels, stay unless another loses less.
///
/// # Errors
/// Vectors that cannot be compared.
pub(crate) fn best_merge(
    data: &EvaluationData,
    search: &Search<'_>,
    seed: u64,
) -> Result<Option<RecordedMerge>, MeasureError> {
    let apart = match search.route {
        Route::Own => false,
        Route::Bridged | Route::Dual { .. } => search.index == Index::Raw,
        // Mapped vectors are centred in their own index.
        Route::Mapped => true,
    };
    let enough = data.queries() >= 2 * Requirements::default().queries;
    if !(apart && enough && data.new_gallery.is_some()) {
        return Ok(None);
    }
    let [choosing, _] = split(data.queries(), seed);
    let choosing = data.with_queries(&choosing);
    let retrieved = order(&choosing, search)?;
    let drawn = evenly_drawn(choosing.old_gallery.len(), seed);
    let mut sides = Vec::with_capacity(choosing.truths.len());
    for number in 0..choosing.truths.len() {
        sides.extend(Sides::of(&choosing, number, search)?);
    }
    let Some(first) = sides.first() else {
        return Ok(None);
    };
    let mut tried = Vec::new();
    for candidate in served_candidates(first, &sides) {
        tried.extend(tried_on(candidate, &sides, &retrieved, &drawn)?);
    }
    let chosen = smallest_largest_loss(tried);
    let scale = match chosen.calibrations.as_slice() {
        [old, new] => LinearScale::between(old, new),
        _ => None,
    };
    Ok(Some(RecordedMerge {
        kind: chosen.merge.kind,
        scale,
        queries: choosing.queries() as u64,
    }))
}

/// A merge and what it finds in every case that it was tried in.
struct Tried {
    chosen: Chosen,
    found: Vec<f64>,
}

/// Nothing for a merge that hides old items, unless it is by standard scores, which searches fall back to. Whether it does is seen where those
/// that are embedded again are evenly drawn: what is retrieved seldom and so is left old is not among the first hits of any merge.
fn tried_on(
    chosen: Chosen,
    sides: &[Sides<'_>],
    retrieved: &[usize],
    drawn: &[usize],
) -> Result<Option<Tried>, MeasureError> {
    let mut found = Vec::new();
    for sides in sides {
        for (order, even) in [(retrieved, false), (drawn, true)] {
            for split in TRIED_SHARES.iter().filter_map(|&share| parts(order, share)) {
                let outcomes = sides.merged(&chosen, split)?;
                let there = split[0].len() as f64 / order.len() as f64;
                let hidden = even && outcomes.share_of_first[0] < LEAST_OF_OLD * there;
                if hidden && chosen.merge.kind != MergeKind::ZScores {
                    return Ok(None);
                }
                found.push(mean_of_deciding(sides.truth, &outcomes.all));
            }
        }
    }
    Ok(Some(Tried { chosen, found }))
}

/// The merge whose largest loss against the best of all is smallest; of equal ones the first.
fn smallest_largest_loss(tried: Vec<Tried>) -> Chosen {
    let cases = tried.first().map_or(0, |one| one.found.len());
    let best: Vec<f64> = (0..cases)
        .map(|case| {
            let found = tried.iter().map(|one| one.found[case]);
            found.fold(f64::NEG_INFINITY, f64::max)
        })
        .collect();
    let loss = |one: &Tried| {
        let losses = best
            .iter()
            .zip(&one.found)
            .map(|(best, found)| best - found);
        losses.fold(0.0, f64::max)
    };
    let chosen = tried
        .into_iter()
        .map(|one| (loss(&one), one.chosen))
        .min_by(|one, other| one.0.total_cmp(&other.0));
    chosen.expect("standard scores are always tried").1
}

/// Standard scores first. Calibrations are fitted for each task, and only those that a search can carry over are tried.
fn served_candidates(first: &Sides<'_>, sides: &[Sides<'_>]) -> Vec<Chosen> {
    let candidate = |kind, calibrations| Chosen {
        merge: CurveMerge {
            kind,
            new_items: Index::Raw,
        },
        calibrations,
    };
    let mut candidates = vec![
        candidate(MergeKind::ZScores, Vec::new()),
        candidate(MergeKind::Cosines, Vec::new()),
    ];
    // The vectors of every task are the same.
    let (old, new) = (&first.old, first.new_side(Index::Raw));
    for sides in sides {
        let fitted = calibration(sides, old).zip(calibration(sides, new));
        if let Some((old, new)) = fitted
            && LinearScale::between(&old, &new).is_some()
        {
            candidates.push(candidate(MergeKind::Calibrated, vec![old, new]));
        }
    }
    candidates
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

    fn tried(kind: MergeKind, found: &[f64]) -> Tried {
        Tried {
            chosen: Chosen {
                merge: CurveMerge {
                    kind,
                    new_items: Index::Raw,
                },
                calibrations: Vec::new(),
            },
            found: found.to_vec(),
        }
    }

    #[test]
    fn what_is_good_for_classes_alone_is_not_recorded() {
        let chosen = |cosines: &[f64], calibrated: &[f64]| {
            let all = vec![
                tried(MergeKind::ZScores, &[0.30, 0.23]),
                tried(MergeKind::Cosines, cosines),
                tried(MergeKind::Calibrated, calibrated),
            ];
            smallest_largest_loss(all).merge.kind
        };
        // Classes first, single items second.
        assert_eq!(chosen(&[0.29, 0.22], &[0.31, 0.13]), MergeKind::ZScores);
        assert_eq!(chosen(&[0.31, 0.23], &[0.31, 0.13]), MergeKind::Cosines);
        assert_eq!(chosen(&[0.30, 0.23], &[0.30, 0.23]), MergeKind::ZScores);
    }

    #[test]
    fn merges_that_hide_old_items_are_left_out() {
        let search = Search::own();
        let drawn = evenly_drawn(30, 0);
        let kinds = |offset: f32| {
            let data = data(offset);
            let sides = vec![Sides::of(&data, 0, &search).unwrap().unwrap()];
            // What is left old is what no query finds, and that is no fault of a merge.
            let retrieved = order(&data, &search).unwrap();
            let mut kinds = Vec::new();
            for candidate in served_candidates(&sides[0], &sides) {
                let found = tried_on(candidate, &sides, &retrieved, &drawn).unwrap();
                kinds.extend(found.map(|tried| tried.chosen.merge.kind));
            }
            kinds
        };
        // All cosines of new items are higher than those of old ones.
        assert!(!kinds(4.0).contains(&MergeKind::Cosines));
        assert!(kinds(4.0).contains(&MergeKind::ZScores));
        assert!(kinds(0.0).contains(&MergeKind::Cosines));
    }
}
