//! How similar queries are to their right items and to others.

use perennial_eval::html::certificate_page::ScoreHistogram;
use perennial_eval::{SearchError, map_query_scores};

use crate::evaluation_data::Truth;
use crate::route::PreparedRef;

/// Queries whose scores are counted, at most.
const QUERIES: usize = 1_000;
/// Scores that are counted, at most, unless one query alone has more.
const SCORES: usize = 1 << 24;
/// Steps of a histogram.
const STEPS: usize = 40;

/// Counts the cosines of the first queries with all items, by whether the item is right.
pub(super) fn histogram(
    name: &str,
    truth: &Truth,
    prepared: PreparedRef<'_>,
) -> Result<ScoreHistogram, SearchError> {
    let dim = prepared.dim;
    let items = prepared.gallery.len() / dim.max(1);
    let queries = (SCORES / items.max(1)).clamp(1, QUERIES);
    let some = &prepared.queries[..prepared.queries.len().min(queries * dim)];
    let counted = map_query_scores(some, prepared.gallery, dim, |query, scores| {
        let mut counts = [[0usize; STEPS]; 2];
        for &score in scores {
            counts[0][step(score)] += 1;
        }
        for item in truth.relevant_items(query, scores.len()) {
            let step = step(scores[item]);
            counts[0][step] -= 1;
            counts[1][step] += 1;
        }
        counts
    })?;
    let sum = |right: usize| -> Vec<usize> {
        (0..STEPS)
            .map(|step| counted.iter().map(|counts| counts[right][step]).sum())
            .collect()
    };
    Ok(ScoreHistogram {
        name: name.to_owned(),
        low: -1.0,
        high: 1.0,
        matches: sum(1),
        non_matches: sum(0),
    })
}

/// The step of a cosine.
fn step(score: f32) -> usize {
    let cosine = f64::from(score).clamp(-1.0, 1.0);
    (((cosine + 1.0) / 2.0 * STEPS as f64) as usize).min(STEPS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_counts_once_on_its_side() {
        let prepared = PreparedRef {
            queries: &[1.0, 0.0, 0.0, 1.0],
            gallery: &[1.0, 0.0, -1.0, 0.0, 0.0, 1.0],
            dim: 2,
        };
        let found = histogram("x", &Truth::Items(vec![vec![0], vec![]]), prepared).unwrap();
        let mut matches = vec![0; STEPS];
        matches[STEPS - 1] = 1;
        assert_eq!(found.matches, matches);
        let mut others = vec![0; STEPS];
        // The first query: -1 and 0. The second one: 0, 0 and 1.
        others[0] = 1;
        others[STEPS / 2] = 3;
        others[STEPS - 1] = 1;
        assert_eq!(found.non_matches, others);
        let classes = Truth::Classes {
            queries: vec![0, 1],
            gallery: vec![0, 1, 1],
        };
        let found = histogram("x", &classes, prepared).unwrap();
        assert_eq!(found.matches.iter().sum::<usize>(), 3);
        assert_eq!(found.non_matches.iter().sum::<usize>(), 3);
    }
}
