//! Buffers that are used again: a fresh one is zeroed, and often its pages are mapped, only for every value to be written over.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

/// Buffers that are asked for until the largest need of the recent past is looked at anew.
const WINDOW: usize = 1 << 14;

struct Pool {
    /// Those that wait for use, the longest waiting first.
    kept: Vec<Vec<f32>>,
    /// Their values.
    kept_values: usize,
    /// How many of each length are out, so that nothing is kept but what came from here.
    out: BTreeMap<usize, usize>,
    /// Values given out and not come back since the window began; those that never come back are forgotten with the window.
    needed: usize,
    /// The most of them at a time, in this window and in the one before.
    most_needed: [usize; 2],
    /// Buffers asked for in this window.
    asked: usize,
}

impl Pool {
    const fn new() -> Self {
        Self {
            kept: Vec::new(),
            kept_values: 0,
            out: BTreeMap::new(),
            needed: 0,
            most_needed: [0; 2],
            asked: 0,
        }
    }

    /// A kept buffer, if there is one of that length.
    fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        *self.out.entry(len).or_default() += 1;
        self.asked += 1;
        if self.asked == WINDOW {
            self.asked = 0;
            self.needed = 0;
            self.most_needed = [0, self.most_needed[0]];
        }
        self.needed += len;
        self.most_needed[0] = self.most_needed[0].max(self.needed);
        let at = self.kept.iter().rposition(|kept| kept.len() == len)?;
        self.kept_values -= len;
        Some(self.kept.remove(at))
    }

    /// Keeps a buffer that came from here, and gives others back: any that did not, and the longest waiting of those that are kept
    /// beyond the most that was needed at a time and half as much. What is needed at a time is never needed of all lengths.
    fn put(&mut self, buffer: Vec<f32>) -> Vec<Vec<f32>> {
        let len = buffer.len();
        let Some(out) = self.out.get_mut(&len) else {
            return vec![buffer];
        };
        *out -= 1;
        if *out == 0 {
            self.out.remove(&len);
        }
        self.needed = self.needed.saturating_sub(len);
        self.kept.push(buffer);
        self.kept_values += len;
        let [now, before] = self.most_needed;
        let most = now.max(before);
        let mut count = 0;
        while self.kept_values > most + most / 2 {
            self.kept_values -= self.kept[count].len();
            count += 1;
        }
        self.kept.drain(..count).collect()
    }
}

/// A buffer of any content: what its last user left, or zeros.
pub fn buffer(len: usize) -> Vec<f32> {
    let taken = POOL
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take(len);
    taken.unwrap_or_else(|| vec![0.0; len])
}

/// Takes a buffer that is no longer needed; one that did not come from here is only freed.
pub fn recycle(buffer: Vec<f32>) {
    let given_back = POOL
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .put(buffer);
    // Freed without the lock.
    drop(given_back);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_no_others() {
        let mut pool = Pool::new();
        for len in [4, 4, 6] {
            assert!(pool.take(len).is_none());
        }
        for value in [1.0, 2.0] {
            assert!(pool.put(vec![value; 4]).is_empty());
        }
        assert!(pool.put(vec![3.0; 6]).is_empty());
        // Nothing of that length is out any more.
        assert_eq!(pool.put(vec![9.0; 4]), [[9.0; 4]]);
        // The last one first: its values may still be in cache.
        assert_eq!(pool.take(4).unwrap(), [2.0; 4]);
    }

    #[test]
    fn no_more_is_kept_than_half_as_much_again_as_was_needed_at_a_time() {
        let mut pool = Pool::new();
        let use_one = |pool: &mut Pool, len: usize| {
            let found = pool.take(len).unwrap_or_else(|| vec![0.0; len]);
            pool.put(found)
        };
        // Every length is needed alone: two shorter ones stay beside the longest one, the longest waiting leaves.
        for len in [10, 9, 3, 2] {
            assert!(use_one(&mut pool, len).iter().all(|left| left.len() == 10));
        }
        assert_eq!((pool.kept.len(), pool.kept_values), (3, 14));
        // Lengths in turn do not drive each other out.
        for _ in 0..5 {
            for len in [9, 3, 2] {
                assert!(pool.kept.iter().any(|kept| kept.len() == len));
                assert!(use_one(&mut pool, len).is_empty());
            }
        }
        // What was needed long ago does not count.
        for _ in 0..2 * WINDOW {
            use_one(&mut pool, 2);
        }
        assert_eq!((pool.kept.len(), pool.kept_values), (1, 2));
    }

    #[test]
    fn what_never_comes_back_is_forgotten() {
        let mut pool = Pool::new();
        for _ in 0..4 * WINDOW {
            pool.take(1_000);
        }
        assert!(pool.most_needed.iter().all(|most| *most <= WINDOW * 1_000));
    }
}
