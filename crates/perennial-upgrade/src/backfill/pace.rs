//! The most items per second that a backfill was allowed.

use std::time::{Duration, Instant};

/// Items per second that can be asked for: at least one in about a quarter of an hour. What is to be slower is paused.
pub(super) const MIN_RATE: f64 = 1e-3;
/// The most.
pub(super) const MAX_RATE: f64 = 1e6;

/// No wait is longer, whatever is asked for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Says whether a number of items per second can be meant.
pub(super) fn check_rate(rate: f64) -> Result<(), String> {
    match (MIN_RATE..=MAX_RATE).contains(&rate) {
        true => Ok(()),
        false => Err(format!(
            "must be at least {MIN_RATE} and at most {MAX_RATE}, got {rate}"
        )),
    }
}

/// When the next items may follow, after some that were begun at a moment, at so many items per second.
pub fn next_items_at(begun: Instant, items: usize, rate: f64) -> Instant {
    let wait = Duration::try_from_secs_f64(items as f64 / rate);
    let wait = wait.map_or(LONGEST, |wait| wait.min(LONGEST));
    begun.checked_add(wait).unwrap_or(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_follow_at_their_rate() {
        let begun = Instant::now();
        let wait = |items, rate| next_items_at(begun, items, rate) - begun;
        assert_eq!(wait(8, 4.0), Duration::from_secs(2));
        assert_eq!(wait(1, MIN_RATE), Duration::from_secs(1000));
        assert_eq!(wait(0, 4.0), Duration::ZERO);
    }

    #[test]
    fn no_rate_makes_a_moment_that_cannot_be_told() {
        let begun = Instant::now();
        for rate in [1e-300, 5e-19, 1e-10, 0.0, -1.0, f64::NAN] {
            assert_eq!(next_items_at(begun, 1, rate) - begun, LONGEST, "{rate}");
        }
    }

    #[test]
    fn rates_have_bounds() {
        for rate in [MIN_RATE, 0.5, MAX_RATE] {
            check_rate(rate).unwrap();
        }
        for rate in [0.0, -1.0, 1e-300, 9e-4, 1e9, f64::NAN, f64::INFINITY] {
            let problem = check_rate(rate).unwrap_err();
            assert!(problem.contains("at least 0.001"), "{problem}");
        }
    }
}
