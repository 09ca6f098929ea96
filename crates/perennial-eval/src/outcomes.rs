//! One retrieval test, query by query: what every measure is computed from.

use crate::class_means::nearest_class_correct;
use crate::ranking::{Ranker, Ranking};
use crate::relevance::{Judgements, Relevance, RelevanceError, check_own};
use crate::score_rows::{SearchError, Side, map_score_rows};

/// Queries, the gallery that they search, and what they should find.
#[derive(Debug, Clone, Copy)]
pub struct Test<'a> {
    /// Query vectors, `[n, dim]` row-major; unit vectors where similarity is to be the cosine.
    pub queries: &'a [f32],
    /// Gallery vectors, `[m, dim]` row-major.
    pub gallery: &'a [f32],
    /// Values per vector.
    pub dim: usize,
    /// Which gallery items answer which query.
    pub relevance: &'a Relevance<'a>,
    /// Per query, `[n]`: the gallery position of the query itself, which is left out of its ranking and of its class mean.
    pub own: Option<&'a [Option<u32>]>,
}

/// The outcome of every query, `[n]` each, in the order of the queries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcomes {
    /// Whether the nearest class mean has the query's class; none where relevance is not by class.
    pub nearest_class_correct: Option<Vec<bool>>,
    /// Rank of the first relevant item, counted from 1; 0 where the gallery has none.
    pub first_match: Vec<u32>,
    /// Mean, over the relevant items, of the precision at their ranks, a fraction; 0 where the gallery has none.
    pub average_precision: Vec<f32>,
    /// Queries without any relevant item, which can only be missed; where some vectors are missing ([`Known`](crate::Known)), also those that can
    /// only be missed therefore.
    pub queries_without_relevant: usize,
}

/// Why a test cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomesError {
    /// The search refused the vectors.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Judgements or left-out items do not fit the vectors.
    #[error(transparent)]
    Relevance(#[from] RelevanceError),
}

impl Outcomes {
    /// Number of queries.
    pub fn len(&self) -> usize {
        self.first_match.len()
    }

    /// Whether there are no queries.
    pub fn is_empty(&self) -> bool {
        self.first_match.is_empty()
    }

    /// The outcomes of some queries alone, in the order given; positions beyond the last query are skipped.
    pub fn select(&self, queries: &[usize]) -> Self {
        let queries = || queries.iter().copied().filter(|&query| query < self.len());
        let first_match: Vec<u32> = queries().map(|query| self.first_match[query]).collect();
        Self {
            nearest_class_correct: self
                .nearest_class_correct
                .as_ref()
                .map(|correct| queries().map(|query| correct[query]).collect()),
            queries_without_relevant: first_match.iter().filter(|&&rank| rank == 0).count(),
            first_match,
            average_precision: queries()
                .map(|query| self.average_precision[query])
                .collect(),
        }
    }

    pub(crate) fn new(
        nearest_class_correct: Option<Vec<bool>>,
        rankings: &[Option<Ranking>],
    ) -> Self {
        Self {
            nearest_class_correct,
            first_match: rankings
                .iter()
                .map(|ranking| ranking.map_or(0, |ranking| ranking.first_match))
                .collect(),
            average_precision: rankings
                .iter()
                .map(|ranking| ranking.map_or(0.0, |ranking| ranking.average_precision as f32))
                .collect(),
            queries_without_relevant: rankings.iter().filter(|ranking| ranking.is_none()).count(),
        }
    }
}

/// Scores every query in one pass over the similarities.
///
/// - **Nearest class mean**: the template of a class is the normalised mean of its gallery vectors; a query is right when the most
///   similar template has its class. Of equally similar templates the lowest class wins.
/// - **Ranking**: higher dot product first; of equal ones the lower gallery position. Ranks are exact, though only the relevant items
///   are sorted.
///
/// The results do not depend on the number of threads.
///
/// **Shapes.** Queries `[n, dim]`, gallery `[m, dim]`; the outcomes are `[n]`.
///
/// **Source.** Evaluation of CL²R and IAM-CL²R (class means), Market-1501 practice (ranks of matches, average precision).
///
/// # Errors
/// [`OutcomesError`] where vectors are not whole or not finite, or relevance or own items do not fit them.
pub fn outcomes(test: &Test<'_>) -> Result<Outcomes, OutcomesError> {
    let side = Side::new(test.queries, test.gallery, test.dim)?;
    let (queries, items) = (side.query_count(), side.items());
    let judgements = Judgements::new(test.relevance, queries, items)?;
    check_own(test.own, queries, items)?;
    let (nearest_class_correct, rankings) = score(side, &judgements, test.own);
    Ok(Outcomes::new(nearest_class_correct, &rankings))
}

