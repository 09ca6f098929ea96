//! The approximate index: a graph of neighbours over rows, by their numbers, in levels of which each has fewer nodes (HNSW).
//!
//! Rows are never removed from it: searches skip dead rows until rebuilding the graph is worth its cost. So it needs no
//! log of deletions, and a saved graph stays valid after later changes.
//!
//! A search spends its time waiting for codes from memory. So the codes of the next neighbours are fetched while one is compared, codes stand for
//! what vectors differ by from a common centre, as in the scan of all rows, and what they stand for lies behind them.

mod coded;
mod file;
mod line;
mod linking;
mod nodes;
mod products;
mod search;
#[cfg(test)]
mod tests;
mod together;
mod walk;

use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use rayon::prelude::*;

pub(super) use self::coded::CodedVector;
pub(super) use self::file::Seal;
use self::linking::{Linking, ListLocks};
use self::nodes::Nodes;
pub(super) use self::together::search_together;
use self::walk::Walk;
use super::HnswConfig;
use crate::error::GalleryError;

/// No node yet.
const NONE: u32 = u32::MAX;

/// A graph and how far it reaches.
pub(super) struct Graph {
    /// Shared for searches and while nodes are linked, which may go on together; exclusive for the moment in which new ones are put behind the others.
    nodes: RwLock<Nodes>,
    /// `[dim]`
    centre: Vec<f32>,
    /// The square of the centre's length: what similarities by codes lack, which must not differ where graphs are compared.
    centre_square: f32,
    /// The node where searches begin: one of the highest level.
    entry: AtomicU32,
    locks: ListLocks,
    config: HnswConfig,
    /// Every live row of a smaller number is in the graph.
    covered: AtomicU64,
    /// What walks and linking need, as much as was needed at a time.
    walks: Mutex<Vec<Walk>>,
    linkings: Mutex<Vec<Linking>>,
}

impl Graph {
    /// An empty graph, whose codes will stand for what vectors differ by from `centre`.
    pub(super) fn new(centre: Vec<f32>, config: &HnswConfig) -> Self {
        let nodes = Nodes::new(centre.len(), config.connectivity);
        Self::around(nodes, centre, None, config, 0)
    }

    /// A graph from a file, which must be as it was saved.
    pub(super) fn load(
        path: &Path,
        seal: &Seal,
        dim: usize,
        config: &HnswConfig,
        covered: u64,
        threads: usize,
    ) -> Result<Self, GalleryError> {
        let saved = file::load(path, seal, dim, config.connectivity, threads);
        let saved = saved.map_err(|error| GalleryError::Index {
            problem: format!("{}: {error}", path.display()),
        })?;
        Ok(Self::around(
            saved.nodes,
            saved.centre,
            saved.entry,
            config,
            covered,
        ))
    }

    fn around(
        nodes: Nodes,
        centre: Vec<f32>,
        entry: Option<u32>,
        config: &HnswConfig,
        covered: u64,
    ) -> Self {
        Self {
            nodes: RwLock::new(nodes),
            centre_square: perennial_core::dot(&centre, &centre),
            centre,
            entry: AtomicU32::new(entry.unwrap_or(NONE)),
            locks: ListLocks::default(),
            config: config.clone(),
            covered: AtomicU64::new(covered),
            walks: Mutex::default(),
            linkings: Mutex::default(),
        }
    }

    pub(super) fn dim(&self) -> usize {
        self.centre.len()
    }

    /// Rows below this number need not be searched elsewhere.
    pub(super) fn covered(&self) -> u64 {
        self.covered.load(Ordering::Acquire)
    }

    /// States that all rows below `number` were added or are dead.
    pub(super) fn set_covered(&self, number: u64) {
        self.covered.store(number, Ordering::Release);
    }

    /// Vectors in the graph, dead ones included.
    pub(super) fn len(&self) -> usize {
        self.nodes().len()
    }

    /// Memory of one node, but for the few lists above the lowest level.
    pub(super) fn node_bytes(dim: usize, config: &HnswConfig) -> usize {
        Nodes::node_bytes(dim, config.connectivity)
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.nodes().bytes()
    }

    /// A vector in the graph's form.
    ///
    /// **Shapes.** `vector` `[dim]`
    pub(super) fn coded(&self, vector: &[f32]) -> CodedVector {
        CodedVector::new(vector, &self.centre)
    }

    /// Adds rows in the order of their numbers and links them in parallel on a pool. Rows that are not behind all others are there already.
    pub(super) fn add(&self, rows: &[(u64, CodedVector)], pool: &rayon::ThreadPool) {
        let new = {
            let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
            let first = nodes.len() as u32;
            for (number, vector) in rows {
                if nodes.last_number().is_none_or(|last| *number > last) {
                    let level = nodes.level_of(*number);
                    nodes.push(*number, vector, level);
                }
            }
            first..nodes.len() as u32
        };
        let nodes = self.nodes();
        let nodes: &Nodes = &nodes;
        pool.install(|| new.into_par_iter().for_each(|node| self.link(nodes, node)));
    }

    fn link(&self, nodes: &Nodes, node: u32) {
        let first = self
            .entry
            .compare_exchange(NONE, node, Ordering::AcqRel, Ordering::Acquire);
        let Err(mut entry) = first else {
            return;
        };
        let (mut walk, mut linking) = (taken(&self.walks), taken(&self.linkings));
        let linked = linking.link(
            nodes,
            &self.locks,
            &mut walk,
            node,
            entry,
            self.config.expansion_add,
        );
        returned(&self.walks, walk);
        returned(&self.linkings, linking);
        while linked && nodes.level(node) > nodes.level(entry) {
            let raised =
                self.entry
                    .compare_exchange(entry, node, Ordering::AcqRel, Ordering::Acquire);
            match raised {
                Ok(_) => return,
                Err(other) => entry = other,
            }
        }
    }

    /// Writes the graph to a file and hands it to the disk.
    pub(super) fn save(&self, path: &Path) -> std::io::Result<Seal> {
        let entry = Some(self.entry.load(Ordering::Acquire)).filter(|&entry| entry != NONE);
        file::save(path, &self.nodes(), &self.centre, entry)
    }

    fn nodes(&self) -> RwLockReadGuard<'_, Nodes> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that another thread has left, or something new.
fn taken<T: Default>(left: &Mutex<Vec<T>>) -> T {
    let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
    left.pop().unwrap_or_default()
}

fn returned<T>(left: &Mutex<Vec<T>>, one: T) {
    left.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(one);
}
