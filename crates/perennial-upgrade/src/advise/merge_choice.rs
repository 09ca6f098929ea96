//! The merge that ranks best where part of the gallery is embedded again.

use perennial_bridge::Index;
use perennial_core::dot;
use perennial_eval::{LogisticCalibration, Requirements};

use super::group_figures::group_figures;
use super::halves::split;
use super::handicap::{
    Below, Case, MeasuredBefore, NOISE, cases, has_groups, measured_before, smallest_enough,
    usual_spread,
};
use super::merging::{Chosen, CurveMerge};
use super::order::{evenly_drawn, order};
use super::sides::{Sides, TRIED_SHARES, parts};
use super::tuning::mean_of_deciding;
use crate::answer_group::AnswerGroup;
use crate::evaluation_data::EvaluationData;
use crate::measured::{Demands, MeasureError};
use crate::recorded_merge::{LinearScale, MergeKind, RecordedMerge};
use crate::route::{Prepared, Route, Search};

/// How newly embedded items can be compared.
pub(super) const BOTH: [Index; 2] = [Index::Raw, Index::Centred];
/// Old items fill at least this part of their share of the gallery among the first hits where they are evenly drawn; below, they are hidden.
const LEAST_OF_OLD: f64 = 0.5;
/// Right and other items of one query, at most, that a calibration is fitted on.
const CALIBRATED: [usize; 2] = [32, 128];

/// The merge with which the choosing queries find most, with a quarter and with three quarters of the gallery embedded again.
///
/// Items are embedded again in an order that prefers those that are retrieved often, so the new partition is not like the old one: z-scores,
/// which are taken over each partition, then lower what is best. That is why the choice is measured.
///
/// No merge is shifted here: advice says what all queries of one kind find, and a shift trades some of that for the queries whose answers are old.
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
/// as evenly drawn.
///
/// First, no group of queries shall find less than the old encoder did: see [`Below`]. Of merges that fall short, the smallest shift with which they
/// do not is tried beside them ([`smallest_enough`]). Where one merge or another serves all groups, only such merges are left; where none does, the
/// route itself loses what they look for, and merges are compared unshifted.
///
/// What counts then is a merge's largest loss against the best of them. A merge that hides old items is none: class-like figures do not show that
/// their single items are not found any more. Standard scores, which need no labels, stay unless another loses less.
///
/// # Errors
/// Vectors that cannot be compared.
pub(crate) fn best_merge(
    data: &EvaluationData,
    search: &Search<'_>,
    demands: &Demands,
) -> Result<Option<ServedMerge>, MeasureError> {
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
    let seed = demands.bootstrap.seed;
    let [choosing, judging] = split(data.queries(), seed);
    let choosing = data.with_queries(&choosing);
    let retrieved = order(&choosing, search)?;
    let drawn = evenly_drawn(choosing.old_gallery.len(), seed);
    let tasks = measured_before(&choosing, search)?;
    let Some(first) = tasks.first() else {
        return Ok(None);
    };
    let cases = cases(&tasks, &retrieved, &drawn);
    let plain = try_all(served_candidates(&first.sides, &tasks), &cases)?;
    let unit = usual_spread(first.sides.new_side(Index::Raw))?;
    let mut shifted = Vec::new();
    for one in &plain {
        shifted.extend(smallest_enough(&one.chosen, one.below, unit, &cases)?);
    }
    let grouped: Vec<bool> = tasks
        .iter()
        .map(|task| has_groups(task, &drawn))
        .collect::<Result<_, _>>()?;
    let chosen = fairest(plain, try_all(shifted, &cases)?);
    let groups = group_figures(data, &judging, search, &chosen, &grouped, demands)?;
    Ok(Some(ServedMerge {
        merge: chosen.recorded(choosing.queries() as u64),
        groups,
    }))
}

/// The merge that a certificate records, and what it does.
pub(crate) struct ServedMerge {
    pub(crate) merge: RecordedMerge,
    /// For each task of the evaluation set.
    pub(crate) groups: Vec<Vec<AnswerGroup>>,
}

/// A merge and what it finds in every case that it was tried in.
struct Tried {
    chosen: Chosen,
    found: Vec<f64>,
    below: Below,
    /// Whether old items are seldom among the first hits. It is seen where those that are embedded again are evenly drawn: what is retrieved seldom
    /// and so is left old is not among the first hits of any merge.
    hides: bool,
}

