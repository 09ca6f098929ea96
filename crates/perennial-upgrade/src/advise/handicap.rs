//! No group of queries is to find less after an upgrade than before: how far groups fall short, and what the old items gain so that none does.

use perennial_eval::{MixedOutcomes, Outcomes, Requirements, map_query_scores};

use super::merging::Chosen;
use super::sides::{Sides, TRIED_SHARES, parts};
use crate::evaluation_data::EvaluationData;
use crate::measured::{MeasureError, outcomes_of};
use crate::recorded_merge::MergeKind;
use crate::route::{Prepared, Search, unit};

/// A group falls short where what it loses is more than this part of the loss's standard error. Smaller losses are seen in seven of ten groups that lose
/// nothing.
pub(super) const NOISE: f64 = 0.5;
/// Shifts are tried in steps of this part of the spread that similarities have, up to `STEPS` of them.
const STEP: f64 = 0.125;
const STEPS: usize = 24;
/// The first step that is enough is divided into so many.
const FINE: usize = 8;
/// Shifts that are tried for one computation of the similarities.
const AT_ONCE: usize = 6;
/// Queries that the spread of similarities is taken from, at most.
const SPREAD_QUERIES: usize = 256;

/// One kind of retrieval, and what the old encoder found for its queries in its own gallery of all items.
pub(super) struct MeasuredBefore<'a> {
    pub(super) sides: Sides<'a>,
    pub(super) before: Outcomes,
}

/// Every kind of retrieval of an evaluation set; empty without the gallery by the new encoder.
pub(super) fn measured_before<'a>(
    data: &'a EvaluationData,
    search: &Search<'_>,
) -> Result<Vec<MeasuredBefore<'a>>, MeasureError> {
    let old = Prepared {
        queries: unit(&data.old_queries)?,
        gallery: unit(&data.old_gallery)?,
        dim: data.old_gallery.dim,
    };
    let mut tasks = Vec::with_capacity(data.truths.len());
    for (number, truth) in data.truths.iter().enumerate() {
        if let Some(sides) = Sides::of(data, number, search)? {
            let before = outcomes_of(data, truth, old.as_ref())?;
            tasks.push(MeasuredBefore { sides, before });
        }
    }
    Ok(tasks)
}

/// A kind of retrieval in a gallery of which a share is embedded again.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) task: &'a MeasuredBefore<'a>,
    /// Items that stay old, and those that are embedded again.
    pub(super) split: [&'a [usize]; 2],
    /// Whether those that are embedded again are evenly drawn.
    pub(super) even: bool,
}

/// All kinds of retrieval, in both orders, at the tried shares.
pub(super) fn cases<'a>(
    tasks: &'a [MeasuredBefore<'a>],
    retrieved: &'a [usize],
    drawn: &'a [usize],
) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    for task in tasks {
        for (order, even) in [(retrieved, false), (drawn, true)] {
            let splits = TRIED_SHARES.iter();
            let splits = splits.filter_map(|&share| parts(order, share));
            cases.extend(splits.map(|split| Case { task, split, even }));
        }
    }
    cases
}

/// By how much queries find less than the old encoder did, beyond what is noise: those whose right items are all old, and those whose right items are
/// all embedded again. 0 where they do not.
///
/// Of the deciding measures, the one that loses most counts. Groups of fewer queries than a measurement needs do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Below {
    pub(super) old: f64,
    pub(super) new: f64,
}

impl Below {
    /// `noise`: the parts of the standard errors that count as none, usually [`NOISE`] for both.
    pub(super) fn of(task: &MeasuredBefore<'_>, found: &MixedOutcomes, noise: [f64; 2]) -> Self {
        let [old, new] = [0, 1].map(|part| shortfall(task, found, part, noise[part]));
        Self { old, new }
    }

    /// The larger of both, for each group.
    pub(super) fn worst(self, other: Self) -> Self {
        Self {
            old: self.old.max(other.old),
            new: self.new.max(other.new),
        }
    }

    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

fn shortfall(task: &MeasuredBefore<'_>, found: &MixedOutcomes, part: usize, noise: f64) -> f64 {
    let group = group_of(&found.answered_by, part);
    if group.len() < Requirements::default().queries {
        return 0.0;
    }
    let (before, after) = (task.before.select(&group), found.all.select(&group));
    let kind = task.sides.truth.task();
    let deciding = kind.measures()[..kind.deciding()].iter();
    let losses = deciding.filter_map(|measure| {
        let (before, after) = (measure.scores(&before)?, measure.scores(&after)?);
        let lost = before.iter().zip(&after);
        let lost = lost.map(|(before, after)| f64::from(*before) - f64::from(*after));
        Some(beyond_noise(&lost.collect::<Vec<f64>>(), noise))
    });
    losses.fold(0.0, f64::max)
}

/// The queries whose right items all lie in a part.
pub(super) fn group_of(answered_by: &[Option<usize>], part: usize) -> Vec<usize> {
    let answers = answered_by.iter().enumerate();
    let of_part = answers.filter(|&(_, &answer)| answer == Some(part));
    of_part.map(|(query, _)| query).collect()
}

/// The mean less so much of its standard error, where that is above 0.
fn beyond_noise(lost: &[f64], noise: f64) -> f64 {
    let count = lost.len() as f64;
    let mean = lost.iter().sum::<f64>() / count;
    let variance = lost.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean - noise * (variance / count).sqrt()).max(0.0)
}

