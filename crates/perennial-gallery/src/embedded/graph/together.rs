//! One query and several graphs, which are walked by turns.
//!
//! While one graph's codes are on their way from memory, the others' are compared. A graph that holds a part of the rows holds a part of the nearest, but
//! needs nearly as much breadth to find them as it would for more: a walk that has only begun is easily caught where no neighbour is nearer. So no
//! walk ends since another graph has nearer rows; it ends, before its own breadth is used up, when it has gone on for a while and found none of the nearest of all.

use std::sync::RwLockReadGuard;
use std::sync::atomic::Ordering;

use super::super::ranking::Ranked;
use super::coded::Query;
use super::nodes::Nodes;
use super::search::Passes;
use super::walk::{Counts, Kept, Nearest, Walk};
use super::{Graph, NONE, returned, taken};

/// The fewest nodes that a walk goes to without finding any of the nearest of all, before it ends.
const PATIENCE: usize = 8;

/// A walk that is one of several.
struct Lane<'a> {
    graph: &'a Graph,
    nodes: RwLockReadGuard<'a, Nodes>,
    query: Query,
    walk: Walk,
    counts: Counts<'a>,
    level: u8,
    /// What it fetches or compares next.
    turn: Turn,
    /// Nodes that may be found to which it went on the lowest level since it last found one of the nearest of all.
    idle: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The list of the node where it goes next is being fetched.
    List,
    /// The codes of this node's neighbours are.
    Codes,
    Done,
}

/// How far walks go.
#[derive(Debug, Clone, Copy)]
struct Reach {
    /// Of each.
    breadth: usize,
    /// See [`Lane::idle`].
    patience: usize,
}

/// What a walk keeps that is one of several: the nearest of its own graph, which say how far it goes, and those of all.
struct Among<'a> {
    own: &'a mut Nearest,
    all: &'a mut Nearest,
    found: &'a mut Vec<Ranked>,
    idle: &'a mut usize,
}

impl Kept for Among<'_> {
    #[inline(always)]
    fn is_too_far(&self, ranked: Ranked) -> bool {
        self.own.is_too_far(ranked)
    }

    #[inline(always)]
    fn takes(&self, score: f32) -> bool {
        self.own.takes(score)
    }

    #[inline(always)]
    fn keep(&mut self, ranked: Ranked) {
        self.own.keep(ranked);
        if !self.all.is_too_far(ranked) {
            self.all.keep(ranked);
            self.found.push(ranked);
            *self.idle = 0;
        }
    }
}

impl<'a> Lane<'a> {
    /// A walk at the entry of a graph; `None` where the graph is empty.
    fn new(graph: &'a Graph, query: &[f32], passes: Passes<'a>) -> Option<Self> {
        let entry = graph.entry.load(Ordering::Acquire);
        if entry == NONE {
            return None;
        }
        let nodes = graph.nodes();
        let mut query = nodes.query(&graph.coded(query));
        // Similarities of several graphs are compared.
        query.offset += graph.centre_square;
        let mut walk = taken(&graph.walks);
        walk.found.clear();
        walk.way.begin(&nodes);
        walk.nearest.begin(1);
        let start = Ranked::new(nodes.score(&query, entry), entry as usize);
        walk.nearest.keep(start);
        Some(Self {
            // Above the highest level there is nothing but where that one begins.
            level: nodes.level(entry) + 1,
            turn: Turn::List,
            idle: 0,
            counts: passes.map_or(Counts::All, Counts::Passing),
            graph,
            nodes,
            query,
            walk,
        })
    }

    /// Does what its turn is, and has what comes next fetched.
    fn step(&mut self, all: &mut Nearest, reach: Reach) {
        match self.turn {
            Turn::Codes => self.look(all),
            Turn::List => {
                while !self.goes_on(reach) {
                    if self.level == 0 {
                        self.turn = Turn::Done;
                        return;
                    }
                    self.go_down(all, reach);
                }
                self.walk.way.prefetch_fresh(&self.nodes);
                self.turn = Turn::Codes;
            }
            Turn::Done => {}
        }
    }

