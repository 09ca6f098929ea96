//! Files that results are written to.

use std::path::PathBuf;

use perennial_core::write_atomically;
use pyo3::prelude::*;

use crate::fail::Failure;
use crate::work::without_lock;

/// Writes a text as a whole or not at all, and durably.
#[pyfunction]
pub fn write_text(py: Python<'_>, path: PathBuf, text: &str) -> PyResult<()> {
    let written = without_lock(py, || write_atomically(path, text));
    Ok(written.map_err(Failure::System)?)
}
