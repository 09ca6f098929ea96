//! The approximate index: a graph of neighbours over rows, by their numbers.
//!
//! Rows are never removed from it: searches skip dead rows until rebuilding the graph is worth its cost. So it needs no
//! log of deletions, and a saved graph stays valid after later changes.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rayon::prelude::*;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::HnswConfig;
use super::codes::encode;
use crate::error::GalleryError;

/// Bytes behind the codes of a vector: the inverse of their length as `f32`.
const NORM_BYTES: usize = 4;

/// A vector as the graph holds it, `[dim + 4]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GraphVector(Vec<i8>);

impl GraphVector {
    pub(super) fn new(vector: &[f32]) -> Self {
        let mut codes = Vec::with_capacity(vector.len() + NORM_BYTES);
        encode(vector, &[], &mut codes);
        let square = dot_codes(&codes, &codes).max(1);
        let inverse = (square as f32).sqrt().recip();
        codes.extend(inverse.to_le_bytes().map(|byte| byte as i8));
        Self(codes)
    }
}

struct CodeProduct<'a>(&'a [i8], &'a [i8]);

impl pulp::WithSimd for CodeProduct<'_> {
    type Output = i32;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> i32 {
        let pairs = self.0.iter().zip(self.1);
        pairs.map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
    }
}

/// The product of two rows of codes.
fn dot_codes(a: &[i8], b: &[i8]) -> i32 {
    pulp::Arch::new().dispatch(CodeProduct(a, b))
}

/// 1 - cosine of two vectors in the graph's form.
fn distance(a: &[i8], b: &[i8]) -> f32 {
    let (Some((a, a_norm)), Some((b, b_norm))) = (
        a.split_last_chunk::<NORM_BYTES>(),
        b.split_last_chunk::<NORM_BYTES>(),
    ) else {
        return f32::MAX;
    };
    let inverse = |bytes: [i8; NORM_BYTES]| f32::from_le_bytes(bytes.map(|byte| byte as u8));
    1.0 - dot_codes(a, b) as f32 * inverse(*a_norm) * inverse(*b_norm)
}

/// A graph and how far it reaches.
pub(super) struct Graph {
    /// Shared for searches and additions, which may go on together; exclusive for growth.
    index: RwLock<Index>,
    dim: usize,
    threads: usize,
    /// Every live row of a smaller number is in the graph.
    covered: AtomicU64,
    /// Memory that the index held when it was asked last: it must not be asked while another thread adds, and visits every node
    /// for its answer.
    bytes: AtomicUsize,
    /// Size at which it is asked again.
    asked_from: AtomicUsize,
    /// Callers whose searches run on their own threads.
    callers: AtomicUsize,
}

/// Callers that may search on their own threads at a time, however many threads the pool has.
pub(super) const CALLERS: usize = 16;

impl Graph {
    /// An empty graph that `threads` threads may use at a time.
    pub(super) fn new(
        dim: usize,
        config: &HnswConfig,
        threads: usize,
    ) -> Result<Self, GalleryError> {
        Self::around(empty_index(dim, config)?, dim, threads, 0)
    }

    /// A graph from a file that was verified to be as it was saved.
    pub(super) fn load(
        path: &Path,
        dim: usize,
        config: &HnswConfig,
        threads: usize,
        covered: u64,
    ) -> Result<Self, GalleryError> {
        let index = empty_index(dim, config)?;
        index.load(text(path)?).map_err(index_error)?;
        if index.dimensions() != dim + NORM_BYTES {
            return Err(index_error("the saved graph has another dimension"));
        }
        Self::around(index, dim, threads, covered)
    }

    fn around(
        mut index: Index,
        dim: usize,
        threads: usize,
        covered: u64,
    ) -> Result<Self, GalleryError> {
        let bytes = dim + NORM_BYTES;
        index.change_metric::<i8>(Box::new(move |a, b| {
            // SAFETY: the index calls its metric with two vectors of its own or of a caller, and every vector that enters or
            // queries it has exactly `dimensions` values of one byte, which is `bytes`: the index refuses other lengths, and
            // `new` and `load` give or check that dimension. Bytes need no alignment, and nobody writes to a vector while
            // distances to it are computed.
            let (a, b) = unsafe {
                (
                    std::slice::from_raw_parts(a, bytes),
                    std::slice::from_raw_parts(b, bytes),
                )
            };
            distance(a, b)
        }));
        let capacity = index.size().max(1024);
        index
            .reserve_capacity_and_threads(capacity, threads)
            .map_err(index_error)?;
        Ok(Self {
            bytes: AtomicUsize::new(index.memory_usage()),
            asked_from: AtomicUsize::new(next_asked(index.size())),
            callers: AtomicUsize::new(0),
            index: RwLock::new(index),
            dim,
            threads,
            covered: AtomicU64::new(covered),
        })
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
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
        self.shared().size()
    }