    fn look(&mut self, all: &mut Nearest) {
        let (nodes, walk) = (&*self.nodes, &mut self.walk);
        let (way, own) = (&mut walk.way, &mut walk.nearest);
        if self.level == 0 {
            let mut kept = Among {
                own,
                all,
                found: &mut walk.found,
                idle: &mut self.idle,
            };
            way.look(nodes, 0, &self.query, &mut kept, self.counts);
        } else {
            way.look(nodes, self.level, &self.query, own, Counts::Linked);
        }
        way.prefetch_next(nodes, self.level);
        self.turn = Turn::List;
    }

    /// Goes to the next node of this level, if the walk does not end there.
    fn goes_on(&mut self, reach: Reach) -> bool {
        let walk = &mut self.walk;
        // With fewer of its own than it may keep, it may not have come near, or what may be found is rare.
        let is_tired = self.idle >= reach.patience && walk.nearest.is_full();
        if self.level == 0 && is_tired {
            return false;
        }
        let next = walk.way.next(&self.nodes, self.level, &walk.nearest);
        if self.level == 0 {
            // Where half of the rows may be found, a walk goes to twice as many nodes for as much.
            let passes = next.map(|node| self.counts.passes(&self.nodes, node));
            self.idle += usize::from(passes == Some(true));
        }
        next.is_some()
    }

    /// Numbers of those that are among the nearest of all; `None` where it could not reach enough.
    fn numbers(&mut self, all: &Nearest, count: usize) -> Option<Vec<u64>> {
        let walk = &mut self.walk;
        if walk.nearest.len() < count {
            return None;
        }
        walk.found.retain(|&found| !all.is_too_far(found));
        walk.found.sort_unstable();
        let nodes = &self.nodes;
        let numbers = walk
            .found
            .iter()
            .map(|found| nodes.number(found.slot() as u32));
        Some(numbers.collect())
    }

    /// Begins on the next level, from the nearest node of this one.
    fn go_down(&mut self, all: &mut Nearest, reach: Reach) {
        let (nodes, walk) = (&*self.nodes, &mut self.walk);
        self.level -= 1;
        let Some(start) = walk.nearest.first() else {
            self.turn = Turn::Done;
            return;
        };
        walk.way.begin(nodes);
        if self.level > 0 {
            walk.nearest.begin(1);
            walk.way
                .start(nodes, start, &mut walk.nearest, Counts::Linked);
            return;
        }
        walk.nearest.begin(reach.breadth);
        let mut kept = Among {
            own: &mut walk.nearest,
            all,
            found: &mut walk.found,
            idle: &mut self.idle,
        };
        walk.way.start(nodes, start, &mut kept, self.counts);
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        returned(&self.graph.walks, std::mem::take(&mut self.walk));
    }
}

/// Numbers of about the `count` most similar rows that pass of several graphs, for each graph those of its own, best first. `None` for a graph that is not
/// there or empty, and where too few could be reached.
///
/// **Shapes.** `query` `[dim]`; the result is `[graphs]`.
pub(in super::super) fn search_together(
    graphs: &[Option<(&Graph, Passes<'_>)>],
    query: &[f32],
    count: usize,
) -> Vec<Option<Vec<u64>>> {
    let lanes = graphs.iter().map(|graph| {
        let (graph, passes) = graph.as_ref()?;
        Lane::new(graph, query, *passes)
    });
    let mut lanes: Vec<Option<Lane<'_>>> = lanes.collect();
    let present = lanes.iter().flatten();
    let breadth = present.clone().map(|lane| lane.graph.breadth(count)).max();
    let breadth = breadth.unwrap_or(count);
    let reach = Reach {
        breadth,
        patience: match present.count() {
            // As a search of this graph alone.
            ..2 => usize::MAX,
            several => patience(breadth, several),
        },
    };
    let mut all = Nearest::default();
    all.begin(count);
    let mut open = true;
    while open {
        open = false;
        for lane in lanes.iter_mut().flatten() {
            lane.step(&mut all, reach);
            open |= lane.turn != Turn::Done;
        }
    }
    let numbers = |lane: &mut Option<Lane<'_>>| lane.as_mut()?.numbers(&all, count);
    lanes.iter_mut().map(numbers).collect()
}

/// Half of the breadth for one graph, and less for each of several, but more for all: with as much for all, they would find fewer of the nearest than one
/// graph of all rows does.
fn patience(breadth: usize, graphs: usize) -> usize {
    ((breadth as f64 / (2.0 * (graphs as f64).sqrt())).ceil() as usize).max(PATIENCE)
}
