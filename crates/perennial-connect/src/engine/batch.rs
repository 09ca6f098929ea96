//! Rows as they are read and copies as they are written.

use serde::Serialize;

/// Values of a batch's vectors, which bounds the memory of a run.
const BATCH_VALUES: usize = 1 << 21;
/// Rows of a batch of short vectors.
const MAX_ROWS: usize = 4096;

/// Rows with a vector of which no copy can be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The vector has another dimension than the bridge takes, or than the other vectors have.
    pub dimension: u64,
    /// The vector has no direction: it is zero, or holds a value that is no number, or the bridge makes it so.
    pub direction: u64,
}

impl Skipped {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.dimension + self.direction
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.dimension += other.dimension;
        self.direction += other.direction;
    }
}

/// Rows as they were read.
#[derive(Debug)]
pub(crate) struct Batch<K, S> {
    /// Keys of the rows with a usable vector that need a copy.
    pub(crate) keys: Vec<K>,
    /// What their copies take over.
    pub(crate) sources: Vec<S>,
    /// `[keys, dim]`
    pub(crate) vectors: Vec<f32>,
    /// Keys of the rows without one; they must have no copy.
    pub(crate) without: Vec<K>,
    pub(crate) skipped: Skipped,
    /// All rows read.
    pub(crate) rows: usize,
    /// Where reading goes on.
    pub(crate) place: Option<K>,
    /// Whether there were no further rows.
    pub(crate) last: bool,
}

impl<K, S> Default for Batch<K, S> {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            sources: Vec::new(),
            vectors: Vec::new(),
            without: Vec::new(),
            skipped: Skipped::default(),
            rows: 0,
            place: None,
            last: false,
        }
    }
}

/// Copies to write.
#[derive(Debug)]
pub(crate) struct Copies<'a, K, S> {
    pub(crate) keys: &'a [K],
    pub(crate) sources: &'a [S],
    /// `[keys, dim]`
    pub(crate) vectors: &'a [f32],
    /// Keys that must have no copy.
    pub(crate) without: &'a [K],
}

/// How many rows of vectors of these dimensions are read at a time; no more than a second's worth under a rate.
pub(crate) fn batch_rows(dims: usize, rate: Option<f64>) -> usize {
    let rows = (BATCH_VALUES / dims.max(1)).clamp(16, MAX_ROWS);
    match rate {
        Some(rate) => rows.min(rate.ceil().max(1.0) as usize),
        None => rows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_by_memory_and_by_the_rate() {
        assert_eq!(batch_rows(768, None), 2730);
        assert_eq!(batch_rows(384, None), MAX_ROWS);
        assert_eq!(batch_rows(8, None), MAX_ROWS);
        assert_eq!(batch_rows(1 << 24, None), 16);
        assert_eq!(batch_rows(384, Some(100.0)), 100);
        assert_eq!(batch_rows(384, Some(0.1)), 1);
    }
}
