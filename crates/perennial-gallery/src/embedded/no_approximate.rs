//! The approximate index in a build without it: there is no graph, so nothing can be asked of one.

use std::convert::Infallible;
use std::path::Path;

use super::HnswConfig;
use crate::error::GalleryError;

/// Callers that may search on their own threads at a time.
pub(super) const CALLERS: usize = 0;

/// A vector as a graph would hold it.
pub(super) struct GraphVector;

impl GraphVector {
    pub(super) fn new(_vector: &[f32]) -> Self {
        Self
    }
}

/// A graph, of which there is none in this build.
pub(super) struct Graph(Infallible);

impl Graph {
    pub(super) fn new(
        _dim: usize,
        _config: &HnswConfig,
        _threads: usize,
    ) -> Result<Self, GalleryError> {
        Err(missing())
    }

    pub(super) fn load(
        _path: &Path,
        _dim: usize,
        _config: &HnswConfig,
        _threads: usize,
        _covered: u64,
    ) -> Result<Self, GalleryError> {
        Err(missing())
    }

    pub(super) fn dim(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn covered(&self) -> u64 {
        match self.0 {}
    }

    pub(super) fn set_covered(&self, _number: u64) {
        match self.0 {}
    }

    pub(super) fn len(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn bytes(&self) -> usize {
        match self.0 {}
    }

    pub(super) fn add(
        &self,
        _rows: &[(u64, GraphVector)],
        _pool: &rayon::ThreadPool,
    ) -> Result<(), GalleryError> {
        match self.0 {}
    }

    pub(super) fn search(
        &self,
        _query: &GraphVector,
        _count: usize,
        _passes: Option<&(dyn Fn(u64) -> bool + Sync)>,
        _pool: &rayon::ThreadPool,
    ) -> Result<Vec<u64>, GalleryError> {
        match self.0 {}
    }

    pub(super) fn save(&self, _path: &Path) -> Result<(), GalleryError> {
        match self.0 {}
    }
}

fn missing() -> GalleryError {
    GalleryError::Index {
        problem: "this build has no approximate index; build with --features hnsw".to_owned(),
    }
}
