//! Places for requests to one embedding service.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// So many requests at once, and no more.
pub(super) struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place, until it is dropped.
pub(super) struct Place<'a>(&'a Places);

impl Places {
    pub(super) fn of(count: usize) -> Self {
        Self {
            free: Mutex::new(count),
            freed: Condvar::new(),
        }
    }

    /// Waits for a place; none where none became free in time.
    pub(super) fn take(&self, deadline: Instant) -> Option<Place<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.freed.wait_timeout(free, left);
            (free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_place_is_free_again_once_it_is_dropped() {
        let places = Places::of(1);
        let now = Instant::now();
        let first = places.take(now).unwrap();
        assert!(places.take(now).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| places.take(now + Duration::from_secs(60)).is_some());
            drop(first);
            assert!(waiting.join().unwrap());
        });
        assert!(places.take(now).is_some());
    }
}
