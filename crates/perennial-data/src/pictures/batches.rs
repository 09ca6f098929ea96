//! Work on many files: on all cores, in order, and a little ahead.

use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

/// Batches that wait, prepared, for their turn; one more is being prepared and one is in use.
const WAITING: usize = 1;

/// Calls `prepare` for every entry on all cores, and `take` with the results, a batch at a time and in order, on this thread. While
/// `take` works on a batch the next ones are prepared, so at most three batches are in memory.
///
/// **Errors**: the first error of `take`, which ends the work.
pub fn in_batches<'e, I: Sync, T: Send, E>(
    entries: &'e [I],
    batch: usize,
    prepare: impl Fn(&'e I) -> T + Sync,
    mut take: impl FnMut(Vec<T>) -> Result<(), E>,
) -> Result<(), E> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        let prepare = &prepare;
        scope.spawn(move || {
            for entries in entries.chunks(batch.max(1)) {
                let prepared: Vec<T> = entries.par_iter().map(prepare).collect();
                // The receiver is dropped after an error.
                if sender.send(prepared).is_err() {
                    return;
                }
            }
        });
        receiver.into_iter().try_for_each(&mut take)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn results_come_in_order_and_few_are_prepared_ahead() {
        let entries: Vec<usize> = (0..1000).collect();
        let prepared = AtomicUsize::new(0);
        let mut taken = Vec::new();
        let done: Result<(), ()> = in_batches(
            &entries,
            7,
            |entry| {
                prepared.fetch_add(1, Ordering::SeqCst);
                entry * 2
            },
            |batch| {
                assert!(prepared.load(Ordering::SeqCst) <= taken.len() + 7 * (WAITING + 2));
                taken.extend(batch);
                Ok(())
            },
        );
        assert_eq!(done, Ok(()));
        assert_eq!(
            taken,
            entries.iter().map(|entry| entry * 2).collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_error_ends_the_work() {
        let entries = [0; 1000];
        let prepared = AtomicUsize::new(0);
        let done = in_batches(
            &entries,
            1,
            |_| prepared.fetch_add(1, Ordering::SeqCst),
            |_| Err("full"),
        );
        assert_eq!(done, Err("full"));
        assert!(prepared.load(Ordering::SeqCst) <= 1 + WAITING + 2);
    }
}
