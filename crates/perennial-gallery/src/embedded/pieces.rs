//! Work in pieces that threads of its own take one after the other. In a pool, searches would wait for all of it.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Builder;

/// Does `count` pieces of work on at most `threads` threads, this one among them, and gives back what each of these made. Pieces are begun in
/// their order.
///
/// # Errors
/// Those of the pieces that failed, in their order, the first one's first. All pieces before that were done; others may not have been.
pub(super) fn work<T: Send, E: Send>(
    threads: usize,
    count: usize,
    begin: impl Fn() -> T + Sync,
    piece: impl Fn(&mut T, usize) -> Result<(), E> + Sync,
) -> Result<Vec<T>, Vec<E>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = || {
        let mut made = begin();
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            let unless_done = Ends(&failed);
            piece(&mut made, at).map_err(|error| (at, error))?;
            std::mem::forget(unless_done);
        }
        Ok(made)
    };
    let results = std::thread::scope(|scope| {
        // With fewer threads than wanted, the others do more.
        let others: Vec<_> = (1..threads.min(count))
            .map_while(|_| Builder::new().spawn_scoped(scope, run).ok())
            .collect();
        let mut results = vec![run()];
        for other in others {
            results.push(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    });
    let (mut made, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(one) => made.push(one),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        return Ok(made);
    }
    errors.sort_by_key(|(at, _)| *at);
    Err(errors.into_iter().map(|(_, error)| error).collect())
}

/// Ends the work of all threads where a piece fails or panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for threads in [1, 2, 7] {
            let push = |made: &mut Vec<usize>, at| -> Result<(), ()> {
                made.push(at);
                Ok(())
            };
            let made = work(threads, 100, Vec::new, push).unwrap();
            assert!(made.len() <= threads && made.iter().all(|one| one.is_sorted()));
            let mut all = made.concat();
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
        }
        assert_eq!(work(3, 0, || (), |_, _| Err(())), Ok(vec![()]));
    }

    #[test]
    fn the_first_failure_counts_and_ends_the_work() {
        for threads in [1, 4] {
            let done = AtomicUsize::new(0);
            let fail = |_: &mut (), at: usize| {
                done.fetch_add(1, Ordering::Relaxed);
                if at >= 40 { Err(at) } else { Ok(()) }
            };
            let errors = work(threads, 1_000_000, || (), fail).unwrap_err();
            assert_eq!(errors[0], 40);
            assert!(errors.is_sorted() && errors.len() <= threads);
            assert!(done.into_inner() < 1_000_000);
        }
    }

    #[test]
    fn a_panic_is_handed_on_and_ends_the_work() {
        let done = AtomicUsize::new(0);
        let piece = |_: &mut (), at: usize| -> Result<(), ()> {
            assert!(at != 3, "piece {at}");
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let work = || work(2, 50_000_000, || (), piece);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "piece 3");
        assert!(done.into_inner() < 50_000_000);
    }
}
