//! numpy arrays in and out, without copies.
//!
//! The Python half hands over arrays of float32 in C order and names the argument where it cannot; what is refused here is refused because
//! this module is called in another way.

use numpy::{
    PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArray, PyUntypedArrayMethods,
};
use perennial_core::{SpaceId, SpaceRef};
use perennial_upgrade::Rows;
use pyo3::prelude::*;

use crate::fail::Failure;

/// The values of an array, and its number of columns.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// `[n, dim]`, row by row.
    pub values: &'a [f32],
    /// At least 1.
    pub dim: usize,
}

impl<'a> Matrix<'a> {
    /// Borrows an array for the time of a call. Python must not write to it meanwhile.
    pub fn of(name: &str, array: &'a PyReadonlyArray2<'_, f32>) -> Result<Self, Failure> {
        let untyped: &Bound<'_, PyUntypedArray> = array.as_untyped();
        // `as_slice` alone would take Fortran's order as well, in which the values of a row do not lie together.
        let in_rows = untyped.is_c_contiguous();
        match (array.as_slice(), untyped.shape()) {
            (Ok(values), &[_, dim]) if in_rows && dim > 0 => Ok(Self { values, dim }),
            (_, shape) => Err(Failure::Argument(format!(
                "{name}: expected float32 in C order with at least one column, found shape {shape:?}"
            ))),
        }
    }

    /// The number of rows.
    pub fn rows(self) -> usize {
        self.values.len() / self.dim
    }

    /// A copy that knows its space.
    pub fn to_rows(self, space: Option<&SpaceId>) -> Rows {
        Rows {
            values: self.values.to_vec(),
            dim: self.dim,
            space: self.space(space),
        }
    }

    /// The space of the rows.
    pub fn space(self, id: Option<&SpaceId>) -> SpaceRef {
        SpaceRef {
            dim: self.dim,
            id: id.cloned(),
            fingerprint: None,
        }
    }
}

/// A new array that takes the values over.
///
/// **Shapes**: `values` is `[n, dim]`, row by row.
pub fn array(py: Python<'_>, values: Vec<f32>, dim: usize) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let rows = values.len() / dim.max(1);
    PyArray1::from_vec(py, values).reshape([rows, dim])
}

/// The name of a space.
pub fn space_id(name: Option<String>) -> Result<Option<SpaceId>, Failure> {
    Ok(name.map(SpaceId::new).transpose()?)
}
