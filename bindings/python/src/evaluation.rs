//! Certificates and advice.

use numpy::PyReadonlyArray2;
use perennial_core::{SpaceId, sha256_hex};
use perennial_eval::Bootstrap;
use perennial_formats::Label;
use perennial_upgrade::{
    CertificateRequest, DEFAULT_WEIGHT, Demands, EvaluationData, FitPairs, Names, Question, Rates,
    Route, Search, Source, Sources, Truth, dual_weight,
};
use pyo3::prelude::*;

use crate::arrays::{Matrix, space_id};
use crate::bridge::{NativeBridge, index, recipe};
use crate::classes::{check_count, classes};
use crate::fail::Failure;
use crate::moment::now;
use crate::tags::{LabelArgument, labels};
use crate::work::without_lock;

/// An evaluation set, and inputs to fit bridges on. The arrays are copied, since every way to search changes its vectors.
#[pyclass(frozen, module = "perennial._perennial")]
pub struct Evaluation {
    data: EvaluationData,
    pairs: Option<FitPairs>,
    sources: Sources,
}

#[pymethods]
impl Evaluation {
    #[new]
    #[pyo3(signature = (
        old_queries, old_gallery, new_queries, new_gallery, *, query_labels, gallery_labels, relevance, own, fit_new, fit_old, fit_labels,
        new_space, old_space
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn new(
        py: Python<'_>,
        old_queries: PyReadonlyArray2<'_, f32>,
        old_gallery: PyReadonlyArray2<'_, f32>,
        new_queries: PyReadonlyArray2<'_, f32>,
        new_gallery: Option<PyReadonlyArray2<'_, f32>>,
        query_labels: Option<Vec<LabelArgument>>,
        gallery_labels: Option<Vec<LabelArgument>>,
        relevance: Option<Vec<Vec<u32>>>,
        own: Option<Vec<Option<u32>>>,
        fit_new: Option<PyReadonlyArray2<'_, f32>>,
        fit_old: Option<PyReadonlyArray2<'_, f32>>,
        fit_labels: Option<Vec<LabelArgument>>,
        new_space: Option<String>,
        old_space: Option<String>,
    ) -> PyResult<Self> {
        let given = Given {
            old_queries: Matrix::of("old_queries", &old_queries)?,
            old_gallery: Matrix::of("old_gallery", &old_gallery)?,
            new_queries: Matrix::of("new_queries", &new_queries)?,
            new_gallery: matrix("new_gallery", &new_gallery)?,
            fit_new: matrix("fit_new", &fit_new)?,
            fit_old: matrix("fit_old", &fit_old)?,
            query_labels: query_labels.map(labels).transpose()?,
            gallery_labels: gallery_labels.map(labels).transpose()?,
            fit_labels: fit_labels.map(labels).transpose()?,
            relevance,
            own,
            new_space: space_id(new_space)?,
            old_space: space_id(old_space)?,
        };
        Ok(without_lock(py, || given.evaluation())?)
    }

    /// A certificate, as JSON.
    #[pyo3(signature = (
        bridge, *, route, weight, index, kind, min_margin, max_negative_flips, alpha, resamples, seed
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn certify(
        &self,
        py: Python<'_>,
        bridge: Option<PyRef<'_, NativeBridge>>,
        route: Option<&str>,
        weight: Option<f64>,
        index: &str,
        kind: &str,
        min_margin: f64,
        max_negative_flips: Option<f64>,
        alpha: f64,
        resamples: usize,
        seed: u64,
    ) -> PyResult<String> {
        let bootstrap = Bootstrap::limited(resamples, seed).map_err(Failure::from)?;
        let demands = Demands::checked(min_margin, max_negative_flips, alpha, bootstrap)
            .map_err(Failure::from)?;
        let asked = self::index(index)?;
        let has_bridge = bridge.is_some() || self.pairs.is_some();
        let route = self.route(route, has_bridge, weight)?;
        let recipe = recipe(kind)?;
        let given = bridge.as_ref().map(|given| &given.bridge);
        let certificate = without_lock(py, || -> Result<_, Failure> {
            let fitted = match (given, &self.pairs) {
                (None, Some(pairs)) => Some(pairs.fit(route, recipe.as_ref(), seed)?),
                _ => None,
            };
            let bridge = given.or(fitted.as_ref());
            let route = match (route, bridge) {
                (Route::Dual { .. }, Some(bridge)) => Route::Dual {
                    weight: dual_weight(bridge, weight),
                },
                (route, _) => route,
            };
            let request = CertificateRequest {
                data: &self.data,
                search: Search {
                    route,
                    index: route.index(asked),
                    bridge,
                },
                demands,
                sources: self.sources.clone(),
                created: now(),
            };
            Ok(request.run()?)
        })?;
        Ok(certificate.to_json())
    }

