//! The native half of the Python package `perennial`: it checks arguments, lets go of the interpreter's lock, and calls the crates that
//! hold the rules. `python/perennial/` is the half that users see.

use pyo3::prelude::*;

mod arrays;
mod bridge;
mod classes;
mod evaluation;
mod evaluation_measures;
mod fail;
mod files;
mod moment;
mod prototypes;
mod tags;
mod work;

/// Bridges, certificates, advice and measures.
#[pymodule]
fn _perennial(module: &Bound<'_, PyModule>) -> PyResult<()> {
    work::loaded();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add(
        "PerennialError",
        module.py().get_type::<fail::PerennialError>(),
    )?;
    module.add_class::<bridge::NativeBridge>()?;
    module.add_class::<evaluation::Evaluation>()?;
    module.add_function(wrap_pyfunction!(evaluation_measures::measures, module)?)?;
    module.add_function(wrap_pyfunction!(
        evaluation_measures::compatibility_metrics,
        module
    )?)?;
    module.add_function(wrap_pyfunction!(prototypes::simplex_prototypes, module)?)?;
    module.add_function(wrap_pyfunction!(files::write_text, module)?)?;
    Ok(())
}
