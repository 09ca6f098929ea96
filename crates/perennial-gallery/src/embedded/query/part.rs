//! One partition of a search, by its graph or by all its rows.

use std::sync::Arc;

use super::super::conditions::Allowed;
use super::super::graph::Graph;
use super::super::ranking::Ranked;
use super::super::rows::{Rows, SlotSet};
use super::super::scan::{self, Scanned};
use super::super::state::{RowsId, Shared};

/// From so many queries on, rows are compared with all of them at once.
pub(super) const BATCH: usize = 4;
/// A filter that leaves less than this share of the rows is answered by comparing with all of them: a graph search would
/// wander through rows that do not count.
const SELECTIVE: usize = 20;
/// A graph that lacks more than this share of the rows is left alone until it has caught up.
const TAIL_SHARE: usize = 4;
/// Rows asked of the graph beyond those wanted, since it compares in 8 bits.
const GRAPH_SPARE: usize = 6;

/// One partition as a search sees it.
pub(super) struct Part<'a> {
    pub(super) shared: &'a Shared,
    pub(super) id: RowsId,
    pub(super) rows: &'a Rows,
    pub(super) allowed: Allowed<'a>,
    pub(super) limit: usize,
    pub(super) exact: bool,
    /// Records decide which candidates are hits.
    pub(super) reads: bool,
}

impl Part<'_> {
    pub(super) fn scanned(&self) -> Scanned<'_> {
        Scanned {
            rows: self.rows,
            allowed: self.allowed.as_deref(),
        }
    }

    /// Rows that a search may find.
    pub(super) fn available(&self) -> usize {
        let allowed = self.allowed.as_deref();
        allowed.map_or(self.rows.live(), SlotSet::count)
    }

    /// Whether queries are best compared with all rows, and all that are found are hits.
    pub(super) fn is_scanned(&self, queries: &[f32]) -> bool {
        let few = queries.len() < BATCH * self.rows.dim();
        let all_rows = self.exact || few && self.is_short(self.limit);
        !self.reads && (all_rows || self.usable_graph().is_none())
    }

    /// Whether nothing is faster than looking at each row: with few rows left, or most of them wanted.
    fn is_short(&self, wanted: usize) -> bool {
        let available = self.available();
        available <= 4 * wanted + 32 || available < self.rows.live() / SELECTIVE
    }

    /// The graph, where it covers most of the rows, and the first slot that it does not cover.
    fn usable_graph(&self) -> Option<(Arc<Graph>, usize)> {
        let graph = self.shared.graph(self.id)?;
        let rows = self.rows;
        let tail = rows.first_slot_from(graph.covered());
        let missing = rows.slots() - tail;
        (missing * TAIL_SHARE <= rows.slots()).then_some((graph, tail))
    }

    /// The graph, where it is what candidates are found by, and the first slot that it does not cover.
    pub(super) fn walked(&self, wanted: usize) -> Option<(Arc<Graph>, usize)> {
        match self.exact || self.is_short(wanted) {
            true => None,
            false => self.usable_graph(),
        }
    }

    /// Says of a row's number whether it may be found by a graph; nothing where all may.
    pub(super) fn passes(
        &self,
        graph: &Graph,
        tail: usize,
    ) -> Option<Box<dyn Fn(u64) -> bool + Sync + '_>> {
        let rows = self.rows;
        if self.allowed.is_none() && graph.len() == tail && tail == rows.slots() {
            return None;
        }
        let allowed = self.allowed.as_deref().unwrap_or(rows.alive());
        Some(Box::new(move |number| {
            let slot = rows.slot(number).filter(|&slot| slot < tail);
            slot.is_some_and(|slot| allowed.contains(slot))
        }))
    }

    /// The best `wanted` of what a graph found and of the rows that it does not cover, which are few; similarities in f32.
    pub(super) fn rescored(
        &self,
        query: &[f32],
        wanted: usize,
        found: impl Iterator<Item = u64>,
        tail: usize,
    ) -> Vec<Ranked> {
        let rows = self.rows;
        let allowed = self.allowed.as_deref().unwrap_or(rows.alive());
        let rest = (tail..rows.slots()).filter(|&slot| allowed.contains(slot));
        let found = found.filter_map(|number| rows.slot(number));
        scan::rescored(rows, query, wanted, found.chain(rest))
    }

    /// The best `wanted` of all rows.
    pub(super) fn nearest(&self, query: &[f32], wanted: usize) -> Vec<Ranked> {
        let nearest = || scan::nearest(&[self.scanned()], query, wanted);
        self.shared.pool.install(nearest).pop().unwrap_or_default()
    }

    /// At least `wanted` candidates in order, fewer only where there are no more; similarities in f32.
    pub(super) fn candidates(&self, query: &[f32], wanted: usize) -> Vec<Ranked> {
        if let Some((graph, tail)) = self.walked(wanted) {
            let found = graph.search(query, asked(wanted), self.passes(&graph, tail).as_deref());
            let ranked = self.rescored(query, wanted, found.into_iter(), tail);
            if ranked.len() >= wanted {
                return ranked;
            }
            // A graph whose parts are cut off from each other by dead rows may find too few.
        }
        self.nearest(query, wanted)
    }
}

/// Rows asked of graphs, which compare in 8 bits, so that the best `wanted` are among them.
pub(super) fn asked(wanted: usize) -> usize {
    wanted + wanted / 2 + GRAPH_SPARE
}
