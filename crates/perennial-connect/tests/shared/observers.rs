//! Observers that interfere.

use std::cell::Cell;

use perennial_connect::Observer;

/// Stops the work when it is asked for the third time, and so within any long wait: a wait asks all the time, a batch once.
#[derive(Default)]
pub struct ThirdAsking(Cell<u32>);

impl Observer for ThirdAsking {
    fn stopped(&self) -> bool {
        self.0.set(self.0.get() + 1);
        self.0.get() >= 3
    }
}

/// Calls back after every batch, with the number of batches so far.
pub struct AfterBatches<F: FnMut(u32)> {
    pub batches: u32,
    pub act: F,
    pub stop_at: Option<u32>,
    pub notes: Vec<String>,
}

impl<F: FnMut(u32)> AfterBatches<F> {
    pub fn new(act: F) -> Self {
        Self {
            batches: 0,
            act,
            stop_at: None,
            notes: Vec::new(),
        }
    }
}

impl<F: FnMut(u32)> Observer for AfterBatches<F> {
    fn rows(&mut self, _: u64, _: Option<u64>) {
        self.batches += 1;
        (self.act)(self.batches);
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    fn stopped(&self) -> bool {
        self.stop_at.is_some_and(|stop| self.batches >= stop)
    }
}
