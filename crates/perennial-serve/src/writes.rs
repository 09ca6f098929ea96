//! Which spaces are being written to: how a search notices items of spaces that its plan does not know, and, where the store does not count moves, that an
//! item may have moved between the parts that it goes through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Writes by the space that they store items in.
#[derive(Default)]
pub(crate) struct Writes(Mutex<BTreeMap<String, Count>>);

#[derive(Default, Clone, Copy)]
struct Count {
    begun: u64,
    ended: u64,
}

/// A write that has begun, until it is dropped.
#[must_use = "the write is over when this is dropped"]
pub(crate) struct Writing<'a> {
    writes: &'a Writes,
    spaces: BTreeSet<String>,
}

/// The writes that were over at one moment, by space.
pub(crate) struct Over(BTreeMap<String, u64>);

impl Writes {
    /// Notes that items are being stored in some spaces.
    pub(crate) fn begin(&self, spaces: impl IntoIterator<Item = String>) -> Writing<'_> {
        let spaces: BTreeSet<String> = spaces.into_iter().collect();
        self.change(&spaces, |count| count.begun += 1);
        Writing {
            writes: self,
            spaces,
        }
    }

    /// What is over now.
    pub(crate) fn over(&self) -> Over {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = counts
            .iter()
            .map(|(space, count)| (space.clone(), count.ended));
        Over(over.collect())
    }

    /// The spaces in which items may have appeared since that moment: every write that begun and was not over then.
    pub(crate) fn since(&self, Over(over): &Over) -> BTreeSet<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = |space: &String| over.get(space).copied().unwrap_or(0);
        let changed = counts
            .iter()
            .filter(|(space, count)| count.begun != before(space));
        changed.map(|(space, _)| space.clone()).collect()
    }

    fn change(&self, spaces: &BTreeSet<String>, change: impl Fn(&mut Count)) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for space in spaces {
            change(counts.entry(space.clone()).or_default());
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.writes.change(&self.spaces, |count| count.ended += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_noticed_that_overlaps_a_search_in_any_way() {
        let writes = Writes::default();
        let begin = |space: &str| writes.begin([space.to_owned()]);
        let spaces = |over: &Over| writes.since(over).into_iter().collect::<Vec<_>>();
        drop(begin("v0001"));
        let before = writes.over();
        assert!(spaces(&before).is_empty());
        let writing = begin("v0002");
        // Begun before this one, and not over.
        let meanwhile = writes.over();
        assert_eq!(spaces(&before), ["v0002"]);
        assert_eq!(spaces(&meanwhile), ["v0002"]);
        drop(writing);
        assert_eq!(spaces(&before), ["v0002"]);
        assert_eq!(spaces(&meanwhile), ["v0002"]);
        assert!(spaces(&writes.over()).is_empty());
        // Two at once, of which one is over.
        let first = begin("v0001");
        let second = begin("v0001");
        drop(first);
        let between = writes.over();
        assert_eq!(spaces(&between), ["v0001"]);
        drop(second);
        assert_eq!(spaces(&between), ["v0001"]);
        assert!(spaces(&writes.over()).is_empty());
    }
}
