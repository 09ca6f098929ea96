//! Buffers that are used again: a fresh one is zeroed, and often its pages are mapped, only for every value to be written over.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

struct Pool {
    /// Those that wait for use, the longest waiting first.
    kept: Vec<Vec<f32>>,
    /// How many of each length are out, so that nothing is kept but what came from here.
    out: BTreeMap<usize, usize>,
    /// Values that were allocated anew and not yet made up for by freeing others.
    owed: usize,
}

impl Pool {
    const fn new() -> Self {
        Self {
            kept: Vec::new(),
            out: BTreeMap::new(),
            owed: 0,
        }
    }

    /// A kept buffer, or those that make room for new ones: lengths that are no longer asked for leave this way. A long one leaves
    /// only for as many new values, so that a short one which never comes back does not cost a long one each time.
    fn take(&mut self, len: usize) -> Result<Vec<f32>, Vec<Vec<f32>>> {
        *self.out.entry(len).or_default() += 1;
        if let Some(at) = self.kept.iter().rposition(|kept| kept.len() == len) {
            return Ok(self.kept.remove(at));
        }
        self.owed += len;
        let mut count = 0;
        while let Some(oldest) = self.kept.get(count)
            && oldest.len() <= self.owed
        {
            self.owed -= oldest.len();
            count += 1;
        }
        if count == self.kept.len() {
            self.owed = 0;
        }
        Err(self.kept.drain(..count).collect())
    }

    /// Keeps a buffer that came from here; gives any other back.
    fn put(&mut self, buffer: Vec<f32>) -> Option<Vec<f32>> {
        let Some(out) = self.out.get_mut(&buffer.len()) else {
            return Some(buffer);
        };
        *out -= 1;
        if *out == 0 {
            self.out.remove(&buffer.len());
        }
        self.kept.push(buffer);
        None
    }
}

/// A buffer of any content: what its last user left, or zeros.
pub fn buffer(len: usize) -> Vec<f32> {
    let taken = POOL
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take(len);
    taken.unwrap_or_else(|outdated| {
        drop(outdated);
        vec![0.0; len]
    })
}

/// Takes a buffer that is no longer needed; one that did not come from here is only freed.
pub fn recycle(buffer: Vec<f32>) {
    let foreign = POOL
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .put(buffer);
    drop(foreign);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_make_room_for_other_lengths() {
        let mut pool = Pool::new();
        for len in [4, 4, 6] {
            assert!(pool.take(len).unwrap_err().is_empty());
        }
        for value in [1.0, 2.0] {
            assert!(pool.put(vec![value; 4]).is_none());
        }
        assert!(pool.put(vec![3.0; 6]).is_none());
        // Nothing of that length is out any more.
        assert_eq!(pool.put(vec![9.0; 4]), Some(vec![9.0; 4]));
        // No more than make room, the longest waiting first.
        assert!(pool.take(3).unwrap_err().is_empty());
        assert_eq!(pool.take(5).unwrap_err(), [[1.0; 4], [2.0; 4]]);
        assert_eq!(pool.take(6).unwrap(), [3.0; 6]);
    }
}