    /// Memory in use when the graph was at most one sixteenth smaller.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Adds rows, in parallel on the current pool.
    pub(super) fn add(
        &self,
        rows: &[(u64, GraphVector)],
        pool: &rayon::ThreadPool,
    ) -> Result<(), GalleryError> {
        let needed = self.len() + rows.len();
        if needed > self.shared().capacity() {
            let index = self.exclusive();
            index
                .reserve_capacity_and_threads(needed + needed / 2, self.threads)
                .map_err(index_error)?;
        }
        let added = {
            let index = self.shared();
            let index: &Index = &index;
            pool.install(|| {
                rows.par_iter().try_for_each(|(number, vector)| {
                    // A row may have been added before a failure that ended the last attempt.
                    if index.contains(*number) {
                        return Ok(());
                    }
                    index.add(*number, &vector.0).map_err(index_error)
                })
            })
        };
        let size = self.len();
        if size >= self.asked_from.load(Ordering::Relaxed) {
            let bytes = self.exclusive().memory_usage();
            self.bytes.store(bytes, Ordering::Relaxed);
            self.asked_from.store(next_asked(size), Ordering::Relaxed);
        }
        added
    }

    /// Numbers of about the `count` most similar rows that pass, in no particular order.
    pub(super) fn search(
        &self,
        query: &GraphVector,
        count: usize,
        passes: Option<&(dyn Fn(u64) -> bool + Sync)>,
        pool: &rayon::ThreadPool,
    ) -> Result<Vec<u64>, GalleryError> {
        let index = self.shared();
        let index: &Index = &index;
        let search = || match passes {
            None => index.search(&query.0, count),
            Some(passes) => index.filtered_search(&query.0, count, passes),
        };
        // Waking a thread costs a good part of a search; but the index serves only so many threads at a time.
        let most = pool.current_num_threads().min(CALLERS);
        let matches = match Caller::admit(&self.callers, most) {
            Some(_caller) => search(),
            None => pool.install(search),
        };
        Ok(matches.map_err(index_error)?.keys)
    }

    /// Writes the graph to a file.
    pub(super) fn save(&self, path: &Path) -> Result<(), GalleryError> {
        self.shared().save(text(path)?).map_err(index_error)
    }

    fn shared(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The size at which the index is asked for its memory after this one.
fn next_asked(size: usize) -> usize {
    size + size / 16 + 1
}

/// One of the callers that may search on their own threads, until dropped.
struct Caller<'a>(&'a AtomicUsize);

impl<'a> Caller<'a> {
    fn admit(callers: &'a AtomicUsize, most: usize) -> Option<Self> {
        let caller = Self(callers);
        (callers.fetch_add(1, Ordering::AcqRel) < most).then_some(caller)
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn empty_index(dim: usize, config: &HnswConfig) -> Result<Index, GalleryError> {
    let options = IndexOptions {
        dimensions: dim + NORM_BYTES,
        metric: MetricKind::IP,
        quantization: ScalarKind::I8,
        connectivity: config.connectivity,
        expansion_add: config.expansion_add,
        expansion_search: config.expansion_search,
        multi: false,
    };
    Index::new(&options).map_err(index_error)
}

fn text(path: &Path) -> Result<&str, GalleryError> {
    path.to_str()
        .ok_or_else(|| GalleryError::file(path, "the graph can be saved only under a UTF-8 path"))
}

fn index_error(error: impl std::fmt::Display) -> GalleryError {
    GalleryError::Index {
        problem: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const DIM: usize = 24;

    #[test]
    fn the_distance_is_one_minus_the_cosine() {
        assert_eq!(dot_codes(&[127, -3], &[-127, 2]), -16_135);
        let (a, b) = (
            GraphVector::new(&[0.6, 0.8, 0.0]),
            GraphVector::new(&[0.8, 0.0, 0.6]),
        );
        assert!((distance(&a.0, &b.0) - 0.52).abs() < 0.01);
        assert!(distance(&a.0, &a.0).abs() < 1e-3);
        assert_eq!(distance(&[1, 2], &[3]), f32::MAX);
        assert!(distance(&GraphVector::new(&[0.0]).0, &GraphVector::new(&[1.0]).0).is_finite());
    }

    #[test]
    fn sizes_can_be_asked_while_rows_are_added() {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .build()
            .unwrap();
        let graph = Graph::new(DIM, &HnswConfig::default(), 8).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut vector =
            || -> Vec<f32> { (0..DIM).map(|_| random.random::<f32>() - 0.5).collect() };
        let rows: Vec<(u64, GraphVector)> = (0..4000)
            .map(|n| (n, GraphVector::new(&vector())))
            .collect();
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| {
                for rows in rows.chunks(500) {
                    graph.add(rows, &pool).unwrap();
                }
            });
            let mut last = graph.bytes();
            while !adding.is_finished() {
                assert!(graph.len() <= rows.len() && graph.bytes() >= last);
                last = graph.bytes();
            }
        });
        assert!(graph.len() == 4000 && graph.bytes() > 4000 * DIM);
    }

