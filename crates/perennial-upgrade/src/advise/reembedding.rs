//! Part of the gallery embedded again: first hits only, at query time, or a share of the items beforehand.

use perennial_core::dot;
use perennial_eval::{
    Measure, Merge, MixedTest, Outcomes, Partition, map_query_scores, mixed_outcomes, top_k,
};
use serde::{Deserialize, Serialize};

use super::Halves;
use crate::evaluation_data::{EvaluationData, Truth};
use crate::measured::MeasureError;
use crate::route::{Prepared, Search, unit};

/// Shares of the gallery that are tried.
const SHARES: [f64; 6] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9];
/// Hits of the choosing queries that count as retrievals.
const RETRIEVED: usize = 10;
/// Hits among which the share of old items is counted.
const FIRST: usize = 24;

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

/// The positions of a gallery in the order in which embedding them again pays: most often among the first hits of the choosing queries
/// first, then by position.
fn order(tuning: &EvaluationData, search: &Search<'_>) -> Result<Vec<usize>, MeasureError> {
    let prepared = search.prepare(tuning)?;
    let top = top_k(
        &prepared.queries,
        &prepared.gallery,
        prepared.dim,
        RETRIEVED,
    )?;
    let mut retrieved = vec![0u32; tuning.old_gallery.len()];
    for &item in &top.indices {
        retrieved[item] += 1;
    }
    let mut order: Vec<usize> = (0..retrieved.len()).collect();
    order.sort_by_key(|&item| (std::cmp::Reverse(retrieved[item]), item));
    Ok(order)
}

/// The curve: dual queries on old items, the new encoder's own on new ones, similarities of both merged as z-scores.
pub(super) fn curve(
    halves: &Halves,
    number: usize,
    search: &Search<'_>,
) -> Result<Vec<CurvePoint>, MeasureError> {
    let judging = &halves.judging;
    let Some(new_gallery) = &judging.new_gallery else {
        return Ok(Vec::new());
    };
    let truth = super::truth_of(judging, number);
    let order = order(&halves.tuning, search)?;
    let old = search.prepare(judging)?;
    let new = Prepared {
        queries: unit(&judging.new_queries)?,
        gallery: unit(new_gallery)?,
        dim: new_gallery.dim,
    };
    let mut points = Vec::new();
    for share in SHARES {
        let embedded = ((share * order.len() as f64).round() as usize).min(order.len());
        let (again, left) = order.split_at(embedded);
        if again.is_empty() || left.is_empty() {
            continue;
        }
        points.push(point(judging, truth, [&old, &new], [left, again], share)?);
    }
    Ok(points)
}

fn point(
    data: &EvaluationData,
    truth: &Truth,
    [old, new]: [&Prepared; 2],
    [left, again]: [&[usize]; 2],
    share: f64,
) -> Result<CurvePoint, MeasureError> {
    let rows = |prepared: &Prepared, items: &[usize]| -> Vec<f32> {
        items
            .iter()
            .flat_map(|&item| &prepared.gallery[item * prepared.dim..][..prepared.dim])
            .copied()
            .collect()
    };
    let positions = |items: &[usize]| items.iter().map(|&item| item as u32).collect::<Vec<u32>>();
    let galleries = [rows(old, left), rows(new, again)];
    let places = [positions(left), positions(again)];
    let partitions = [
        Partition {
            queries: &old.queries,
            gallery: &galleries[0],
            dim: old.dim,
            positions: &places[0],
        },
        Partition {
            queries: &new.queries,
            gallery: &galleries[1],
            dim: new.dim,
            positions: &places[1],
        },
    ];
    let found = mixed_outcomes(&MixedTest {
        partitions: &partitions,
        relevance: &truth.relevance(),
        own: data.own.as_deref(),
        merge: Merge::ZNormalised,
        first: FIRST,
    })?;
    let measures = truth.task().measures();
    Ok(CurvePoint {
        share,
        measures: measures
            .iter()
            .filter_map(|&measure| Some((measure, measure.mean(&found.all)?)))
            .collect(),
        old_among_first: found.share_of_first[0],
    })
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
        nearest_class_correct: crate::measured::outcomes_of(data, truth, &prepared)?
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