    /// Advice, as JSON. `progress` is called with what is being measured.
    #[pyo3(signature = (
        *, items, items_per_second, price_per_thousand, min_margin, max_negative_flips, alpha, resamples, seed, progress
    ))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn advise(
        &self,
        py: Python<'_>,
        items: Option<u64>,
        items_per_second: Option<f64>,
        price_per_thousand: Option<f64>,
        min_margin: f64,
        max_negative_flips: Option<f64>,
        alpha: f64,
        resamples: usize,
        seed: u64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<String> {
        let bootstrap = Bootstrap::limited(resamples, seed).map_err(Failure::from)?;
        let demands = Demands::checked(min_margin, max_negative_flips, alpha, bootstrap)
            .map_err(Failure::from)?;
        let rates = Rates {
            items,
            items_per_second: positive("items_per_second", items_per_second)?,
            price_per_thousand: positive("price_per_thousand", price_per_thousand)?,
        };
        let question = Question {
            data: &self.data,
            fit: self.pairs.as_ref(),
            demands,
            rates,
            sources: self.sources.clone(),
            created: now(),
        };
        let said = |step: &str| -> Result<(), Failure> {
            Python::attach(|py| {
                if let Some(progress) = &progress {
                    progress.call1(py, (step,))?;
                }
                // Ctrl-C ends the work between two steps.
                Ok(py.check_signals()?)
            })
        };
        let advice = without_lock(py, || question.answer(said))?;
        Ok(advice.to_json())
    }
}

impl Evaluation {
    /// The route by name; its weight is decided with the bridge.
    fn route(
        &self,
        name: Option<&str>,
        has_bridge: bool,
        weight: Option<f64>,
    ) -> Result<Route, Failure> {
        let usual = if has_bridge { "bridged" } else { "own" };
        let name = name.unwrap_or(usual);
        let route = match name {
            "own" => Route::Own,
            "bridged" => Route::Bridged,
            "dual" => Route::Dual {
                weight: DEFAULT_WEIGHT,
            },
            "mapped" => Route::Mapped,
            _ => {
                return Err(Failure::Argument(format!(
                    "route {name:?}: use \"own\", \"bridged\", \"dual\" or \"mapped\""
                )));
            }
        };
        if route == Route::Own && has_bridge {
            return Err(Failure::Argument(
                "route \"own\" uses no bridge: leave out the bridge and the pairs to fit one on"
                    .to_owned(),
            ));
        }
        if let Some(weight) = weight {
            if !matches!(route, Route::Dual { .. }) {
                return Err(Failure::Argument(
                    "weight is for dual queries: pass route=\"dual\"".to_owned(),
                ));
            }
            if !(0.0..=1.0).contains(&weight) {
                return Err(perennial_bridge::BridgeError::Weight { weight }.into());
            }
        }
        Ok(route)
    }
}

