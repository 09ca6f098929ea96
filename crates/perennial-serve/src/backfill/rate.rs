//! Items per second of the last minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

/// What was done when.
#[derive(Default)]
pub(super) struct RecentRate {
    done: VecDeque<(Instant, u64)>,
    begun: Option<Instant>,
}

impl RecentRate {
    /// Items that are done now.
    pub(super) fn note(&mut self, items: u64) {
        let now = Instant::now();
        self.begun.get_or_insert(now);
        match self.done.back_mut() {
            // One entry a second is enough.
            Some((at, sum)) if now.duration_since(*at) < Duration::from_secs(1) => *sum += items,
            _ => self.done.push_back((now, items)),
        }
        self.forget(now);
    }

    /// The rate; unknown at first.
    pub(super) fn per_second(&mut self) -> Option<f64> {
        let now = Instant::now();
        self.forget(now);
        let seconds = now.duration_since(self.begun?).min(WINDOW).as_secs_f64();
        let items: u64 = self.done.iter().map(|(_, items)| items).sum();
        (seconds > 0.0).then(|| items as f64 / seconds)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.done.front()
            && now.duration_since(*at) > WINDOW
        {
            self.done.pop_front();
        }
    }
}