/// Tries merges in all cases.
fn try_all(merges: Vec<Chosen>, cases: &[Case<'_>]) -> Result<Vec<Tried>, MeasureError> {
    let start = |chosen| Tried {
        chosen,
        found: Vec::new(),
        below: Below::default(),
        hides: false,
    };
    let mut tried: Vec<Tried> = merges.iter().cloned().map(start).collect();
    for case in cases {
        let sides = &case.task.sides;
        let items: usize = case.split.iter().map(|part| part.len()).sum();
        let there = case.split[0].len() as f64 / items as f64;
        let found = sides.merged_by(&merges, case.split)?;
        for (one, outcomes) in tried.iter_mut().zip(found) {
            one.hides |= case.even && outcomes.share_of_first[0] < LEAST_OF_OLD * there;
            one.below = one.below.worst(Below::of(case.task, &outcomes, [NOISE; 2]));
            one.found.push(mean_of_deciding(sides.truth, &outcomes.all));
        }
    }
    Ok(tried)
}

/// Of the merges by which no group falls short, where there are any, that with the smallest largest loss; else of the unshifted ones. One that
/// hides old items is none, unless it is by standard scores, which searches fall back to.
fn fairest(plain: Vec<Tried>, shifted: Vec<Tried>) -> Chosen {
    let usable = |one: &Tried| !one.hides || one.chosen.merge.kind == MergeKind::ZScores;
    let fair = |one: &Tried| usable(one) && one.below.is_none();
    let any = plain.iter().chain(&shifted).any(fair);
    let left: Vec<Tried> = match any {
        true => plain.into_iter().chain(shifted).filter(fair).collect(),
        false => plain.into_iter().filter(usable).collect(),
    };
    smallest_largest_loss(left)
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
fn served_candidates(first: &Sides<'_>, tasks: &[MeasuredBefore<'_>]) -> Vec<Chosen> {
    let candidate = |kind, calibrations| {
        let new_items = Index::Raw;
        Chosen::plain(CurveMerge { kind, new_items }, calibrations)
    };
    let mut candidates = vec![
        candidate(MergeKind::ZScores, Vec::new()),
        candidate(MergeKind::Cosines, Vec::new()),
    ];
    // The vectors of every task are the same.
    let (old, new) = (&first.old, first.new_side(Index::Raw));
    for MeasuredBefore { sides, .. } in tasks {
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
        let candidate =
            |kind, calibrations| Chosen::plain(CurveMerge { kind, new_items }, calibrations);
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
            chosen: Chosen::plain(
                CurveMerge {
                    kind,
                    new_items: Index::Raw,
                },
                Vec::new(),
            ),
            found: found.to_vec(),
            below: Below::default(),
            hides: false,
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
        let shown = |offset: f32| {
            let data = data(offset);
            let tasks = measured_before(&data, &search).unwrap();
            // What is left old is what no query finds, and that is no fault of a merge.
            let retrieved = order(&data, &search).unwrap();
            let candidates = served_candidates(&tasks[0].sides, &tasks);
            let tried = try_all(candidates, &cases(&tasks, &retrieved, &drawn)).unwrap();
            let shown = tried.iter().filter(|tried| !tried.hides);
            let shown = shown.map(|tried| tried.chosen.merge.kind);
            shown.collect::<Vec<MergeKind>>()
        };
        // All cosines of new items are higher than those of old ones.
        assert!(!shown(4.0).contains(&MergeKind::Cosines));
        assert!(shown(0.0).contains(&MergeKind::Cosines));
    }

    #[test]
    fn a_merge_by_which_a_group_falls_short_is_left_out_where_there_are_others() {
        let short = |one: Tried, old| Tried {
            below: Below { old, new: 0.0 },
            ..one
        };
        let shifted = |found: &[f64], hides| {
            let mut one = tried(MergeKind::Cosines, found);
            one.chosen.shift = 0.25;
            Tried { hides, ..one }
        };
        let plain = || {
            vec![
                short(tried(MergeKind::ZScores, &[0.30, 0.40]), 0.02),
                short(tried(MergeKind::Calibrated, &[0.31, 0.40]), 0.04),
            ]
        };
        // What it costs in all does not count against that.
        let chosen = fairest(plain(), vec![shifted(&[0.25, 0.30], false)]);
        assert_eq!(
            (chosen.merge.kind, chosen.shift),
            (MergeKind::Cosines, 0.25)
        );
        // Where no shift helps, or the one that does hides old items, all is as without groups.
        for others in [Vec::new(), vec![shifted(&[0.25, 0.30], true)]] {
            let chosen = fairest(plain(), others);
            assert_eq!(
                (chosen.merge.kind, chosen.shift),
                (MergeKind::Calibrated, 0.0)
            );
        }
    }
}
