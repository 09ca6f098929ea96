//! Retrieval metrics of one query model on one gallery.

use perennial_core::Embeddings;
use serde::{Deserialize, Serialize};

use crate::known::Known;
use crate::measure::Measure;
use crate::outcomes::{Outcomes, OutcomesError, Test, nearest_classes, outcomes, score};
use crate::relevance::{Judgements, Relevance, RelevanceError};
use crate::score_rows::{SearchError, Side};

/// Why a retrieval test cannot be scored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetrievalError {
    /// Embeddings without labels.
    #[error(
        "the {side} embeddings of model {model_version} carry no labels; embed a labelled set to score them"
    )]
    NoLabels {
        /// `query` or `gallery`.
        side: &'static str,
        /// The model that made them.
        model_version: String,
    },
    /// No embeddings at all.
    #[error("the {side} of model {model_version} is empty")]
    Empty {
        /// `query` or `gallery`.
        side: &'static str,
        /// The model that made it.
        model_version: String,
    },
    /// The two models embed into spaces of different dimensions.
    #[error(
        "queries of model {query_version} have dimension {query_dim}, the gallery of model {gallery_version} has {gallery_dim}; \
         only models of one dimension can be compatible"
    )]
    Dimensions {
        /// The query model.
        query_version: String,
        /// Its dimension.
        query_dim: usize,
        /// The gallery model.
        gallery_version: String,
        /// Its dimension.
        gallery_dim: usize,
    },
    /// The search refused the vectors.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// Labels that do not fit the vectors.
    #[error(transparent)]
    Relevance(#[from] RelevanceError),
}

impl From<OutcomesError> for RetrievalError {
    fn from(error: OutcomesError) -> Self {
        match error {
            OutcomesError::Search(error) => Self::Search(error),
            OutcomesError::Relevance(error) => Self::Relevance(error),
        }
    }
}

/// Scores of one retrieval test. Fractions of the queries; a query whose label the gallery lacks counts as missed everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetrievalScores {
    /// Nearest-class-mean top-1, the "1:N search accuracy" of the publications.
    pub ncm_top1: f64,
    /// The most similar gallery item has the query's label.
    pub cmc1: f64,
    /// One of the 5 most similar has it.
    pub cmc5: f64,
    /// One of the 10 most similar has it.
    pub cmc10: f64,
    /// Mean average precision over the full ranking.
    pub map: f64,
}

/// Scores of one retrieval test, with the outcome of every query for paired statistics. Fractions.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrieval {
    /// See [`RetrievalScores::ncm_top1`].
    pub ncm_top1: f64,
    /// See [`RetrievalScores::cmc1`].
    pub cmc1: f64,
    /// See [`RetrievalScores::cmc5`].
    pub cmc5: f64,
    /// See [`RetrievalScores::cmc10`].
    pub cmc10: f64,
    /// See [`RetrievalScores::map`].
    pub map: f64,
    /// Whether the nearest class mean had the right label, `[n]` in the order of the queries.
    pub per_query_ncm_correct: Vec<bool>,
    /// Queries that can only be missed: no gallery item has their label, or none that has an embedding, or they have none themselves.
    pub queries_without_match: usize,
}

impl Retrieval {
    /// The scores alone.
    pub fn scores(&self) -> RetrievalScores {
        RetrievalScores {
            ncm_top1: self.ncm_top1,
            cmc1: self.cmc1,
            cmc5: self.cmc5,
            cmc10: self.cmc10,
            map: self.map,
        }
    }
}

/// Scores queries of one model against a gallery embedded by the same model (self-test) or an older one (cross-test): the means over
/// [`outcomes`](crate::outcomes()).
///
/// - **Nearest class mean**: the template of a class is the normalised mean of its gallery embeddings; a query is right when
///   the most similar template has its label. Of equally similar templates the lowest label wins.
/// - **CMC@k**: a query is right when an item of its label is among the `k` most similar.
/// - **mAP**: the mean over the queries of the average precision over the whole ranking.
///
/// Labels are compared by value, so they need not be dense or start at 0. Equal similarities rank in the order of the gallery.
/// No item is excluded from the gallery: a query that is also a gallery item finds itself. Queries without an embedding
/// ([`Embeddings::missing`]) are missed, gallery items without one are never found and are no part of their class's mean.
///
/// **Shapes.** Queries `[n, d]` and gallery `[m, d]`, labelled.
///
/// **Source.** Evaluation of CL²R and IAM-CL²R (class means), Market-1501 practice (CMC, mAP).
///
/// # Errors
/// [`RetrievalError`] where labels are missing, a side is empty or the dimensions differ.
pub fn evaluate(queries: &Embeddings, gallery: &Embeddings) -> Result<Retrieval, RetrievalError> {
    let (side, judgements) = labelled(queries, gallery)?;
    if let Some(found) = of_known(queries, gallery)? {
        return Ok(of_outcomes(found));
    }
    let (nearest, outcomes) = score(side, &judgements, None);
    let ncm_correct = nearest.expect("there are classes");
    let count = outcomes.len() as f64;
    let ranked = || outcomes.iter().flatten();
    let cmc = |k| ranked().filter(|ranking| ranking.first_match <= k).count() as f64 / count;
    Ok(Retrieval {
        ncm_top1: crate::comparison::count_true(&ncm_correct) as f64 / count,
        cmc1: cmc(1),
        cmc5: cmc(5),
        cmc10: cmc(10),
        map: ranked()
            .map(|ranking| ranking.average_precision)
            .sum::<f64>()
            / count,
        per_query_ncm_correct: ncm_correct,
        queries_without_match: outcomes.iter().filter(|outcome| outcome.is_none()).count(),
    })
}

