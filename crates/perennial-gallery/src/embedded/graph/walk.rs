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
    /// Whether what is not near enough is kept in `left`.
    keeps: bool,
    left: Left,
}

/// What a walk did without since it was not near enough, and a broader one would have used.
#[derive(Debug, Default)]
struct Left {
    /// Nodes that were neither walked on from nor counted among the nearest.
    nodes: Vec<Ranked>,
    /// Nodes that were among the nearest for a while.
    driven_out: Vec<Ranked>,
    /// Twins that were not looked at. Each stands for those behind it too.
    twins: Vec<Ranked>,
}

impl Left {
    fn clear(&mut self) {
        for left in [&mut self.nodes, &mut self.driven_out, &mut self.twins] {
            left.clear();
        }
    }
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
        self.seen.forget(nodes.len());
        self.open.clear();
        self.nearest.clear();
        let mut starts = std::mem::take(&mut self.found);
        for start in starts.drain(..) {
            self.seen.insert(start.slot() as u32);
            self.open.push(Reverse(start));
            self.offer(nodes, start, breadth, counts);
        }
        self.found = starts;
        self.go_on(nodes, level, query, breadth, counts);
    }

    /// As [`on`](Self::on) for the lowest level, and keeps what [`broaden`](Self::broaden) needs.
    pub(super) fn begin(
        &mut self,
        nodes: &Nodes,
        query: &Query,
        breadth: usize,
        counts: Counts<'_>,
    ) {
        self.left.clear();
        self.keeps = true;
        self.on(nodes, 0, query, breadth, counts);
        self.keeps = false;
    }

    /// Goes on, once, with what [`begin`](Self::begin) did with less breadth, and leaves in `found` what a walk of this breadth finds.
    pub(super) fn broaden(
        &mut self,
        nodes: &Nodes,
        query: &Query,
        breadth: usize,
        counts: Counts<'_>,
    ) {
        let mut left = std::mem::take(&mut self.left);
        self.nearest.extend(self.found.drain(..));
        for ranked in left.driven_out.drain(..) {
            self.keep(ranked, breadth);
        }
        for twin in left.twins.drain(..) {
            self.offer(nodes, twin, breadth, counts);
        }
        for ranked in left.nodes.drain(..) {
            if !self.is_too_far(ranked, breadth) {
                self.open.push(Reverse(ranked));
                self.offer(nodes, ranked, breadth, counts);
            }
        }
        self.left = left;
        self.go_on(nodes, 0, query, breadth, counts);
    }

    /// Walks on from the open nodes, as long as they are near enough.
    #[inline(always)]
    fn go_on(
        &mut self,
        nodes: &Nodes,
        level: u8,
        query: &Query,
        breadth: usize,
        counts: Counts<'_>,
    ) {
        while let Some(Reverse(next)) = self.open.pop() {
            if self.is_too_far(next, breadth) {
                if self.keeps {
                    self.open.push(Reverse(next));
                }
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
                if self.is_too_far(ranked, breadth) {
                    if self.keeps {
                        self.left.nodes.push(ranked);
                    }
                    continue;
                }
                if level == 0 && self.open.peek().is_none_or(|best| ranked < best.0) {
                    nodes.prefetch_list(ranked.slot() as u32);
                }
                self.open.push(Reverse(ranked));
                self.offer(nodes, ranked, breadth, counts);
            }
        }
        self.found.extend(self.nearest.drain());
        self.found.sort_unstable();
    }

    /// Whether a node is farther than all the nearest, of which there are enough.
    #[inline(always)]
    fn is_too_far(&self, ranked: Ranked, breadth: usize) -> bool {
        let full = self.nearest.len() >= breadth;
        full && self.nearest.peek().is_some_and(|last| ranked > *last)
    }

    /// Counts a node and those with the same codes among the nearest.
    #[inline(always)]
    fn offer(&mut self, nodes: &Nodes, ranked: Ranked, breadth: usize, counts: Counts<'_>) {
        let passes = |node: u32| match counts {
            Counts::Linked | Counts::All => true,
            Counts::Passing(passes) => passes(nodes.number(node)),
        };
        let mut one = ranked;
        loop {
            let node = one.slot() as u32;
            if passes(node) {
                self.keep(one, breadth);
            }
            if matches!(counts, Counts::Linked) {
                return;
            }
            let Some(twin) = nodes.twin(node) else {
                return;
            };
            one = Ranked::new(ranked.score(), twin as usize);
            // Whether a twin, which is as similar, may still count.
            let last = self.nearest.peek();
            let nearer = last.is_some_and(|last| last.score() < ranked.score());
            if self.nearest.len() >= breadth && !nearer {
                if self.keeps {
                    self.left.twins.push(one);
                }
                return;
            }
        }
    }

    /// Keeps a node among the nearest `breadth`, if it is one of them.
    #[inline(always)]
    fn keep(&mut self, ranked: Ranked, breadth: usize) {
        self.nearest.push(ranked);
        if self.nearest.len() > breadth
            && let Some(last) = self.nearest.pop()
            && self.keeps
        {
            self.left.driven_out.push(last);
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
