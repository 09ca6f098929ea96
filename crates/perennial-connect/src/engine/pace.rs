//! Rows per second, and the end by Ctrl-C.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::ConnectError;
use crate::observer::Observer;

/// How long a wait goes on before the observer is asked again.
const ATTENTION: Duration = Duration::from_millis(100);

/// No rows are waited for longer, whatever the rate: a moment can lie only so far ahead.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Keeps work below a rate. Time that was lost is not made up for: no burst follows a pause.
pub(crate) struct Pace {
    rate: Option<f64>,
    next: Instant,
}

impl Pace {
    /// `rate` is in rows per second.
    ///
    /// # Errors
    /// A rate that is not above 0.
    pub(crate) fn new(rate: Option<f64>) -> Result<Self, ConnectError> {
        if rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
            return Err(ConnectError::Usage(
                "the rate must be above 0 rows per second".to_owned(),
            ));
        }
        Ok(Self {
            rate,
            next: Instant::now(),
        })
    }

    /// Waits after rows until the next ones may follow.
    ///
    /// # Errors
    /// [`ConnectError::Interrupted`] when the observer stops the work.
    pub(crate) async fn after(
        &mut self,
        rows: usize,
        observer: &dyn Observer,
    ) -> Result<(), ConnectError> {
        if let Some(rate) = self.rate {
            self.next = next(self.next, Instant::now(), rows, rate);
        }
        until(self.next, observer).await
    }
}

/// Waits for a while.
///
/// # Errors
/// [`ConnectError::Interrupted`] when the observer stops the work.
pub(crate) async fn rest(time: Duration, observer: &dyn Observer) -> Result<(), ConnectError> {
    until(Instant::now() + time, observer).await
}

async fn until(moment: Instant, observer: &dyn Observer) -> Result<(), ConnectError> {
    loop {
        if observer.stopped() {
            return Err(ConnectError::Interrupted);
        }
        let now = Instant::now();
        if now >= moment {
            return Ok(());
        }
        tokio::time::sleep_until(moment.min(now + ATTENTION)).await;
    }
}

/// When further rows may follow, after so many: their time later than the moment that was due, or than a second before now where that has passed
/// long ago.
fn next(due: Instant, now: Instant, rows: usize, rate: f64) -> Instant {
    let from = due.max(now - Duration::from_secs(1));
    let wait = Duration::try_from_secs_f64(rows as f64 / rate);
    from + wait.map_or(LONGEST, |wait| wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches by a clock that the test moves: each takes some time of its own, and then waits as long as the pace says.
    fn admitted(rate: f64, batches: &[(usize, f64)]) -> Vec<(f64, usize)> {
        // Far enough from the start of the clock that a second before is a moment too.
        let start = Instant::now() + Duration::from_secs(10);
        let (mut now, mut due, mut rows) = (start, start, 0);
        let mut moments = Vec::new();
        for &(batch, seconds) in batches {
            now += Duration::from_secs_f64(seconds);
            rows += batch;
            due = next(due, now, batch, rate);
            now = now.max(due);
            moments.push(((now - start).as_secs_f64(), rows));
        }
        moments
    }

    #[test]
    fn no_rate_makes_a_moment_that_cannot_be_told() {
        let now = Instant::now() + Duration::from_secs(10);
        for rate in [1e-300, 1e-19, 5e-19] {
            assert_eq!(next(now, now, 1, rate) - now, LONGEST, "{rate}");
        }
    }

    #[test]
    fn no_more_rows_than_the_rate_pass_in_any_time() {
        // Quick batches, slow ones, a long pause, and quick ones after it.
        let mut batches = vec![(50, 0.01); 40];
        batches.extend([(50, 0.4), (50, 2.0), (7, 30.0)]);
        batches.extend(vec![(50, 0.0); 40]);
        let moments = admitted(100.0, &batches);
        for (place, &(from, before)) in moments.iter().enumerate() {
            for &(to, rows) in &moments[place..] {
                // What a second's delay before may be made up for, and nothing more.
                let most = 100.0 * (to - from) + 100.0 + 1e-6;
                assert!(
                    (rows - before) as f64 <= most,
                    "{rows} - {before} in {to} - {from}"
                );
            }
        }
        // Where nothing delays it, it is the rate.
        let (seconds, rows) = moments[39];
        assert!(
            (rows as f64 / seconds - 100.0).abs() < 1e-6,
            "{rows} in {seconds}"
        );
    }
}
