//! Bridges.

use std::path::PathBuf;

use numpy::{PyArray2, PyReadonlyArray2};
use perennial_bridge::{
    Bridge, FitInputs, FitRecord, Index, Labelled, Matching, Pairs, Recipe, fit, fit_from_labels,
    fit_uncentred,
};
use perennial_core::SpaceRef;
use perennial_upgrade::{dual_weight, select};
use pyo3::prelude::*;

use crate::arrays::{Matrix, array, space_id};
use crate::classes::{check_count, classes};
use crate::fail::Failure;
use crate::moment::now;
use crate::tags::{IdArgument, LabelArgument, ids, labels};
use crate::work::without_lock;

/// A bridge from the space of a new encoder to that of an old one.
#[pyclass(frozen, name = "NativeBridge", module = "perennial._perennial")]
pub struct NativeBridge {
    pub bridge: Bridge,
}

impl From<Bridge> for NativeBridge {
    fn from(bridge: Bridge) -> Self {
        Self { bridge }
    }
}

/// A recipe, or nothing for `auto`.
pub fn recipe(kind: &str) -> Result<Option<Recipe>, Failure> {
    match kind {
        "auto" => Ok(None),
        kind => Ok(Some(kind.parse()?)),
    }
}

/// How an index is searched.
pub fn index(name: &str) -> Result<Index, Failure> {
    match name {
        "raw" => Ok(Index::Raw),
        "centred" => Ok(Index::Centred),
        _ => Err(Failure::Argument(format!(
            "index {name:?}: use \"raw\" for stored vectors as they are, or \"centred\" for ones that were centred with the bridge's mean"
        ))),
    }
}

#[pymethods]
impl NativeBridge {
    /// Fits on pairs.
    #[staticmethod]
    #[pyo3(signature = (new, old, kind, *, labels, ids, centred, seed, new_space, old_space))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn fit(
        py: Python<'_>,
        new: PyReadonlyArray2<'_, f32>,
        old: PyReadonlyArray2<'_, f32>,
        kind: &str,
        labels: Option<Vec<LabelArgument>>,
        ids: Option<Vec<IdArgument>>,
        centred: bool,
        seed: u64,
        new_space: Option<String>,
        old_space: Option<String>,
    ) -> PyResult<Self> {
        let (from, to) = (Matrix::of("new", &new)?, Matrix::of("old", &old)?);
        let spaces = [
            from.space(space_id(new_space)?.as_ref()),
            to.space(space_id(old_space)?.as_ref()),
        ];
        let labels = labels.map(self::labels).transpose()?;
        let ids = ids.map(self::ids).transpose()?;
        if let Some(labels) = &labels {
            check_count("labels", labels.len(), from.rows())?;
        }
        if let Some(ids) = &ids {
            check_count("ids", ids.len(), from.rows())?;
        }
        let recipe = recipe(kind)?;
        if recipe.is_none() && !centred {
            return Err(Failure::Argument(
                "centred=False needs a kind, such as kind=\"orthogonal\"".to_owned(),
            )
            .into());
        }
        let bridge = without_lock(py, || -> Result<Bridge, Failure> {
            // Before anything else, so that the two sides fit one another for everything below.
            let pairs = Pairs::new(from.values, from.dim, to.values, to.dim)?;
            let classes = labels.map(|labels| classes(&labels, &labels)[0].clone());
            let bridge = fit_pairs(&pairs, spaces, recipe.as_ref(), classes, centred, seed)?;
            let inputs = FitInputs::of(from.values, from.dim, to.values, to.dim)
                .with_ids(ids.iter().flatten());
            recorded(bridge, inputs, Matching::Row)
        });
        let bridge = bridge.map_err(|error| error.of_arguments(["new", "old"]))?;
        Ok(bridge.into())
    }

    /// Fits on the means of classes of different inputs.
    #[staticmethod]
    #[pyo3(signature = (new, new_labels, old, old_labels, kind, *, new_space, old_space))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn fit_labels(
        py: Python<'_>,
        new: PyReadonlyArray2<'_, f32>,
        new_labels: Vec<LabelArgument>,
        old: PyReadonlyArray2<'_, f32>,
        old_labels: Vec<LabelArgument>,
        kind: &str,
        new_space: Option<String>,
        old_space: Option<String>,
    ) -> PyResult<Self> {
        let (from, to) = (Matrix::of("new", &new)?, Matrix::of("old", &old)?);
        let recipe: Recipe = kind.parse().map_err(Failure::from)?;
        let (new_labels, old_labels) = (labels(new_labels)?, labels(old_labels)?);
        let (from_id, to_id) = (space_id(new_space)?, space_id(old_space)?);
        let bridge = without_lock(py, || -> Result<Bridge, Failure> {
            let [from_classes, to_classes] = classes(&new_labels, &old_labels);
            let bridge = fit_from_labels(
                &labelled(from, &from_classes),
                &labelled(to, &to_classes),
                &recipe,
                from.space(from_id.as_ref()),
                to.space(to_id.as_ref()),
            )?;
            let inputs = FitInputs::of(from.values, from.dim, to.values, to.dim);
            recorded(bridge, inputs, Matching::Label)
        });
        let bridge = bridge.map_err(|error| error.of_arguments(["new", "old"]))?;
        Ok(bridge.into())
    }

    /// Reads a folder.
    #[staticmethod]
    fn load(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        let bridge = without_lock(py, || Bridge::read(folder).map_err(Failure::from))?;
        Ok(bridge.into())
    }

    /// Writes a folder.
    fn save(&self, py: Python<'_>, folder: PathBuf) -> PyResult<()> {
        Ok(without_lock(py, || {
            self.bridge.write(folder).map_err(Failure::from)
        })?)
    }

    /// Maps rows.
    fn apply<'py>(
        &self,
        py: Python<'py>,
        rows: PyReadonlyArray2<'py, f32>,
        check_direction: bool,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let rows = expect_dim("x", Matrix::of("x", &rows)?, self.bridge.from())?;
        let mapped = without_lock(py, || -> Result<Vec<f32>, Failure> {
            if check_direction {
                self.bridge.check_input(rows.values)?;
            }
            let mut mapped = Vec::new();
            self.bridge.apply(rows.values, &mut mapped)?;
            Ok(mapped)
        });
        let mapped = mapped.map_err(|error| error.of_arguments(["x", "x"]))?;
        array(py, mapped, self.bridge.to().dim)
    }

    /// Dual queries.
    fn dual<'py>(
        &self,
        py: Python<'py>,
        old: PyReadonlyArray2<'py, f32>,
        new: PyReadonlyArray2<'py, f32>,
        weight: f64,
        index: &str,
        check_direction: bool,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let old = Matrix::of("old_queries", &old)?;
        let old = expect_dim("old_queries", old, self.bridge.to())?;
        let new = Matrix::of("new_queries", &new)?;
        let new = expect_dim("new_queries", new, self.bridge.from())?;
        let index = self::index(index)?;
        let queries = without_lock(py, || -> Result<Vec<f32>, Failure> {
            if check_direction {
                self.bridge.check_input(new.values)?;
            }
            let (mut queries, weight) = (Vec::new(), weight as f32);
            self.bridge
                .dual(old.values, new.values, weight, index, &mut queries)?;
            Ok(queries)
        });
        let names = ["new_queries", "old_queries"];
        let queries = queries.map_err(|error| error.of_arguments(names))?;
        array(py, queries, self.bridge.to().dim)
    }

    /// Centres stored vectors of the target.
    fn centre<'py>(
        &self,
        py: Python<'py>,
        rows: PyReadonlyArray2<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let rows = expect_dim("x", Matrix::of("x", &rows)?, self.bridge.to())?;
        let centred = without_lock(py, || -> Result<Vec<f32>, Failure> {
            let mut centred = rows.values.to_vec();
            self.bridge.centre_to(&mut centred)?;
            Ok(centred)
        });
        let centred = centred.map_err(|error| error.of_arguments(["x", "x"]))?;
        array(py, centred, self.bridge.to().dim)
    }

    /// The bridge of the other direction.
    fn inverse(&self, py: Python<'_>) -> PyResult<Self> {
        let inverse = without_lock(py, || self.bridge.inverse().map_err(Failure::from))?;
        Ok(inverse.into())
    }

    /// This bridge and another one after it.
    fn then(&self, py: Python<'_>, next: PyRef<'_, Self>) -> PyResult<Self> {
        let next = &next.bridge;
        let chain = without_lock(py, || self.bridge.then(next).map_err(Failure::from))?;
        Ok(chain.into())
    }

    /// The old query's share in dual queries.
    fn dual_weight(&self, asked: Option<f64>) -> f64 {
        dual_weight(&self.bridge, asked)
    }

    /// The fit record, as JSON.
    fn fit_record(&self) -> PyResult<String> {
        json(self.bridge.fit_record())
    }

    /// Its ends, as JSON.
    fn spaces(&self) -> PyResult<String> {
        json(&[self.bridge.from(), self.bridge.to()])
    }

    #[getter]
    fn kind(&self) -> String {
        self.bridge.describe()
    }

    #[getter]
    fn sha256(&self) -> String {
        self.bridge.sha256()
    }
}

