//! How the engine works, and its defaults.

use serde::{Deserialize, Serialize};

use crate::error::GalleryError;

/// How vectors are compared where no approximate index answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchMode {
    /// int8 scalar quantization with error bounds; candidates that the bounds cannot decide are re-scored in f32. Same results as
    /// [`Exact`](Self::Exact) at a quarter of the memory traffic; needs 25 % more memory.
    #[default]
    Int8,
    /// All in f32.
    Exact,
}

/// The approximate index: a graph of neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HnswConfig {
    /// Neighbours per node; more cost memory and find more.
    pub connectivity: usize,
    /// Candidates considered while a vector is added.
    pub expansion_add: usize,
    /// Candidates considered during a search.
    pub expansion_search: usize,
}

impl Default for HnswConfig {
    fn default() -> Self {
        Self {
            connectivity: 16,
            expansion_add: 128,
            expansion_search: 64,
        }
    }
}

/// How an [`EmbeddedGallery`](super::EmbeddedGallery) works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GalleryConfig {
    /// How vectors are compared where no approximate index answers.
    pub search: SearchMode,
    /// From how many items on an approximate index is built; `usize::MAX` for never.
    pub hnsw_from: usize,
    /// The approximate index.
    pub hnsw: HnswConfig,
    /// Threads of starts, of searches of all rows, of batches in the graph and of index building; 0 for one per processor. Where a number is given,
    /// half of it builds indexes. Single queries search the graph on their callers' threads.
    pub threads: usize,
    /// Memory for cached pages of the database, in bytes.
    pub cache_bytes: usize,
    /// Writes that may wait for the next commit before further callers block.
    pub queue: usize,
}

impl GalleryConfig {
    /// The number that `threads` stands for, wherever threads are started.
    pub(super) fn computing_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Those of them that build indexes. They step back behind searches, so all may where nobody set a limit.
    pub(super) fn indexing_threads(&self) -> usize {
        match self.threads {
            0 => self.computing_threads(),
            threads => threads.div_ceil(2),
        }
    }

    pub(super) fn check(&self) -> Result<(), GalleryError> {
        for (key, value, range) in [
            ("hnsw.connectivity", self.hnsw.connectivity, 2..=256),
            ("hnsw.expansion_add", self.hnsw.expansion_add, 1..=65_536),
            (
                "hnsw.expansion_search",
                self.hnsw.expansion_search,
                1..=65_536,
            ),
            ("threads", self.threads, 0..=1024),
            ("queue", self.queue, 1..=65_536),
        ] {
            if !range.contains(&value) {
                let (low, high) = (range.start(), range.end());
                return Err(GalleryError::InvalidConfig {
                    key,
                    problem: format!("must be {low} to {high}, got {value}"),
                });
            }
        }
        Ok(())
    }
}

impl Default for GalleryConfig {
    fn default() -> Self {
        Self {
            search: SearchMode::default(),
            hnsw_from: 200_000,
            hnsw: HnswConfig::default(),
            threads: 0,
            cache_bytes: 256 << 20,
            queue: 64,
        }
    }
}
