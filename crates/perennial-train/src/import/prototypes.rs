//! The simplex's prototypes, where a checkpoint holds them as a classifier.

use perennial_core::Simplex;

use crate::state_dict::{StateDict, StateTensor, WeightsError};

/// The largest difference between a stored prototype and the closed form.
const PROTOTYPE_TOLERANCE: f32 = 1e-4;

/// Removes a checkpoint's frozen simplex classifier (`fc2.weight`) after checking that it is one.
///
/// # Errors
///
/// [`WeightsError::NotSimplex`] if the stored prototypes differ from the closed form by more than 1e-4.
pub fn take_simplex_classifier(
    state: &mut StateDict,
    simplex: Simplex,
) -> Result<(), WeightsError> {
    const NAME: &str = "fc2.weight";
    match state.remove(NAME) {
        Some(stored) if !is_simplex(&stored, simplex) => Err(WeightsError::NotSimplex {
            name: NAME.into(),
            vertices: simplex.vertices(),
        }),
        _ => Ok(()),
    }
}

/// Whether a classifier's rows are the prototypes.
pub(super) fn is_simplex(stored: &StateTensor, simplex: Simplex) -> bool {
    stored.shape == [simplex.vertices(), simplex.dim()]
        && stored
            .values
            .chunks_exact(simplex.dim())
            .enumerate()
            .all(|(vertex, row)| {
                row.iter()
                    .zip(simplex.prototype(vertex))
                    .all(|(stored, exact)| (stored - exact).abs() <= PROTOTYPE_TOLERANCE)
            })
}
