//! How long work is tried again that a server's trouble breaks off.

use std::time::{Duration, Instant};

use super::access::Engine;
use super::pace::rest;
use crate::error::ConnectError;
use crate::observer::Observer;

/// How long a server that is gone is tried again, counted from the last progress.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// The first pause before another try.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Tries after trouble: pauses that grow, for a bounded time without progress.
#[derive(Debug)]
pub(crate) struct Patience {
    most: Duration,
    since: Option<Instant>,
    pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self::of(PATIENCE)
    }
}

impl Patience {
    /// Tries for so long.
    pub(crate) fn of(most: Duration) -> Self {
        Self {
            most,
            since: None,
            pause: FIRST_PAUSE,
        }
    }

    /// The work went on: trouble that comes next is new.
    pub(crate) fn progress(&mut self) {
        self.since = None;
        self.pause = FIRST_PAUSE;
    }

    /// Whether the last try failed.
    pub(crate) fn in_trouble(&self) -> bool {
        self.since.is_some()
    }

    /// How long to wait after a failure of this moment; nothing once it was tried for long enough.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let since = match self.since {
            None => *self.since.insert(now),
            Some(since) if now - since >= self.most => return None,
            Some(since) => {
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                since
            }
        };
        Some(self.pause.min(self.most.saturating_sub(now - since)))
    }

    /// Says what went wrong and waits until the next try.
    ///
    /// # Errors
    /// The error itself, once it was tried for long enough; [`ConnectError::Interrupted`] when the observer stops the work.
    pub(crate) async fn wait(
        &mut self,
        error: ConnectError,
        observer: &mut dyn Observer,
    ) -> Result<(), ConnectError> {
        let Some(mut pause) = self.pause(Instant::now()) else {
            return Err(error);
        };
        if let ConnectError::Throttled {
            after: Some(after), ..
        } = error
        {
            pause = pause.max(after);
        }
        observer.note(&format!(
            "{error}; trying again in {:.1} s",
            pause.as_secs_f64()
        ));
        rest(pause, observer).await
    }

    /// As [`wait`](Self::wait), for an error that may pass.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait), and every error that does not pass by itself.
    pub(crate) async fn after(
        &mut self,
        error: ConnectError,
        observer: &mut dyn Observer,
    ) -> Result<(), ConnectError> {
        match error.may_pass() {
            true => self.wait(error, observer).await,
            false => Err(error),
        }
    }

    /// Opens what broke, until it is there again.
    ///
    /// # Errors
    /// Those of [`after`](Self::after).
    pub(crate) async fn reconnect<E: Engine>(
        &mut self,
        engine: &mut E,
        observer: &mut dyn Observer,
    ) -> Result<(), ConnectError> {
        while let Err(error) = engine.reconnect().await {
            self.after(error, observer).await?;
        }
        Ok(())
    }
}

/// Does work that only reads, from its start again where the connection breaks.
///
/// # Errors
/// Those of the work, which is tried for [`PATIENCE`].
pub(crate) async fn again<E: Engine, T>(
    engine: &mut E,
    observer: &mut dyn Observer,
    mut work: impl AsyncFnMut(&mut E) -> Result<T, ConnectError>,
) -> Result<T, ConnectError> {
    let mut patience = Patience::default();
    loop {
        match work(engine).await {
            Err(error) => patience.after(error, observer).await?,
            done => return done,
        }
        patience.reconnect(engine, observer).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut patience = Patience::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        while let Some(pause) = patience.pause(now) {
            pauses.push(pause.as_secs_f64());
            now += pause;
        }
        assert_eq!(pauses[..7], [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]);
        // The last try comes when the time is over, and not later.
        assert_eq!(pauses.iter().sum::<f64>(), PATIENCE.as_secs_f64());
        assert!(patience.in_trouble());
        patience.progress();
        assert!(!patience.in_trouble());
        assert_eq!(patience.pause(now), Some(FIRST_PAUSE));
        // Without patience, once more at once.
        let mut none = Patience::of(Duration::ZERO);
        assert_eq!(none.pause(now), Some(Duration::ZERO));
        assert_eq!(none.pause(now), None);
    }
}
