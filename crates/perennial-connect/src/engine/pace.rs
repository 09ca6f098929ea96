//! Rows per second, and the end by Ctrl-C.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::ConnectError;
use crate::observer::Observer;

/// How long a wait goes on before the observer is asked again.
const ATTENTION: Duration = Duration::from_millis(100);

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
            let due = self.next.max(Instant::now() - Duration::from_secs(1));
            // More rows than a batch can hold at a rate above 0 make at most some hours.
            self.next =
                due + Duration::try_from_secs_f64(rows as f64 / rate).unwrap_or(Duration::MAX / 4);
        }
        self.until(self.next, observer).await
    }

    /// Waits for a while.
    ///
    /// # Errors
    /// Those of [`after`](Self::after).
    pub(crate) async fn rest(
        &self,
        time: Duration,
        observer: &dyn Observer,
    ) -> Result<(), ConnectError> {
        self.until(Instant::now() + time, observer).await
    }

    async fn until(&self, moment: Instant, observer: &dyn Observer) -> Result<(), ConnectError> {
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
}
