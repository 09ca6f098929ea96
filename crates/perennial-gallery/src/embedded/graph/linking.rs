//! How a node gets its neighbours and becomes one of theirs.
//!
//! **Source.** Malkov and Yashunin, *Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World graphs*,
//! algorithms 1 (insert) and 4 (neighbours by heuristic, without extending candidates or keeping the discarded ones).

use std::sync::{Mutex, PoisonError};

use super::super::ranking::Ranked;
use super::coded::Query;
use super::nodes::Nodes;
use super::walk::{Counts, Walk};

/// Locks of lists; nodes share them.
const LOCKS: usize = 512;
/// Of the nearest nodes, those whose codes are compared with a new one's.
const TWIN_AMONG: usize = 8;

/// Who may change which node's lists.
pub(super) struct ListLocks(Vec<Mutex<()>>);

impl Default for ListLocks {
    fn default() -> Self {
        Self((0..LOCKS).map(|_| Mutex::new(())).collect())
    }
}

impl ListLocks {
    fn of<T>(&self, node: u32, change: impl FnOnce() -> T) -> T {
        let _lock = self.0[node as usize % LOCKS]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change()
    }
}

/// What linking needs, kept for the next node.
#[derive(Default)]
pub(super) struct Linking {
    query: Query,
    other: Query,
    candidate: Query,
    /// The nearest nodes of each level.
    near: Vec<Vec<Ranked>>,
    crowd: Vec<Ranked>,
    chosen: Vec<u32>,
    kept: Vec<u32>,
}

impl Linking {
    /// Links a new node on all its levels, found from the node `entry` on. One that has the codes of another becomes its twin instead:
    /// the lists around many equal nodes would hold nothing else. Says whether it was linked.
    pub(super) fn link(
        &mut self,
        nodes: &Nodes,
        locks: &ListLocks,
        walk: &mut Walk,
        node: u32,
        entry: u32,
        breadth: usize,
    ) -> bool {
        nodes.set_query(&mut self.query, node);
        let top = nodes.level(node).min(nodes.level(entry));
        self.near.resize_with(usize::from(top) + 1, Vec::new);
        walk.descend(nodes, entry, top, &self.query);
        for level in (0..=top).rev() {
            walk.on(nodes, level, &self.query, breadth, Counts::Linked);
            self.near[usize::from(level)].clone_from(&walk.found);
        }
        // Codes are not quite of unit length, so others may seem a little nearer than an equal one.
        let mut nearest = walk.found.iter().take(TWIN_AMONG);
        let is_equal =
            |found: &&Ranked| nodes.lines_of(found.slot() as u32) == nodes.lines_of(node);
        if let Some(equal) = nearest.find(is_equal) {
            let equal = equal.slot() as u32;
            locks.of(equal, || nodes.set_twin(equal, node));
            return false;
        }
        // From the lowest level on, so that whoever comes down to this node finds it linked.
        for level in 0..=top {
            self.link_on(nodes, locks, node, level);
        }
        true
    }

    fn link_on(&mut self, nodes: &Nodes, locks: &ListLocks, node: u32, level: u8) {
        let (width, candidate) = (nodes.width(level), &mut self.candidate);
        choose(
            nodes,
            &self.near[usize::from(level)],
            width,
            candidate,
            &mut self.chosen,
        );
        locks.of(node, || nodes.set_neighbours(node, level, &self.chosen));
        for &neighbour in &self.chosen {
            locks.of(neighbour, || {
                if nodes.append(neighbour, level, node) {
                    return;
                }
                nodes.set_query(&mut self.other, neighbour);
                self.crowd.clear();
                for known in nodes.neighbours(neighbour, level).chain([node]) {
                    let score = nodes.score(&self.other, known);
                    self.crowd.push(Ranked::new(score, known as usize));
                }
                self.crowd.sort_unstable();
                choose(nodes, &self.crowd, width, candidate, &mut self.kept);
                nodes.set_neighbours(neighbour, level, &self.kept);
            });
        }
    }
}

/// Of candidates, best first, at most `most` that are nearer to the node than to every one chosen before, so that they lie in all directions.
fn choose(
    nodes: &Nodes,
    candidates: &[Ranked],
    most: usize,
    query: &mut Query,
    chosen: &mut Vec<u32>,
) {
    chosen.clear();
    for ranked in candidates {
        if chosen.len() >= most {
            break;
        }
        let candidate = ranked.slot() as u32;
        nodes.set_query(query, candidate);
        let score = ranked.score();
        if chosen
            .iter()
            .all(|&other| nodes.score(query, other) <= score)
        {
            chosen.push(candidate);
        }
    }
}
