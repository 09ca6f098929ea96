//! Times in settings.

use std::time::Duration;

/// No setting needs a longer time than a week.
pub(crate) const MAX_SECONDS: f64 = 7.0 * 86_400.0;

/// A setting in seconds, which [`ServeConfig::check`](crate::ServeConfig::check) has bounded.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value.clamp(0.0, MAX_SECONDS))
}

/// From canaries that could not be embedded to the next time: that a service was away for a moment is no reason to say so for hours, nor to notice a
/// change of its model hours later.
const CANARIES_AGAIN: Duration = Duration::from_secs(60);

/// From one time that canaries were embedded to the next.
pub(crate) fn until_next_canaries(every: Duration, embedded: bool) -> Duration {
    match embedded {
        true => every,
        false => every.min(CANARIES_AGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_that_could_not_be_embedded_do_not_wait_for_their_turn() {
        let (short, long) = (Duration::from_secs(5), Duration::from_secs(3600));
        assert_eq!(until_next_canaries(long, true), long);
        assert_eq!(until_next_canaries(long, false), CANARIES_AGAIN);
        assert_eq!(until_next_canaries(short, false), short);
    }
}
