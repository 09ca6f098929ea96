//! Part of the gallery embedded again: first hits only, at query time, or a share of the items beforehand.

use perennial_core::dot;
use perennial_eval::{Measure, Outcomes, map_query_scores};
use serde::{Deserialize, Serialize};

use super::halves::Halves;
use super::merge_choice::{BOTH, choose};
use super::merging::CurveMerge;
use super::order::order;
use super::sides::{Sides, parts};
use crate::evaluation_data::{EvaluationData, Truth};
use crate::measured::MeasureError;
use crate::route::{Search, unit};

/// Shares of the gallery that are tried.
const SHARES: [f64; 6] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9];
/// First hits that are re-ranked by the new encoder in two-stage search.
pub(super) const RERANKED: usize = 100;

/// Quality with a share of the gallery embedded again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Share of the gallery's items that the new encoder embedded.
    pub share: f64,
    /// Each measure that does not need one space for all items.
    pub measures: Vec<(Measure, f64)>,
    /// Share of old items among the first 24 hits; compare it with `1 - share`.
    pub old_among_first: f64,
}

/// Quality by share of the gallery embedded again.
pub(super) struct Curve {
    pub(super) merge: CurveMerge,
    pub(super) points: Vec<CurvePoint>,
}

/// The curve: dual queries on old items, the new encoder's own on new ones, and their hits in one ranking.
///
/// How the similarities of both are made comparable is chosen on the choosing queries.
pub(super) fn curve(
    halves: &Halves,
    number: usize,
    search: &Search<'_>,
) -> Result<Option<Curve>, MeasureError> {
    let order = order(&halves.tuning, search)?;
    let Some(tuning) = Sides::of(&halves.tuning, number, search)? else {
        return Ok(None);
    };
    let chosen = choose(&tuning, &order, &BOTH)?;
    let Some(judging) = Sides::of(&halves.judging, number, search)? else {
        return Ok(None);
    };
    let mut points = Vec::new();
    for share in SHARES {
        let Some(parts) = parts(&order, share) else {
            continue;
        };
        let found = judging.merged(&chosen, parts)?;
        let measures = judging.truth.task().measures();
        points.push(CurvePoint {
            share,
            measures: measures
                .iter()
                .filter_map(|&measure| Some((measure, measure.mean(&found.all)?)))
                .collect(),
            old_among_first: found.share_of_first[0],
        });
    }
    Ok(Some(Curve {
        merge: chosen.merge,
        points,
    }))
}

/// Two-stage search: the first `count` hits of a search are ranked again by the new encoder's embeddings of query and item; the others keep
/// their order behind them.
pub(super) fn two_stage(
    data: &EvaluationData,
    truth: &Truth,
    search: &Search<'_>,
    count: usize,
) -> Result<Outcomes, MeasureError> {
    let prepared = search.prepare(data)?;
    let new_gallery = match &data.new_gallery {
        Some(gallery) => gallery,
        None => return crate::measured::search_outcomes(data, truth, search),
    };
    let (queries, items) = (unit(&data.new_queries)?, unit(new_gallery)?);
    let dim = new_gallery.dim;
    let ranked = map_query_scores(
        &prepared.queries,
        &prepared.gallery,
        prepared.dim,
        |query, scores| {
            let own = data.own.as_ref().and_then(|own| own[query]);
            let mut order: Vec<usize> = (0..scores.len())
                .filter(|&item| own != Some(item as u32))
                .collect();
            order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
            let first = count.min(order.len());
            let vector = &queries[query * dim..][..dim];
            let mut again: Vec<(f32, usize)> = order[..first]
                .iter()
                .map(|&item| (dot(vector, &items[item * dim..][..dim]), item))
                .collect();
            again.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
            for (place, (_, item)) in order.iter_mut().zip(again) {
                *place = item;
            }
            outcome(&order, |item| truth.is_relevant(query, item))
        },
    )?;
    let (first_match, average_precision): (Vec<u32>, Vec<f32>) = ranked.into_iter().unzip();
    Ok(Outcomes {
        // The class means are those of the search: re-ranking moves single items only.
        nearest_class_correct: crate::measured::outcomes_of(data, truth, prepared.as_ref())?
            .nearest_class_correct,
        queries_without_relevant: first_match.iter().filter(|&&rank| rank == 0).count(),
        first_match,
        average_precision,
    })
}

/// Rank of the first relevant item from 1, 0 for none, and the average precision of a ranking.
fn outcome(order: &[usize], relevant: impl Fn(usize) -> bool) -> (u32, f32) {
    let (mut first, mut found, mut sum) = (0, 0u32, 0.0f64);
    for (rank, &item) in (1u32..).zip(order) {
        if relevant(item) {
            found += 1;
            if first == 0 {
                first = rank;
            }
            sum += f64::from(found) / f64::from(rank);
        }
    }
    let precision = match found {
        0 => 0.0,
        found => (sum / f64::from(found)) as f32,
    };
    (first, precision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ranking_gives_rank_and_precision() {
        let relevant = |item: usize| item >= 2;
        assert_eq!(outcome(&[0, 2, 1, 3], relevant), (2, 0.5));
        assert_eq!(outcome(&[0, 1], relevant), (0, 0.0));
        assert_eq!(outcome(&[3, 2], relevant), (1, 1.0));
    }
}