/// What was passed, before it is known to fit together.
struct Given<'a> {
    old_queries: Matrix<'a>,
    old_gallery: Matrix<'a>,
    new_queries: Matrix<'a>,
    new_gallery: Option<Matrix<'a>>,
    fit_new: Option<Matrix<'a>>,
    fit_old: Option<Matrix<'a>>,
    query_labels: Option<Vec<Label>>,
    gallery_labels: Option<Vec<Label>>,
    fit_labels: Option<Vec<Label>>,
    relevance: Option<Vec<Vec<u32>>>,
    own: Option<Vec<Option<u32>>>,
    new_space: Option<SpaceId>,
    old_space: Option<SpaceId>,
}

impl Given<'_> {
    fn evaluation(self) -> Result<Evaluation, Failure> {
        self.check()?;
        let mut truth_sources = Vec::new();
        let mut truths = Vec::new();
        let mut class_names = Vec::new();
        if let (Some(queries), Some(gallery)) = (&self.query_labels, &self.gallery_labels) {
            let truth = Truth::of_labels(queries, gallery);
            class_names = truth.class_names(queries, gallery);
            truths.push(truth);
            truth_sources.push(label_source("query_labels", queries));
            truth_sources.push(label_source("gallery_labels", gallery));
        }
        if let Some(relevant) = &self.relevance {
            let mut sorted = relevant.clone();
            for items in &mut sorted {
                items.sort_unstable();
                items.dedup();
            }
            let text = format!("{sorted:?}");
            truth_sources.push(source("relevance", text.as_bytes(), sorted.len()));
            truths.push(Truth::Items(sorted));
        }
        let pairs = match (self.fit_new, self.fit_old) {
            (Some(new), Some(old)) => Some(FitPairs {
                new: new.to_rows(self.new_space.as_ref()),
                old: old.to_rows(self.old_space.as_ref()),
                ids: None,
                labels: self
                    .fit_labels
                    .as_ref()
                    .map(|labels| classes(labels, labels)[0].clone()),
            }),
            _ => None,
        };
        let fitted = [("fit_new", self.fit_new), ("fit_old", self.fit_old)];
        let sources = Sources {
            old_queries: Some(row_source("old_queries", self.old_queries)),
            old_gallery: Some(row_source("old_gallery", self.old_gallery)),
            new_queries: Some(row_source("new_queries", self.new_queries)),
            new_gallery: self.new_gallery.map(|rows| row_source("new_gallery", rows)),
            truth: truth_sources,
            fit: fitted
                .into_iter()
                .filter_map(|(name, rows)| Some(row_source(name, rows?)))
                .collect(),
        };
        let (new, old) = (self.new_space.as_ref(), self.old_space.as_ref());
        let data = EvaluationData {
            old_queries: self.old_queries.to_rows(old),
            old_gallery: self.old_gallery.to_rows(old),
            new_queries: self.new_queries.to_rows(new),
            new_gallery: self.new_gallery.map(|rows| rows.to_rows(new)),
            truths,
            own: self.own,
            names: Names {
                classes: class_names,
                ..Names::default()
            },
        };
        Ok(Evaluation {
            data,
            pairs,
            sources,
        })
    }

    /// Refuses arrays that do not belong together, before rows are looked up by the position of others.
    fn check(&self) -> Result<(), Failure> {
        let (queries, items) = (self.old_queries.rows(), self.old_gallery.rows());
        for (name, rows) in [("old_queries", queries), ("old_gallery", items)] {
            if rows == 0 {
                return Err(Failure::Argument(format!("{name}: has no rows")));
            }
        }
        same_rows("new_queries", self.new_queries, "old_queries", queries)?;
        same_encoder(
            "old_queries",
            self.old_queries,
            "old_gallery",
            self.old_gallery,
        )?;
        if let Some(new_gallery) = self.new_gallery {
            same_rows("new_gallery", new_gallery, "old_gallery", items)?;
            same_encoder("new_queries", self.new_queries, "new_gallery", new_gallery)?;
        }
        match (&self.query_labels, &self.gallery_labels) {
            (Some(of_queries), Some(of_gallery)) => {
                check_count("query_labels", of_queries.len(), queries)?;
                check_count("gallery_labels", of_gallery.len(), items)?;
            }
            (None, None) => {}
            _ => {
                return Err(Failure::Argument(
                    "labels are needed for queries and gallery: pass query_labels and gallery_labels".to_owned(),
                ));
            }
        }
        if let Some(relevant) = &self.relevance {
            check_count("relevance", relevant.len(), queries)?;
            check_positions("relevance", relevant.iter().enumerate(), items)?;
        }
        if let Some(own) = &self.own {
            check_count("own", own.len(), queries)?;
            let own = own.iter().map(Option::as_slice).enumerate();
            check_positions("own", own, items)?;
        }
        match (self.fit_new, self.fit_old) {
            (Some(new), Some(old)) => {
                same_rows("fit_new", new, "fit_old", old.rows())?;
                same_encoder("fit_new", new, "new_queries", self.new_queries)?;
                same_encoder("fit_old", old, "old_queries", self.old_queries)?;
                if let Some(labels) = &self.fit_labels {
                    check_count("fit_labels", labels.len(), new.rows())?;
                }
                Ok(())
            }
            (None, None) => Ok(()),
            _ => Err(Failure::Argument(
                "a bridge is fitted on pairs: pass fit_new and fit_old".to_owned(),
            )),
        }
    }
}

