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
    /// Of work that began at this moment, when nothing was done yet.
    pub(super) fn since(begun: Instant) -> Self {
        Self {
            begun: Some(begun),
            ..Self::default()
        }
    }

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

    /// The rate; unknown before the first items.
    pub(super) fn per_second(&mut self) -> Option<f64> {
        let now = Instant::now();
        self.forget(now);
        let time = now.duration_since(self.begun?).min(WINDOW);
        let is_known = !self.done.is_empty() || time == WINDOW;
        let items: u64 = self.done.iter().map(|(_, items)| items).sum();
        (is_known && !time.is_zero()).then(|| items as f64 / time.as_secs_f64())
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.done.front()
            && now.duration_since(*at) > WINDOW
        {
            self.done.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_before_the_first_items_counts() {
        let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
        let mut rate = RecentRate::since(ago(4));
        assert_eq!(rate.per_second(), None);
        rate.note(8);
        let found = rate.per_second().unwrap();
        assert!((1.5..=2.0).contains(&found), "{found}");
        // Nothing for a minute.
        assert_eq!(RecentRate::since(ago(61)).per_second(), Some(0.0));
        assert_eq!(RecentRate::default().per_second(), None);
    }
}
