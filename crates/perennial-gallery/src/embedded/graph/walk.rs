//! The walk from neighbour to neighbour towards a query, on one level of a graph.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::ranking::Ranked;
use super::coded::Query;
use super::nodes::Nodes;

/// Nodes that a walk has seen.
#[derive(Debug, Default)]
struct Seen {
    words: Vec<u64>,
    /// The first `count` are the words with a bit set, so that forgetting costs what the walk did and not what the graph has; one more than there are
    /// words.
    touched: Vec<u32>,
    count: usize,
}

impl Seen {
    fn forget(&mut self, nodes: usize) {
        for word in &self.touched[..self.count] {
            self.words[*word as usize] = 0;
        }
        self.count = 0;
        if self.words.len() * 64 < nodes {
            // Some more than there are, so that a growing graph does not ask each time.
            self.words.resize((nodes + nodes / 4).div_ceil(64), 0);
            self.touched.resize(self.words.len() + 1, 0);
        }
    }

    /// Whether a node is new. Without a branch, which the processor could not foresee.
    #[inline(always)]
    fn insert(&mut self, node: u32) -> bool {
        let (at, bit) = (node / 64, 1u64 << (node % 64));
        let word = &mut self.words[at as usize];
        self.touched[self.count] = at;
        self.count += usize::from(*word == 0);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// Which nodes may be among the nearest that a walk finds. It goes over all that have neighbours.
#[derive(Clone, Copy)]
pub(super) enum Counts<'a> {
    /// Those that have neighbours.
    Linked,
    /// Those and their twins.
    All,
    /// Of all, those whose row numbers pass.
    Passing(&'a (dyn Fn(u64) -> bool + Sync)),
}

/// What a walk needs, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Walk {
    seen: Seen,
    /// Nodes whose neighbours are still to be looked at, the most similar one on top.
    open: BinaryHeap<Reverse<Ranked>>,
    /// The nearest so far, the least similar one on top.
    nearest: BinaryHeap<Ranked>,
    /// Neighbours that are new, and their similarities.
    fresh: Vec<u32>,
    scores: Vec<f32>,
    /// What the last walk found, best first.
    pub(super) found: Vec<Ranked>,
}

impl Walk {
    /// Walks on `level` from the nodes in `found` and leaves the nearest `breadth` there that count.
    pub(super) fn on(
        &mut self,
        nodes: &Nodes,
        level: u8,
        query: &Query,
        breadth: usize,
        counts: Counts<'_>,
    ) {
        let passes = |node: u32| match counts {
            Counts::Linked | Counts::All => true,
            Counts::Passing(passes) => passes(nodes.number(node)),
        };
        self.seen.forget(nodes.len());
        self.open.clear();
        self.nearest.clear();
        let mut starts = std::mem::take(&mut self.found);
        for start in starts.drain(..) {
            self.seen.insert(start.slot() as u32);
            self.open.push(Reverse(start));
            self.offer(nodes, start, breadth, counts, &passes);
        }
        self.found = starts;
        while let Some(Reverse(next)) = self.open.pop() {
            let full = self.nearest.len() >= breadth;
            if full && self.nearest.peek().is_some_and(|last| next > *last) {
                break;
            }
            self.fresh.clear();
            self.fresh.resize(nodes.width(level), 0);
            let mut fresh = 0;
            for node in nodes.neighbours(next.slot() as u32, level) {
                self.fresh[fresh] = node;
                fresh += usize::from(self.seen.insert(node));
            }
            self.fresh.truncate(fresh);
            if level == 0
                && let Some(Reverse(after)) = self.open.peek()
            {
                nodes.prefetch_list(after.slot() as u32);
            }
            nodes.score_all(query, &self.fresh, &mut self.scores);
            for at in 0..self.fresh.len() {
                let ranked = Ranked::new(self.scores[at], self.fresh[at] as usize);
                let full = self.nearest.len() >= breadth;
                if full && self.nearest.peek().is_some_and(|last| ranked > *last) {
                    continue;
                }
                if level == 0 && self.open.peek().is_none_or(|best| ranked < best.0) {
                    nodes.prefetch_list(ranked.slot() as u32);
                }
                self.open.push(Reverse(ranked));
                self.offer(nodes, ranked, breadth, counts, &passes);
            }
        }
        self.found.extend(self.nearest.drain());
        self.found.sort_unstable();
    }

    /// Counts a node and those with the same codes among the nearest.
    #[inline(always)]
    fn offer(
        &mut self,
        nodes: &Nodes,
        ranked: Ranked,
        breadth: usize,
        counts: Counts<'_>,
        passes: &impl Fn(u32) -> bool,
    ) {
        let mut offer = |ranked: Ranked| {
            if passes(ranked.slot() as u32) {
                self.nearest.push(ranked);
                if self.nearest.len() > breadth {
                    self.nearest.pop();
                }
            }
            // Whether a twin, which is as similar, may still count.
            self.nearest.len() < breadth
                || self
                    .nearest
                    .peek()
                    .is_some_and(|last| last.score() < ranked.score())
        };
        if !offer(ranked) || matches!(counts, Counts::Linked) {
            return;
        }
        for twin in nodes.twins(ranked.slot() as u32) {
            if !offer(Ranked::new(ranked.score(), twin as usize)) {
                return;
            }
        }
    }

    /// Walks down to `level` from the node `entry`, to the nearest node of each level above, which is left in `found`.
    pub(super) fn descend(&mut self, nodes: &Nodes, entry: u32, level: u8, query: &Query) {
        self.found.clear();
        let start = Ranked::new(nodes.score(query, entry), entry as usize);
        self.found.push(start);
        for above in (level + 1..=nodes.level(entry)).rev() {
            self.on(nodes, above, query, 1, Counts::Linked);
        }
    }
}