fn matrix<'a>(
    name: &str,
    array: &'a Option<PyReadonlyArray2<'_, f32>>,
) -> Result<Option<Matrix<'a>>, Failure> {
    array
        .as_ref()
        .map(|array| Matrix::of(name, array))
        .transpose()
}

fn positive(name: &str, value: Option<f64>) -> Result<Option<f64>, Failure> {
    match value {
        Some(value) if !(value.is_finite() && value > 0.0) => Err(Failure::Argument(format!(
            "{name} {value}: use a number above 0"
        ))),
        value => Ok(value),
    }
}

fn same_rows(name: &str, found: Matrix<'_>, other: &str, rows: usize) -> Result<(), Failure> {
    if found.rows() == rows {
        return Ok(());
    }
    Err(Failure::Argument(format!(
        "{name} has {} rows and {other} has {rows}; both must be of the same inputs in the same order",
        found.rows()
    )))
}

fn same_encoder(
    name: &str,
    found: Matrix<'_>,
    other: &str,
    expected: Matrix<'_>,
) -> Result<(), Failure> {
    if found.dim == expected.dim {
        return Ok(());
    }
    Err(Failure::Argument(format!(
        "{name} has {} dimensions and {other} has {}; both must be embeddings of one encoder",
        found.dim, expected.dim
    )))
}

fn check_positions<P: AsRef<[u32]>>(
    name: &str,
    positions: impl Iterator<Item = (usize, P)>,
    items: usize,
) -> Result<(), Failure> {
    for (query, positions) in positions {
        let outside = |position: &&u32| **position as usize >= items;
        if let Some(position) = positions.as_ref().iter().find(outside) {
            return Err(Failure::Argument(format!(
                "{name} of query {query}: position {position} is outside the gallery of {items} items (positions count from 0)"
            )));
        }
    }
    Ok(())
}

fn source(name: &str, bytes: &[u8], rows: usize) -> Source {
    Source {
        name: name.to_owned(),
        sha256: sha256_hex(bytes),
        rows: rows as u64,
    }
}

/// Of an array, the hash of its values as little-endian float32, row by row.
fn row_source(name: &str, rows: Matrix<'_>) -> Source {
    let bytes: Vec<u8> = rows
        .values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    source(name, &bytes, rows.rows())
}

/// Of labels, the hash of a file with one on each line.
fn label_source(name: &str, labels: &[Label]) -> Source {
    let text: String = labels.iter().map(|label| format!("{label}\n")).collect();
    source(name, text.as_bytes(), labels.len())
}
