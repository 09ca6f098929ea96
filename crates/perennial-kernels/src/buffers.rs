//! Buffers that are used again: a fresh one is zeroed, and often its pages are mapped, only for every value to be written over.

use std::sync::{Mutex, PoisonError};

/// Buffers kept at most: those of a training step of a network of this kind.
const KEPT: usize = 128;

static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer of any content: values that earlier users left, or zeros. A kept one that is a little longer is cut;
/// a much longer one would be missed where its length is needed.
pub fn buffer(len: usize) -> Vec<f32> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let fitting = pool
        .iter()
        .enumerate()
        .filter(|(_, kept)| (len..=len + len / 4).contains(&kept.len()))
        .min_by_key(|(_, kept)| kept.len());
    match fitting {
        Some((at, _)) => {
            let mut kept = pool.swap_remove(at);
            kept.truncate(len);
            kept
        }
        None => vec![0.0; len],
    }
}

/// Takes a buffer that is no longer needed.
pub fn recycle(buffer: Vec<f32>) {
    if buffer.is_empty() {
        return;
    }
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.len() >= KEPT {
        // The one that has waited longest: shapes that no longer occur leave this way.
        pool.remove(0);
    }
    pool.push(buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_cut_to_length_but_not_for_a_much_shorter_one() {
        // A length that nothing else in this process asks for.
        let len = 123_457;
        let fresh = buffer(len);
        assert!(fresh.len() == len && fresh.iter().all(|&value| value == 0.0));
        let place = fresh.as_ptr();
        recycle(fresh);
        let half = buffer(len / 2);
        assert_ne!(half.as_ptr(), place);
        let again = buffer(len - 100);
        assert_eq!((again.as_ptr(), again.len()), (place, len - 100));
    }
}
