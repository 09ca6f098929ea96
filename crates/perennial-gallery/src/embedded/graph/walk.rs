//! The walk from neighbour to neighbour towards a query, on one level of a graph.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::ranking::Ranked;
use super::coded::Query;
use super::nodes::Nodes;

/// Nodes whose codes are on their way from memory while another one is compared.
const AHEAD: usize = 6;

/// Nodes that a walk has seen.
#[derive(Debug, Default)]
struct Seen {
    words: Vec<u64>,
    /// Words with a bit set, so that forgetting costs what the walk did and not what the graph has.
    touched: Vec<u32>,
}

impl Seen {
    fn forget(&mut self, nodes: usize) {
        for word in self.touched.drain(..) {
            self.words[word as usize] = 0;
        }
        if self.words.len() * 64 < nodes {
            // Some more than there are, so that a growing graph does not ask each time.
            self.words.resize((nodes + nodes / 4).div_ceil(64), 0);
        }
    }

    /// Whether a node is new.
    #[inline(always)]
    fn insert(&mut self, node: u32) -> bool {
        let (at, bit) = (node / 64, 1u64 << (node % 64));
        let word = &mut self.words[at as usize];
        if *word == 0 {
            self.touched.push(at);
        }
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
    fresh: Vec<u32>,
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
            for node in nodes.neighbours(next.slot() as u32, level) {
                if self.seen.insert(node) {
                    if self.fresh.len() < AHEAD {
                        nodes.prefetch(node);
                    }
                    self.fresh.push(node);
                }
            }
            for at in 0..self.fresh.len() {
                let node = self.fresh[at];
                if let Some(&later) = self.fresh.get(at + AHEAD) {
                    nodes.prefetch(later);
                }
                let ranked = Ranked::new(nodes.score(query, node), node as usize);
                let full = self.nearest.len() >= breadth;
                if full && self.nearest.peek().is_some_and(|last| ranked > *last) {
                    continue;
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