/// Whether each query's nearest class mean has the right label, as in [`evaluate`], without its other measures, for which the whole
/// gallery is ranked.
///
/// **Shapes.** Queries `[n, d]` and gallery `[m, d]`, labelled; the result is `[n]`.
///
/// # Errors
/// As [`evaluate`].
pub fn nearest_class_means(
    queries: &Embeddings,
    gallery: &Embeddings,
) -> Result<Vec<bool>, RetrievalError> {
    let (side, judgements) = labelled(queries, gallery)?;
    if let Some(found) = of_known(queries, gallery)? {
        return Ok(found.nearest_class_correct.expect("there are classes"));
    }
    Ok(nearest_classes(side, &judgements, None).expect("there are classes"))
}

/// The outcomes where some embeddings are missing; nothing where none is.
fn of_known(
    queries: &Embeddings,
    gallery: &Embeddings,
) -> Result<Option<Outcomes>, RetrievalError> {
    let counts = [queries.len(), gallery.len()];
    let known = Known::without(counts, [queries.missing(), gallery.missing()]);
    if known.is_complete() {
        return Ok(None);
    }
    let relevance = Relevance::Classes {
        queries: labels_of(queries, "query")?,
        gallery: labels_of(gallery, "gallery")?,
    };
    let rows = |set: &Embeddings, positions: &[usize]| -> Vec<f32> {
        let rows = positions.iter().flat_map(|&position| set.row(position));
        rows.copied().collect()
    };
    let among = known.relevance(&relevance)?;
    let found = outcomes(&Test {
        queries: &rows(queries, known.queries()),
        gallery: &rows(gallery, known.items()),
        dim: queries.dim(),
        relevance: &among.as_relevance(),
        own: None,
    })?;
    Ok(Some(known.expand(&relevance, &found)?))
}

fn of_outcomes(found: Outcomes) -> Retrieval {
    let mean = |measure: Measure| measure.mean(&found).unwrap_or(0.0);
    Retrieval {
        ncm_top1: mean(Measure::NearestClassMean),
        cmc1: mean(Measure::RecallAt(1)),
        cmc5: mean(Measure::RecallAt(5)),
        cmc10: mean(Measure::RecallAt(10)),
        map: mean(Measure::MeanAveragePrecision),
        queries_without_match: found.queries_without_relevant,
        per_query_ncm_correct: found.nearest_class_correct.expect("there are classes"),
    }
}

fn labelled<'a>(
    queries: &'a Embeddings,
    gallery: &'a Embeddings,
) -> Result<(Side<'a>, Judgements<'a>), RetrievalError> {
    let query_labels = labels_of(queries, "query")?;
    let gallery_labels = labels_of(gallery, "gallery")?;
    let dim = queries.dim();
    if gallery.dim() != dim {
        return Err(RetrievalError::Dimensions {
            query_version: queries.model_version().to_owned(),
            query_dim: dim,
            gallery_version: gallery.model_version().to_owned(),
            gallery_dim: gallery.dim(),
        });
    }
    let side = Side::new(queries.vectors(), gallery.vectors(), dim)?;
    let judgements = Judgements::of_classes(query_labels, gallery_labels);
    Ok((side, judgements))
}

