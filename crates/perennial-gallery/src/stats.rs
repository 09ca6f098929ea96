//! What a gallery says about its size, its index and its files.

use std::collections::BTreeMap;

use perennial_core::SpaceId;
use serde::{Deserialize, Serialize};

use crate::item::SimplexIdentity;

/// The size and the state of a gallery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GalleryStats {
    /// Items stored.
    pub items: u64,
    /// The dimension of the vectors, where all spaces have the same.
    pub dim: Option<usize>,
    /// Items by the model version that embedded them; versions without items are absent.
    pub per_version: BTreeMap<String, u64>,
    /// The index that answers searches now: the kind that the largest partition has, and the numbers of all.
    pub index: IndexState,
    /// Memory and disk space per vector, on average.
    pub bytes_per_vector: BytesPerVector,
    /// What the gallery occupies on the disk.
    pub disk: DiskUse,
    /// The parts that have an index of their own, where the store has such parts; those without items are absent.
    #[serde(default)]
    pub partitions: Vec<PartitionStats>,
    /// Indexes of mapped vectors that are kept beside what is stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapped: Vec<MappedIndexStats>,
}

/// Items that share one index: those of a space, or of the spaces of one simplex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionStats {
    /// The dimension of the vectors.
    pub dim: usize,
    /// Items stored.
    pub items: u64,
    /// The simplex that the vectors were trained towards, if any.
    pub simplex: Option<SimplexIdentity>,
    /// Items by the model version or outside encoder that embedded them.
    pub per_version: BTreeMap<String, u64>,
    /// The index that answers searches now.
    pub index: IndexState,
    /// Memory of one vector, in bytes, on average.
    pub memory_bytes_per_vector: f64,
}

/// How far a mapped index is, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedIndexStats {
    /// The space of the items.
    pub space: SpaceId,
    /// The key of the map.
    pub map: String,
    /// The dimension of the mapped vectors.
    pub dim: usize,
    /// Items that are mapped.
    pub items: u64,
    /// Items that the map refuses. They are not found through this index.
    pub refused: u64,
    /// Whether it has held all items at least once, so that searches may go through it. What is stored later is searched from the moment on at
    /// which it is stored.
    pub ready: bool,
    /// How its rows are searched.
    pub index: IndexState,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
}

/// How searches are answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexState {
    /// The kind of search.
    pub kind: IndexKind,
    /// Whether the index covers all items.
    pub state: IndexProgress,
    /// Items that an approximate index covers; the others are compared one by one.
    pub indexed: u64,
    /// Items that an approximate index is still to take in; 0 without one.
    pub backlog: u64,
}

/// Space on the disk, in bytes, of the file that holds the items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// Size of the file.
    pub bytes: u64,
    /// How much smaller [`Maintenance::compact`](crate::Maintenance::compact) would make it, estimated: space of items that were
    /// replaced or deleted, and room that was taken ahead of need. New items fill it again.
    pub reclaimable_bytes: u64,
}

impl DiskUse {
    /// The least space that makes a compaction worthwhile.
    const WORTHWHILE_BYTES: u64 = 16 << 20;

    /// Whether compaction would free at least 16 MiB and a third of the file.
    pub fn is_wasteful(&self) -> bool {
        self.reclaimable_bytes >= Self::WORTHWHILE_BYTES.max(self.bytes / 3)
    }
}

/// A compaction that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Items in the gallery.
    pub items: u64,
    /// Size of the file before, in bytes.
    pub bytes_before: u64,
    /// Its size now.
    pub bytes_after: u64,
}

/// The kinds of search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexKind {
    /// Every vector in f32.
    Exact,
    /// int8 scan of every vector, with undecided candidates re-scored in f32.
    Int8,
    /// Approximate search in a neighbour graph, with the best candidates re-scored in f32.
    Hnsw,
}

/// How far an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexProgress {
    /// It covers all items.
    Ready,
    /// It is being built or brought up to date; searches are complete meanwhile, only slower.
    Building,
}

/// What one vector costs, in bytes, everything but its payload included; 0 while the gallery is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BytesPerVector {
    /// In memory.
    pub memory: f64,
    /// On disk, payloads and free pages included.
    pub disk: f64,
}

/// A snapshot that was written or restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Items in it.
    pub items: u64,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the whole file, in hexadecimal digits.
    pub sha256: String,
}
