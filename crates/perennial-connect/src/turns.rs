//! Turns of the writers of one process: one writes, a bounded number waits, and none for longer than a statement may take.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Writers that wait at a time. Each has a thread of its caller, and a service's threads serve its searches as well.
const MAX_WAITING: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Turns {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: bool,
    waiting: usize,
}

/// A turn; the next one begins when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for a turn, at most so long.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(crate) fn take(&self, patience: Duration) -> Result<Turn<'_>, String> {
        let mut state = self.lock();
        if state.taken && state.waiting >= MAX_WAITING {
            return Err(format!("{MAX_WAITING} writes are waiting already"));
        }
        state.waiting += 1;
        let (mut state, _) = self
            .ended
            .wait_timeout_while(state, patience, |state| state.taken)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        if state.taken {
            return Err(format!(
                "earlier writes took longer than {} s (store.timeout_seconds)",
                patience.as_secs()
            ));
        }
        state.taken = true;
        Ok(Turn(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().taken = false;
        self.0.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn one_writes_at_a_time_and_all_come_to_their_turn() {
        let turns = Turns::default();
        let (now, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let turn = turns.take(LONG).unwrap();
                    assert_eq!(now.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
        assert_eq!(done.into_inner(), 16);
    }

    #[test]
    fn no_more_wait_than_may_and_none_for_ever() {
        let turns = Turns::default();
        let turn = turns.take(LONG).unwrap();
        let problem = turns.take(Duration::from_millis(1)).unwrap_err();
        assert!(problem.contains("store.timeout_seconds"), "{problem}");
        std::thread::scope(|scope| {
            for _ in 0..MAX_WAITING {
                scope.spawn(|| turns.take(LONG).map(drop).unwrap());
            }
            while turns.lock().waiting < MAX_WAITING {
                std::thread::yield_now();
            }
            let problem = turns.take(LONG).unwrap_err();
            assert!(problem.contains("are waiting already"), "{problem}");
            drop(turn);
        });
        assert!(turns.take(Duration::ZERO).is_ok());
    }
}
