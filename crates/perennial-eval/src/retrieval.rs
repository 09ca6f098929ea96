//! Retrieval metrics of one query model on one gallery.

use perennial_core::Embeddings;
use serde::{Deserialize, Serialize};

use crate::outcomes::{nearest_classes, score};
use crate::relevance::Judgements;
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
    /// Queries whose label no gallery item has; they can only be missed.
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
/// No item is excluded from the gallery: a query that is also a gallery item finds itself.
///
/// **Shapes.** Queries `[n, d]` and gallery `[m, d]`, labelled.
///
/// **Source.** Evaluation of CL²R and IAM-CL²R (class means), Market-1501 practice (CMC, mAP).
///
/// # Errors
/// [`RetrievalError`] where labels are missing, a side is empty or the dimensions differ.
pub fn evaluate(queries: &Embeddings, gallery: &Embeddings) -> Result<Retrieval, RetrievalError> {
    let (side, judgements) = labelled(queries, gallery)?;
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
    Ok(nearest_classes(side, &judgements, None).expect("there are classes"))
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