/// Refuses rows of another dimension.
fn expect_dim<'a>(name: &str, rows: Matrix<'a>, space: &SpaceRef) -> Result<Matrix<'a>, Failure> {
    match space.accept(&rows.space(None)) {
        Ok(()) => Ok(rows),
        Err(problem) => Err(Failure::Argument(format!("{name}: {problem}"))),
    }
}

/// Rows with the numbers of their classes.
fn labelled<'a>(rows: Matrix<'a>, labels: &'a [u32]) -> Labelled<'a> {
    Labelled {
        rows: rows.values,
        dim: rows.dim,
        labels,
    }
}

/// Fits by a recipe, or by the one that finds most.
fn fit_pairs(
    pairs: &Pairs<'_>,
    [from, to]: [SpaceRef; 2],
    recipe: Option<&Recipe>,
    classes: Option<Vec<u32>>,
    centred: bool,
    seed: u64,
) -> Result<Bridge, Failure> {
    let Some(recipe) = recipe else {
        let rows = |values: &[f32], space: SpaceRef| perennial_upgrade::Rows {
            values: values.to_vec(),
            dim: space.dim,
            space,
        };
        let (from, to) = (rows(pairs.from(), from), rows(pairs.to(), to));
        return Ok(select(&from, &to, classes.as_deref(), seed)?.bridge);
    };
    let fit = if centred { fit } else { fit_uncentred };
    Ok(fit(pairs, recipe, from, to)?)
}

/// The same bridge with what is known about its fit.
fn recorded(bridge: Bridge, inputs: FitInputs, matched: Matching) -> Result<Bridge, Failure> {
    let record = FitRecord {
        matched,
        created: Some(now()),
        ..bridge.fit_record().clone()
    };
    Ok(bridge.with_fit_record(record)?.with_fit_inputs(inputs))
}

/// A value as JSON.
fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| Failure::Argument(error.to_string()).into())
}