    #[test]
    fn more_callers_than_the_index_serves_wait_for_the_pool() {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .build()
            .unwrap();
        let graph = Graph::new(DIM, &HnswConfig::default(), 2 + CALLERS).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut vector =
            || -> Vec<f32> { (0..DIM).map(|_| random.random::<f32>() - 0.5).collect() };
        let rows: Vec<(u64, GraphVector)> =
            (0..200).map(|n| (n, GraphVector::new(&vector()))).collect();
        graph.add(&rows, &pool).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 * CALLERS {
                scope.spawn(|| {
                    for (_, query) in &rows {
                        assert_eq!(graph.search(query, 3, None, &pool).unwrap().len(), 3);
                    }
                });
            }
        });
        assert_eq!(graph.callers.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_graph_finds_saves_and_loads() {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .build()
            .unwrap();
        let config = HnswConfig::default();
        let graph = Graph::new(DIM, &config, 8).unwrap();
        // Scattered directions: neighbours far closer than the step of a code would tie, and a graph of ties leads nowhere.
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let vectors: Vec<Vec<f32>> = (0..1500)
            .map(|_| (0..DIM).map(|_| random.random::<f32>() - 0.5).collect())
            .collect();
        let rows: Vec<(u64, GraphVector)> = (7..)
            .zip(vectors.iter().map(|v| GraphVector::new(v)))
            .collect();
        graph.add(&rows, &pool).unwrap();
        graph.add(&rows[..10], &pool).unwrap();
        assert_eq!(graph.len(), 1500);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph");
        graph.save(&path).unwrap();
        let loaded = Graph::load(&path, DIM, &config, 8, 1507).unwrap();
        let query = &rows[493];
        let mut nearest: Vec<u64> = rows.iter().map(|(number, _)| *number).collect();
        nearest.sort_by(|a, b| {
            let far = |n: u64| distance(&query.1.0, &rows[n as usize - 7].1.0);
            far(*a).total_cmp(&far(*b))
        });
        for graph in [&graph, &loaded] {
            let found = graph.search(&query.1, 30, None, &pool).unwrap();
            let right = found.iter().filter(|n| nearest[..30].contains(n)).count();
            // The graph is built by several threads, so it differs from run to run; missing a third would be a defect.
            assert!(found.len() == 30 && right >= 20, "{right} of {found:?}");
            let odd = |n: u64| n % 2 == 1;
            let found = graph.search(&query.1, 5, Some(&odd), &pool).unwrap();
            assert!(found.len() == 5 && found.iter().all(|n| n % 2 == 1));
        }
        assert_eq!((loaded.covered(), loaded.len()), (1507, 1500));
        loaded.add(&[(9999, rows[3].1.clone())], &pool).unwrap();
        assert!(Graph::load(&path, DIM + 1, &config, 8, 0).is_err());
        std::fs::write(&path, b"no graph").unwrap();
        assert!(Graph::load(&path, DIM, &config, 8, 0).is_err());
        let wrong = GraphVector::new(&[1.0, 0.0, 0.0]);
        assert!(graph.search(&wrong, 5, None, &pool).is_err());
    }
}
