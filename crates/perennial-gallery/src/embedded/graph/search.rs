//! Searching a graph: at once, or with more breadth where it turns out to pay.

use std::sync::RwLockReadGuard;
use std::sync::atomic::Ordering;

use super::super::ranking::Ranked;
use super::coded::Query;
use super::nodes::Nodes;
use super::walk::{Counts, Walk};
use super::{Graph, NONE, returned, taken};

/// Says of a row's number whether it may be found.
pub(in super::super) type Passes<'a> = Option<&'a (dyn Fn(u64) -> bool + Sync)>;

/// A search that has found something, and may go on.
pub(in super::super) struct Search<'a> {
    graph: &'a Graph,
    nodes: RwLockReadGuard<'a, Nodes>,
    query: Query,
    walk: Walk,
    counts: Counts<'a>,
}

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
        let Some(mut search) = self.enter(query, passes) else {
            return Vec::new();
        };
        let breadth = self.breadth(count);
        search
            .walk
            .on(&search.nodes, 0, &search.query, breadth, search.counts);
        let found = search.found().iter().take(count);
        found.map(|&ranked| search.number(ranked)).collect()
    }

    /// Searches with some breadth, and can go on with more. Finds nothing only if there is nothing.
    ///
    /// **Shapes.** `query` `[dim]`
    pub(in super::super) fn begin<'a>(
        &'a self,
        query: &[f32],
        breadth: usize,
        passes: Passes<'a>,
    ) -> Option<Search<'a>> {
        let mut search = self.enter(query, passes)?;
        search
            .walk
            .begin(&search.nodes, &search.query, breadth, search.counts);
        Some(search)
    }

    /// A search that has come down to the lowest level.
    fn enter<'a>(&'a self, query: &[f32], passes: Passes<'a>) -> Option<Search<'a>> {
        let entry = self.entry.load(Ordering::Acquire);
        if entry == NONE {
            return None;
        }
        let nodes = self.nodes();
        let query = nodes.query(&self.coded(query));
        let mut walk = taken(&self.walks);
        walk.descend(&nodes, entry, 0, &query);
        Some(Search {
            graph: self,
            nodes,
            query,
            walk,
            counts: passes.map_or(Counts::All, Counts::Passing),
        })
    }
}

impl Search<'_> {
    /// What was found, best first: similarities by codes, and nodes.
    pub(in super::super) fn found(&self) -> &[Ranked] {
        &self.walk.found
    }

    /// The number of the row that a node stands for.
    pub(in super::super) fn number(&self, found: Ranked) -> u64 {
        self.nodes.number(found.slot() as u32)
    }

    /// Goes on with more breadth, once.
    pub(in super::super) fn broaden(&mut self, breadth: usize) {
        self.walk
            .broaden(&self.nodes, &self.query, breadth, self.counts);
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        returned(&self.graph.walks, std::mem::take(&mut self.walk));
    }
}
