//! Searching a graph.

use std::sync::atomic::Ordering;

use super::walk::Counts;
use super::{Graph, NONE, returned, taken};

/// Says of a row's number whether it may be found.
pub(in super::super) type Passes<'a> = Option<&'a (dyn Fn(u64) -> bool + Sync)>;

impl Graph {
    /// How many of the most similar rows a search for `count` looks for.
    pub(in super::super) fn breadth(&self, count: usize) -> usize {
        self.config.expansion_search.max(count)
    }

    /// Numbers of about the `count` most similar rows that pass, best first.
    ///
    /// **Shapes.** `query` `[dim]`; the result is at most `[count]`.
    pub(in super::super) fn search(
        &self,
        query: &[f32],
        count: usize,
        passes: Passes<'_>,
    ) -> Vec<u64> {
        let entry = self.entry.load(Ordering::Acquire);
        if entry == NONE {
            return Vec::new();
        }
        let nodes = self.nodes();
        let query = nodes.query(&self.coded(query));
        let mut walk = taken(&self.walks);
        walk.descend(&nodes, entry, 0, &query);
        let counts = passes.map_or(Counts::All, Counts::Passing);
        walk.on(&nodes, 0, &query, self.breadth(count), counts);
        let found = walk.found.iter().take(count);
        let found = found.map(|ranked| nodes.number(ranked.slot() as u32));
        let found = found.collect();
        returned(&self.walks, walk);
        found
    }
}
