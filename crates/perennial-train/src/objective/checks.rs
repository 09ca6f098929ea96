//! Checks of options that several methods have.

use crate::TrainError;

/// A weight of a loss: finite and at least 0.
pub(super) fn weight(key: &str, value: f64) -> Result<(), TrainError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(TrainError::config(
        &format!("method.{key}"),
        &format!("must be a finite number of at least 0, got {value}"),
    ))
}

/// A temperature, scale or margin: above 0 and at most `highest`.
pub(super) fn positive(key: &str, value: f64, highest: f64) -> Result<(), TrainError> {
    if value > 0.0 && value <= highest {
        return Ok(());
    }
    Err(TrainError::config(
        &format!("method.{key}"),
        &format!("must be above 0 and at most {highest}, got {value}"),
    ))
}

/// Whether an option has its default value, and is left out of a written configuration: the text of a configuration from before the
/// option existed stays as it was, and with it the hash by which a run recognises its own configuration.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
