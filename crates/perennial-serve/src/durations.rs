//! Times in settings.

use std::time::Duration;

/// No setting needs a longer time than a week.
pub(crate) const MAX_SECONDS: f64 = 7.0 * 86_400.0;

/// A setting in seconds, which [`ServeConfig::check`](crate::ServeConfig::check) has bounded.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value.clamp(0.0, MAX_SECONDS))
}
