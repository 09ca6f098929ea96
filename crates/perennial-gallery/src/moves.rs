//! Items that move from one space to another: how a search that goes through both, one after the other, notices that it may have missed one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many items have come into each space from another one, as far as a store has counted. New items do not count, nor do those that stay in
/// their space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moves(Arc<BTreeMap<String, u64>>);

impl Moves {
    /// Counts items that come into a space, one or many.
    pub fn note(&mut self, space: &str) {
        let counts = Arc::make_mut(&mut self.0);
        match counts.get_mut(space) {
            Some(count) => *count += 1,
            None => drop(counts.insert(space.to_owned(), 1)),
        }
    }

    /// The spaces into which items have come since an earlier moment of the same store.
    pub fn since(&self, before: &Self) -> BTreeSet<String> {
        if Arc::ptr_eq(&self.0, &before.0) {
            return BTreeSet::new();
        }
        let changed = self
            .0
            .iter()
            .filter(|(space, count)| before.0.get(*space) != Some(count));
        changed.map(|(space, _)| space.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_since_a_moment_is_told_by_space() {
        let mut moves = Moves::default();
        let start = moves.clone();
        moves.note("a");
        let then = moves.clone();
        moves.note("b");
        moves.note("b");
        let since = |before| moves.since(before).into_iter().collect::<Vec<_>>();
        assert_eq!(since(&start), ["a", "b"]);
        assert_eq!(since(&then), ["b"]);
        assert!(since(&moves.clone()).is_empty());
    }
}
