//! Whether the old encoder answers, for queries that another certified route leads without it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Code;
use crate::telemetry::Telemetry;

/// From a failure to the next query that waits for the encoder; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The last failures of an encoder behind another service.
pub(crate) struct Absence {
    failing: Mutex<Option<Failing>>,
    telemetry: Arc<Telemetry>,
}

struct Failing {
    reason: &'static str,
    /// Pauses so far.
    pauses: u32,
    until: Instant,
}

impl Absence {
    /// Nothing has failed yet.
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        Self {
            failing: Mutex::default(),
            telemetry,
        }
    }

    /// Why queries go on without the encoder at this moment. After each pause, one query asks it again; documents always do.
    pub(super) fn now(&self, now: Instant) -> Option<&'static str> {
        let mut failing = self.failing();
        let failing = failing.as_mut()?;
        if now < failing.until {
            return Some(failing.reason);
        }
        // Those that come while that one waits go on without.
        failing.pause(now);
        None
    }

    /// The same for those who ask for nothing.
    pub(super) fn is_failing(&self) -> bool {
        self.failing().is_some()
    }

    /// It answered, if only by a refusal of what was asked.
    pub(super) fn answered(&self) {
        if self.failing().take().is_some() {
            tracing::info!(
                "the old encoder answers again; queries take their best certified route"
            );
        }
    }

    /// It failed, for this [`reason`].
    pub(super) fn failed(&self, reason: &'static str, problem: &str, now: Instant) {
        let mut failing = self.failing();
        match failing.as_mut() {
            Some(failing) => failing.reason = reason,
            None => {
                tracing::error!(
                    problem,
                    "the old encoder fails: queries that another certified route leads without it take that one, documents fail"
                );
                let mut first = Failing {
                    reason,
                    pauses: 0,
                    until: now,
                };
                first.pause(now);
                *failing = Some(first);
            }
        }
    }

    /// A request was answered without it.
    pub(super) fn count(&self, reason: &'static str) {
        self.telemetry.answered_without_old(reason);
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failing {
    fn pause(&mut self, now: Instant) {
        let doubled = 1u32.checked_shl(self.pauses);
        let pause = doubled.and_then(|times| FIRST_PAUSE.checked_mul(times));
        self.until = now + pause.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
    }
}

/// What an error is called that is a failure of the service behind an encoder, and no refusal of what was asked.
pub(super) fn reason(code: Code) -> Option<&'static str> {
    match code {
        Code::UpstreamFailed => Some("upstream_failed"),
        Code::UpstreamTimeout => Some("upstream_timeout"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_query_after_each_pause_asks_again() {
        let absence = Absence::new(Arc::new(Telemetry::new()));
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(absence.now(start).is_none() && !absence.is_failing());
        absence.failed("upstream_timeout", "", start);
        assert_eq!(absence.now(at(4)), Some("upstream_timeout"));
        for (asks, then) in [(5, 14), (15, 34), (35, 74), (75, 134)] {
            assert_eq!(absence.now(at(asks)), None);
            // It fails at once, or hangs.
            absence.failed("upstream_failed", "", at(asks));
            for second in [asks, then] {
                assert_eq!(absence.now(at(second)), Some("upstream_failed"), "{second}");
            }
        }
        assert!(absence.is_failing());
        absence.answered();
        assert!(absence.now(at(135)).is_none() && !absence.is_failing());
    }
}
