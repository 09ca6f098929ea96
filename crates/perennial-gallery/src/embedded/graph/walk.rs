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

impl Counts<'_> {
    #[inline(always)]
    pub(super) fn passes(self, nodes: &Nodes, node: u32) -> bool {
        match self {
            Self::Linked | Self::All => true,
            Self::Passing(passes) => passes(nodes.number(node)),
        }
    }
}

/// The nearest nodes so far.
#[derive(Debug, Default)]
pub(super) struct Nearest {
    /// The least similar one on top.
    pub(super) ranked: BinaryHeap<Ranked>,
    breadth: usize,
}

impl Nearest {
    /// Forgets all, and keeps `breadth` from now on.
    pub(super) fn begin(&mut self, breadth: usize) {
        self.ranked.clear();
        self.breadth = breadth;
    }

    pub(super) fn is_full(&self) -> bool {
        self.ranked.len() >= self.breadth
    }

    pub(super) fn len(&self) -> usize {
        self.ranked.len()
    }

    /// The most similar one.
    pub(super) fn first(&self) -> Option<Ranked> {
        self.ranked.iter().min().copied()
    }
}

/// What a walk has found so far: where it need not go any more, and which nodes it keeps.
pub(super) trait Kept {
    /// Whether a node is farther than all that are kept, of which there are enough.
    fn is_too_far(&self, ranked: Ranked) -> bool;

    /// Whether another node that is as similar as that may still be kept.
    fn takes(&self, score: f32) -> bool;

    /// Keeps a node, if it is near enough.
    fn keep(&mut self, ranked: Ranked);
}

impl Kept for Nearest {
    #[inline(always)]
    fn is_too_far(&self, ranked: Ranked) -> bool {
        self.is_full() && self.ranked.peek().is_some_and(|last| ranked > *last)
    }

    #[inline(always)]
    fn takes(&self, score: f32) -> bool {
        let last = self.ranked.peek();
        !self.is_full() || last.is_some_and(|last| last.score() < score)
    }

    #[inline(always)]
    fn keep(&mut self, ranked: Ranked) {
        if !self.is_full() {
            self.ranked.push(ranked);
        } else if let Some(mut last) = self.ranked.peek_mut()
            && ranked < *last
        {
            *last = ranked;
        }
    }
}

/// What a walk needs on its way, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Way {
    seen: Seen,
    /// Nodes whose neighbours are still to be looked at, the most similar one on top.
    open: BinaryHeap<Reverse<Ranked>>,
    /// Neighbours that are new, and their similarities.
    fresh: Vec<u32>,
    scores: Vec<f32>,
    /// Where a walk went, if somebody wants to know: the level, the node, and its new neighbours.
    #[cfg(test)]
    pub(super) log: Option<Vec<(u8, Ranked, usize)>>,
}

impl Way {
    /// Begins anew, from one node.
    pub(super) fn begin(&mut self, nodes: &Nodes) {
        self.seen.forget(nodes.len());
        self.open.clear();
        self.fresh.clear();
    }

    /// Adds a node from which to go.
    pub(super) fn start(
        &mut self,
        nodes: &Nodes,
        start: Ranked,
        kept: &mut impl Kept,
        counts: Counts<'_>,
    ) {
        self.seen.insert(start.slot() as u32);
        self.open.push(Reverse(start));
        offer(nodes, start, kept, counts);
    }

    /// Goes to the most similar open node, for those of its neighbours that are new; `None` where the walk ends.
    #[inline(always)]
    pub(super) fn next(&mut self, nodes: &Nodes, level: u8, kept: &impl Kept) -> Option<u32> {
        let Reverse(next) = self.open.pop()?;
        if kept.is_too_far(next) {
            return None;
        }
        let node = next.slot() as u32;
        self.fresh.clear();
        self.fresh.resize(nodes.width(level), 0);
        let mut fresh = 0;
        for neighbour in nodes.neighbours(node, level) {
            self.fresh[fresh] = neighbour;
            fresh += usize::from(self.seen.insert(neighbour));
        }
        self.fresh.truncate(fresh);
        #[cfg(test)]
        if let Some(log) = &mut self.log {
            log.push((level, next, fresh));
        }
        Some(node)
    }

    /// Asks the processor to fetch the list of the node where the walk would go next.
    #[inline(always)]
    pub(super) fn prefetch_next(&self, nodes: &Nodes, level: u8) {
        if level == 0
            && let Some(Reverse(next)) = self.open.peek()
        {
            nodes.prefetch_list(next.slot() as u32);
        }
    }

    /// Asks the processor to fetch the codes of the new neighbours.
    #[inline(always)]
    pub(super) fn prefetch_fresh(&self, nodes: &Nodes) {
        nodes.prefetch_first(&self.fresh);
    }

    /// Compares the new neighbours with the query.
    #[inline(always)]
    pub(super) fn look(
        &mut self,
        nodes: &Nodes,
        level: u8,
        query: &Query,
        kept: &mut impl Kept,
        counts: Counts<'_>,
    ) {
        nodes.score_all(query, &self.fresh, &mut self.scores);
        for at in 0..self.fresh.len() {
            let ranked = Ranked::new(self.scores[at], self.fresh[at] as usize);
            if kept.is_too_far(ranked) {
                continue;
            }
            if level == 0 && self.open.peek().is_none_or(|best| ranked < best.0) {
                nodes.prefetch_list(ranked.slot() as u32);
            }
            self.open.push(Reverse(ranked));
            offer(nodes, ranked, kept, counts);
        }
    }
}

/// Offers a node and those with the same codes.
#[inline(always)]
fn offer(nodes: &Nodes, ranked: Ranked, kept: &mut impl Kept, counts: Counts<'_>) {
    let mut one = ranked;
    loop {
        let node = one.slot() as u32;
        if counts.passes(nodes, node) {
            kept.keep(one);
        }
        if matches!(counts, Counts::Linked) {
            return;
        }
        let Some(twin) = nodes.twin(node) else {
            return;
        };
        if !kept.takes(ranked.score()) {
            return;
        }
        one = Ranked::new(ranked.score(), twin as usize);
    }
}

/// A walk for the nearest of one graph, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) way: Way,
    pub(super) nearest: Nearest,
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
        self.way.begin(nodes);
        self.nearest.begin(breadth);
        for start in self.found.drain(..) {
            self.way.start(nodes, start, &mut self.nearest, counts);
        }
        while self.way.next(nodes, level, &self.nearest).is_some() {
            self.way.prefetch_next(nodes, level);
            self.way.prefetch_fresh(nodes);
            self.way
                .look(nodes, level, query, &mut self.nearest, counts);
        }
        self.found.extend(self.nearest.ranked.drain());
        self.found.sort_unstable();
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