fn labels_of<'a>(
    embeddings: &'a Embeddings,
    side: &'static str,
) -> Result<&'a [u32], RetrievalError> {
    let model_version = || embeddings.model_version().to_owned();
    if embeddings.is_empty() {
        return Err(RetrievalError::Empty {
            side,
            model_version: model_version(),
        });
    }
    embeddings.labels().ok_or_else(|| RetrievalError::NoLabels {
        side,
        model_version: model_version(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn embeddings(features: Vec<f32>, dim: usize, labels: Vec<u32>) -> Embeddings {
        let ids = (0..labels.len() as u64).collect();
        Embeddings::normalized("v0001", dim, features, ids, Some(labels)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn label_values_do_not_matter(
            rows in prop::collection::vec((prop::array::uniform3(0.1f32..1.0), 0u32..3), 4..30),
        ) {
            let features: Vec<f32> = rows.iter().flat_map(|row| row.0).collect();
            let with = |rename: fn(u32) -> u32| {
                let set = embeddings(features.clone(), 3, rows.iter().map(|row| rename(row.1)).collect());
                evaluate(&set, &set).unwrap()
            };
            prop_assert_eq!(with(|label| label), with(|label| 7 + label * 1000));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn class_means_alone_are_those_of_the_whole_evaluation(
            rows in prop::collection::vec((prop::array::uniform3(-1.0f32..1.0), 0u32..4), 4..30),
        ) {
            let features: Vec<f32> = rows.iter().flat_map(|row| row.0).collect();
            let labels = |shift: u32| rows.iter().map(|row| (row.1 + shift) % 4).collect();
            let queries = embeddings(features.clone(), 3, labels(1));
            let gallery = embeddings(features, 3, labels(0));
            let whole = evaluate(&queries, &gallery).unwrap();
            prop_assert_eq!(nearest_class_means(&queries, &gallery).unwrap(), whole.per_query_ncm_correct);
        }
    }

    #[test]
    fn a_set_finds_itself() {
        let set = embeddings(vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.1], 2, vec![4, 9, 2]);
        let found = evaluate(&set, &set).unwrap();
        assert_eq!((found.ncm_top1, found.cmc1, found.map), (1.0, 1.0, 1.0));
        assert_eq!(found.per_query_ncm_correct, [true; 3]);
    }

    #[test]
    fn embeddings_that_are_missing_are_missed_or_never_found() {
        let set = |rows: &[f32], labels: Vec<u32>| {
            let ids = (0..labels.len() as u64).collect();
            Embeddings::with_missing("v", 2, rows.to_vec(), ids, Some(labels)).unwrap()
        };
        let queries = set(&[1.0, 0.0, 0.0, 0.0, 0.0, 1.0], vec![4, 4, 5]);
        let gallery = set(&[0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], vec![4, 4, 5, 6]);
        let found = evaluate(&queries, &gallery).unwrap();
        assert_eq!(found.per_query_ncm_correct, [true, false, true]);
        assert_eq!(found.queries_without_match, 1);
        // Of the two items of class 4, one can be found.
        let third = 1.0 / 3.0;
        let scores = [found.ncm_top1, found.cmc1, found.cmc10, found.map];
        for (score, expected) in
            scores
                .into_iter()
                .zip([2.0 * third, 2.0 * third, 2.0 * third, 0.5])
        {
            assert!((score - expected).abs() < 1e-6, "{found:?}");
        }
        let right = nearest_class_means(&queries, &gallery).unwrap();
        assert_eq!(right, found.per_query_ncm_correct);
    }

    #[test]
    fn a_query_without_match_is_missed() {
        let queries = embeddings(vec![1.0, 0.0, 0.0, 1.0], 2, vec![4, 5]);
        let gallery = embeddings(vec![1.0, 0.0, 0.6, 0.8], 2, vec![4, 4]);
        let found = evaluate(&queries, &gallery).unwrap();
        assert_eq!(found.queries_without_match, 1);
        assert_eq!((found.ncm_top1, found.cmc10, found.map), (0.5, 0.5, 0.5));
    }

    #[test]
    fn ties_follow_the_documented_order() {
        // Both items are equally similar; the first in the gallery ranks first, the lower label is the nearest template.
        let queries = embeddings(vec![1.0, 0.0], 2, vec![3]);
        let gallery = |labels| embeddings(vec![0.6, 0.8, 0.6, -0.8], 2, labels);
        let lower_last = evaluate(&queries, &gallery(vec![5, 3])).unwrap();
        assert_eq!(
            (lower_last.ncm_top1, lower_last.cmc1, lower_last.cmc5),
            (1.0, 0.0, 1.0)
        );
        let lower_first = evaluate(&queries, &gallery(vec![3, 1])).unwrap();
        assert_eq!((lower_first.ncm_top1, lower_first.cmc1), (0.0, 1.0));
    }

    #[test]
    fn unusable_embeddings_are_named() {
        let set = embeddings(vec![1.0, 0.0], 2, vec![1]);
        let unlabelled = Embeddings::normalized("v0002", 2, vec![1.0, 0.0], vec![0], None).unwrap();
        let error = evaluate(&set, &unlabelled).unwrap_err();
        assert_eq!(
            error,
            RetrievalError::NoLabels {
                side: "gallery",
                model_version: "v0002".to_owned()
            }
        );
        let other = embeddings(vec![1.0, 0.0, 0.0], 3, vec![1]);
        let error = evaluate(&other, &set).unwrap_err();
        assert!(matches!(
            error,
            RetrievalError::Dimensions {
                query_dim: 3,
                gallery_dim: 2,
                ..
            }
        ));
        if let Ok(empty) =
            Embeddings::normalized("v0003", 2, Vec::new(), Vec::new(), Some(Vec::new()))
        {
            assert!(matches!(
                evaluate(&empty, &set).unwrap_err(),
                RetrievalError::Empty { side: "query", .. }
            ));
        }
    }
}