/// Whether a kind of retrieval has queries whose answers lie in one part, enough in number where half of the items are embedded again.
pub(super) fn has_groups(task: &MeasuredBefore<'_>, drawn: &[usize]) -> Result<bool, MeasureError> {
    let Some(split) = parts(drawn, 0.5) else {
        return Ok(false);
    };
    let answers = task.sides.answered_by(split)?;
    let least = Requirements::default().queries;
    Ok([0, 1]
        .into_iter()
        .any(|part| group_of(&answers, part).len() >= least))
}

/// The merge with the smallest shift by which no group falls short in any case, where the unshifted one lets one of the two fall short.
///
/// What one group gains by a shift, the other loses: the larger the shift of old items, the more queries with an old answer find it, and the fewer with
/// a new one. So nothing helps where both fall short, or where the second does before the first is served: the route itself loses what they look for.
///
/// The group that falls short is served only where it loses nothing at all: the smallest shift that is enough on the queries that choose it would be
/// too small for others half of the time otherwise.
pub(super) fn smallest_enough(
    plain: &Chosen,
    below: Below,
    unit: f64,
    cases: &[Case<'_>],
) -> Result<Option<Chosen>, MeasureError> {
    let old_is_short = match (below.old > 0.0, below.new > 0.0) {
        (true, false) => true,
        (false, true) => false,
        _ => return Ok(None),
    };
    let spread = match plain.merge.kind {
        MergeKind::ZScores => 1.0,
        MergeKind::Cosines | MergeKind::Calibrated => unit,
    };
    let step = if old_is_short { STEP } else { -STEP } * spread;
    let noise = if old_is_short {
        [0.0, NOISE]
    } else {
        [NOISE, 0.0]
    };
    let at = |steps: f64| Chosen {
        shift: steps * step,
        ..plain.clone()
    };
    let coarse: Vec<usize> = (1..=STEPS).collect();
    for some in coarse.chunks(AT_ONCE) {
        let shifted: Vec<Chosen> = some.iter().map(|&count| at(count as f64)).collect();
        for (&count, below) in some.iter().zip(below_of_all(&shifted, cases, noise)?) {
            if below.is_none() {
                let fine = (1..FINE).map(|part| at((count - 1) as f64 + part as f64 / FINE as f64));
                let mut fine: Vec<Chosen> = fine.collect();
                let first = below_of_all(&fine, cases, noise)?;
                return Ok(Some(match first.iter().position(|below| below.is_none()) {
                    Some(first) => fine.swap_remove(first),
                    None => at(count as f64),
                }));
            }
            let paid = if old_is_short { below.new } else { below.old };
            if paid > 0.0 {
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// By how much groups fall short by each of some merges, in the worst case.
fn below_of_all(
    merges: &[Chosen],
    cases: &[Case<'_>],
    noise: [f64; 2],
) -> Result<Vec<Below>, MeasureError> {
    let mut worst = vec![Below::default(); merges.len()];
    for case in cases {
        let found = case.task.sides.merged_by(merges, case.split)?;
        for (worst, found) in worst.iter_mut().zip(&found) {
            *worst = worst.worst(Below::of(case.task, found, noise));
        }
    }
    Ok(worst)
}

/// The standard deviation of a query's similarities to all items, mean over some queries.
pub(super) fn usual_spread(side: &Prepared) -> Result<f64, MeasureError> {
    let queries = &side.queries[..side.queries.len().min(SPREAD_QUERIES * side.dim)];
    let spreads = map_query_scores(queries, &side.gallery, side.dim, |_, scores| {
        let count = scores.len() as f64;
        let values = || scores.iter().copied().map(f64::from);
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        variance.sqrt()
    })?;
    Ok(spreads.iter().sum::<f64>() / spreads.len().max(1) as f64)
}

#[cfg(test)]
mod tests;