/// Per query, whether the nearest class mean is right (where there are classes), and where its relevant items rank (where it has any).
pub(crate) type Scored = (Option<Vec<bool>>, Vec<Option<Ranking>>);

/// The pass itself, for arguments that fit one another.
pub(crate) fn score(
    side: Side<'_>,
    judgements: &Judgements<'_>,
    own: Option<&[Option<u32>]>,
) -> Scored {
    let nearest = nearest_classes(side, judgements, own);
    let rankings = map_score_rows(&[side], Ranker::default, |ranker, query, scores| {
        let own = own.and_then(|own| own[query]);
        ranker.rank(scores[0], judgements.relevant(query), own)
    });
    (nearest, rankings)
}

/// Per query, whether the nearest class mean has its class; nothing where single items are right.
pub(crate) fn nearest_classes(
    side: Side<'_>,
    judgements: &Judgements<'_>,
    own: Option<&[Option<u32>]>,
) -> Option<Vec<bool>> {
    match judgements {
        Judgements::Classes {
            queries,
            gallery,
            items_of_class,
        } => Some(nearest_class_correct(
            side,
            [queries, gallery],
            items_of_class,
            own,
        )),
        Judgements::Items(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Measure;
    use proptest::prelude::*;

    /// Rank of the first relevant item and average precision, from a sort of everything.
    fn plainly(test: &Test<'_>, query: usize, relevant: &[u32]) -> (u32, f32) {
        let own = test.own.and_then(|own| own[query]);
        let vector = &test.queries[query * test.dim..(query + 1) * test.dim];
        let mut order: Vec<(f32, u32)> = (0..)
            .zip(test.gallery.chunks(test.dim))
            .filter(|&(item, _)| Some(item) != own)
            .map(|(item, row)| (row.iter().zip(vector).map(|(a, b)| a * b).sum(), item))
            .collect();
        order.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
        let ranks: Vec<u32> = (1..)
            .zip(&order)
            .filter(|(_, (_, item))| relevant.contains(item))
            .map(|(rank, _)| rank)
            .collect();
        let precisions = (1u32..).zip(&ranks);
        let sum: f64 = precisions
            .map(|(found, &rank)| f64::from(found) / f64::from(rank))
            .sum();
        match ranks.first() {
            Some(&first) => (first, (sum / ranks.len() as f64) as f32),
            None => (0, 0.0),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn agrees_with_a_plain_sort(
            // Small integers: every order of addition gives the same sum, and many similarities are equal.
            queries in prop::collection::vec((prop::array::uniform3(-2i8..=2), 0u32..4), 0..20),
            gallery in prop::collection::vec((prop::array::uniform3(-2i8..=2), 0u32..4), 0..60),
            judged in prop::collection::vec(prop::collection::btree_set(0u32..60, 0..20), 20),
            own in prop::collection::vec(prop::option::of(0u32..60), 20),
        ) {
            let vectors = |rows: &[([i8; 3], u32)]| -> Vec<f32> {
                rows.iter().flat_map(|row| row.0.map(f32::from)).collect()
            };
            let classes = |rows: &[([i8; 3], u32)]| -> Vec<u32> { rows.iter().map(|row| row.1).collect() };
            let (query_vectors, gallery_vectors) = (vectors(&queries), vectors(&gallery));
            let (of_query, of_item) = (classes(&queries), classes(&gallery));
            let items = gallery.len() as u32;
            let own: Vec<Option<u32>> =
                own[..queries.len()].iter().map(|own| own.filter(|&own| own < items)).collect();
            let judged: Vec<Vec<u32>> = judged[..queries.len()]
                .iter()
                .map(|set| set.iter().copied().filter(|&item| item < items).collect())
                .collect();
            for relevance in [
                Relevance::Classes { queries: &of_query, gallery: &of_item },
                Relevance::Items(&judged),
            ] {
                for own in [None, Some(own.as_slice())] {
                    let test = Test {
                        queries: &query_vectors, gallery: &gallery_vectors, dim: 3, relevance: &relevance, own,
                    };
                    let found = outcomes(&test).unwrap();
                    prop_assert_eq!(found.len(), queries.len());
                    prop_assert_eq!(
                        found.nearest_class_correct.is_some(), matches!(relevance, Relevance::Classes { .. })
                    );
                    for query in 0..queries.len() {
                        let relevant: Vec<u32> = match relevance {
                            Relevance::Items(items) => items[query].clone(),
                            Relevance::Classes { .. } => {
                                (0..items).filter(|&item| of_item[item as usize] == of_query[query]).collect()
                            }
                        };
                        prop_assert_eq!(
                            (found.first_match[query], found.average_precision[query]),
                            plainly(&test, query, &relevant)
                        );
                    }
                    let missed = found.first_match.iter().filter(|&&rank| rank == 0).count();
                    prop_assert_eq!(found.queries_without_relevant, missed);
                }
            }
        }
    }

    #[test]
    fn a_set_searched_by_itself_leaves_each_query_out() {
        let vectors = [1.0, 0.0, 0.8, 0.6, 0.0, 1.0, 0.6, 0.8];
        let classes = [0, 0, 1, 1];
        let relevance = Relevance::Classes {
            queries: &classes,
            gallery: &classes,
        };
        let own = [Some(0), Some(1), Some(2), Some(3)];
        let test = Test {
            queries: &vectors,
            gallery: &vectors,
            dim: 2,
            relevance: &relevance,
            own: Some(&own),
        };
        let found = outcomes(&test).unwrap();
        // (0.8, 0.6) and (0.6, 0.8) are nearer to one another than to their own classes.
        assert_eq!(found.first_match, [1, 2, 1, 2]);
        assert_eq!(
            found.nearest_class_correct,
            Some(vec![true, false, true, false])
        );
        assert_eq!(Measure::RecallAt(1).mean(&found), Some(0.5));
        assert_eq!(found.select(&[3, 0, 9]).first_match, [2, 1]);
        let all = outcomes(&Test { own: None, ..test }).unwrap();
        assert_eq!(all.first_match, [1; 4]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let vectors = [1.0, 0.0, 0.0, 1.0];
        let message = |relevance: Relevance<'_>, own: Option<&[Option<u32>]>| {
            let test = Test {
                queries: &vectors,
                gallery: &vectors,
                dim: 2,
                relevance: &relevance,
                own,
            };
            outcomes(&test).unwrap_err().to_string()
        };
        let classes = |queries, gallery| Relevance::Classes { queries, gallery };
        assert!(
            message(classes(&[1], &[1, 2]), None).starts_with("classes of the queries: found 1")
        );
        assert!(
            message(classes(&[1, 2], &[1]), None).starts_with("classes of the gallery: found 1")
        );
        assert!(message(Relevance::Items(&[vec![]]), None).starts_with("relevant items: found 1"));
        let order = [vec![], vec![1, 1]];
        assert!(
            message(Relevance::Items(&order), None).contains("query 1 are not in ascending order")
        );
        let far = [vec![0, 2], vec![]];
        let found = message(Relevance::Items(&far), None);
        assert!(
            found.starts_with(
                "relevant item of query 0: position 2 is outside the gallery of 2 items"
            )
        );
        let fine = [vec![0], vec![1]];
        let found = message(Relevance::Items(&fine), Some(&[None, Some(7)]));
        assert!(
            found.starts_with("own item of query 1: position 7"),
            "{found}"
        );
        assert!(message(Relevance::Items(&fine), Some(&[None])).starts_with("own gallery items"));
        let relevance = Relevance::Items(&fine);
        let test = Test {
            queries: &[f32::NAN, 0.0],
            gallery: &vectors,
            dim: 2,
            relevance: &relevance,
            own: None,
        };
        assert!(matches!(
            outcomes(&test).unwrap_err(),
            OutcomesError::Search(_)
        ));
    }
}
