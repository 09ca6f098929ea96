//! How many read at a time.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Places for readers. Writers come one after another and have one besides.
#[derive(Debug)]
pub(super) struct Places {
    free: Mutex<usize>,
    left: Condvar,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Places);

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self {
            free: Mutex::new(count),
            left: Condvar::new(),
        }
    }

    /// Waits for a place, at most so long.
    pub(super) fn take(&self, patience: Duration) -> Option<Place<'_>> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut free, _) = self
            .left
            .wait_timeout_while(free, patience, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        if *free == 0 {
            return None;
        }
        *free -= 1;
        Some(Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_so_many() {
        let places = Places::new(2);
        let first = places.take(Duration::ZERO).unwrap();
        let _second = places.take(Duration::ZERO).unwrap();
        assert!(places.take(Duration::from_millis(1)).is_none());
        drop(first);
        assert!(places.take(Duration::ZERO).is_some());
    }
}
