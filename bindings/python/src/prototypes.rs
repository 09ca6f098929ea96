//! Prototypes of a simplex.

use numpy::PyArray2;
use perennial_core::Simplex;
use pyo3::prelude::*;

use crate::arrays::array;
use crate::fail::Failure;
use crate::work::without_lock;

/// All prototypes of the simplex in `dim` dimensions, `[dim + 1, dim]`.
#[pyfunction]
pub fn simplex_prototypes(py: Python<'_>, dim: usize) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let values = without_lock(py, || prototypes(dim))?;
    array(py, values, dim)
}

fn prototypes(dim: usize) -> Result<Vec<f32>, Failure> {
    let simplex = Simplex::new(dim.saturating_add(1))?;
    let count = simplex.vertices() * simplex.dim();
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| {
        Failure::Memory(format!(
            "{} prototypes of {dim} dimensions take {count} values of 4 bytes, which do not fit into memory",
            simplex.vertices()
        ))
    })?;
    for vertex in 0..simplex.vertices() {
        values.extend(simplex.prototype(vertex));
    }
    Ok(values)
}
