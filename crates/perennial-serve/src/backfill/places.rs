//! Places under a stop rule: who is about to embed items again takes some before, so that all of them together store no more than the rule allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many places are taken.
#[derive(Clone, Default)]
pub(super) struct Admitted(Arc<AtomicU64>);

impl Admitted {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(super) fn admit(&self, items: usize) -> Places {
        self.0.fetch_add(items as u64, Ordering::SeqCst);
        Places {
            among: self.clone(),
            items,
        }
    }
}

/// Places that are given back with this.
#[must_use]
pub(crate) struct Places {
    among: Admitted,
    items: usize,
}

impl Places {
    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.items
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.among.0.fetch_sub(self.items as u64, Ordering::SeqCst);
    }
}
