//! Measures of retrieval, and of compatibility matrices.

use numpy::PyReadonlyArray2;
use perennial_core::normalize_rows;
use perennial_eval::{CompatibilityMatrix, Measure, Relevance, Test, TieRule, metrics, outcomes};
use pyo3::prelude::*;

use crate::arrays::Matrix;
use crate::classes::classes;
use crate::fail::Failure;
use crate::tags::{LabelArgument, labels};
use crate::work::without_lock;

/// The mean of each measure, in one pass; nothing where there are no scores of a measure.
#[pyfunction]
#[pyo3(signature = (names, queries, gallery, *, query_labels, gallery_labels, relevance, own))]
#[allow(clippy::too_many_arguments, reason = "keywords in Python")]
pub fn measures(
    py: Python<'_>,
    names: Vec<String>,
    queries: PyReadonlyArray2<'_, f32>,
    gallery: PyReadonlyArray2<'_, f32>,
    query_labels: Option<Vec<LabelArgument>>,
    gallery_labels: Option<Vec<LabelArgument>>,
    relevance: Option<Vec<Vec<u32>>>,
    own: Option<Vec<Option<u32>>>,
) -> PyResult<Vec<Option<f64>>> {
    let queries = Matrix::of("queries", &queries)?;
    let gallery = Matrix::of("gallery", &gallery)?;
    if queries.dim != gallery.dim {
        return Err(Failure::Argument(format!(
            "the queries have {} dimensions and the gallery {}; both must be of one encoder, or the queries bridged",
            queries.dim, gallery.dim
        ))
        .into());
    }
    let measures: Vec<Measure> = names
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, perennial_eval::MeasureError>>()
        .map_err(Failure::from)?;
    let label_classes = match (query_labels, gallery_labels) {
        (Some(queries), Some(gallery)) => Some(classes(&labels(queries)?, &labels(gallery)?)),
        _ => None,
    };
    let means = without_lock(py, || -> Result<Vec<Option<f64>>, Failure> {
        let relevance = match (&label_classes, &relevance) {
            (Some([queries, gallery]), _) => Relevance::Classes { queries, gallery },
            (None, Some(items)) => Relevance::Items(items),
            (None, None) => {
                return Err(Failure::Argument(
                    "nothing says which items are right: pass labels of queries and gallery, or relevance".to_owned(),
                ));
            }
        };
        let unit = |name: &str, rows: Matrix<'_>| -> Result<Vec<f32>, Failure> {
            let mut values = rows.values.to_vec();
            normalize_rows(&mut values, rows.dim)
                .map_err(|error| Failure::Argument(format!("{name}: {error}")))?;
            Ok(values)
        };
        let found = outcomes(&Test {
            queries: &unit("queries", queries)?,
            gallery: &unit("gallery", gallery)?,
            dim: gallery.dim,
            relevance: &relevance,
            own: own.as_deref(),
        })?;
        Ok(measures
            .iter()
            .map(|measure| measure.mean(&found))
            .collect())
    })?;
    Ok(means)
}

/// All metrics of a compatibility matrix, as the JSON of `perennial metrics --json`.
#[pyfunction]
pub fn compatibility_metrics(matrix: Vec<Vec<f64>>, ties_count: bool) -> PyResult<String> {
    let tie_rule = match ties_count {
        true => TieRule::TiesCount,
        false => TieRule::Strict,
    };
    let matrix = CompatibilityMatrix::new(matrix).map_err(Failure::from)?;
    let found = metrics(&matrix, tie_rule);
    serde_json::to_string(&found).map_err(|error| Failure::Argument(error.to_string()).into())
}
