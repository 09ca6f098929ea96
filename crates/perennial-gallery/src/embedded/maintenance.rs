//! Size and state, and what keeps files small and starts fast.

use std::sync::atomic::Ordering;

use super::compaction::Copied;
use super::graph::Graph;
use super::rows::Rows;
use super::state::{RowsId, Shared, State};
use super::tables::guarded;
use super::writer::Command;
use super::{EmbeddedGallery, SearchMode, place};
use crate::error::GalleryError;
use crate::mapped_index::MappedIndexes;
use crate::moves::Moves;
use crate::stats::{
    BytesPerVector, Compacted, DiskUse, GalleryStats, IndexKind, IndexProgress, IndexState,
    PartitionStats,
};
use crate::store::Maintenance;

impl Maintenance for EmbeddedGallery {
    fn moves(&self) -> Option<Moves> {
        Some(self.shared.state().moves.clone())
    }

    fn health(&self) -> Result<(), GalleryError> {
        self.shared.state().reader()?;
        match &self.writer {
            Some(writer) if !writer.is_finished() => Ok(()),
            _ => Err(GalleryError::Closed),
        }
    }

    fn stats(&self) -> Result<GalleryStats, GalleryError> {
        let disk = self.disk_bytes()?;
        let state = self.shared.state();
        let mut partitions = Vec::new();
        let mut memory = 0;
        for (&number, rows) in &state.partitions {
            let graph = self.shared.graph(RowsId::Partition(number));
            let bytes = rows.bytes() + graph.as_ref().map_or(0, |graph| graph.bytes());
            memory += bytes;
            let items = rows.live() as u64;
            if items == 0 {
                continue;
            }
            let per_version = state.layout.names().iter().zip(rows.per_version());
            let shape = state.layout.partitions().get(&number);
            partitions.push(PartitionStats {
                dim: rows.dim(),
                items,
                simplex: shape.and_then(|shape| shape.simplex()),
                per_version: per_version
                    .filter(|&(_, &items)| items > 0)
                    .map(|(name, &items)| (name.clone(), items))
                    .collect(),
                index: self.index_state(rows, graph.as_deref()),
                memory_bytes_per_vector: bytes as f64 / items as f64,
            });
        }
        // Another look at the state: a lock that is held must not be asked for again.
        drop(state);
        let mapped = self.mapped();
        let of_mapped = mapped.iter().map(|one| one.memory_bytes as usize);
        memory += of_mapped.sum::<usize>();
        let state = self.shared.state();
        let items = state.live() as u64;
        let per_vector = |bytes: f64| {
            if items == 0 {
                0.0
            } else {
                bytes / items as f64
            }
        };
        Ok(GalleryStats {
            items,
            dim: common_dim(&state),
            per_version: partitions
                .iter()
                .flat_map(|partition| partition.per_version.clone())
                .collect(),
            index: self.index_of_all(&partitions),
            bytes_per_vector: BytesPerVector {
                memory: per_vector(memory as f64),
                disk: per_vector(disk as f64),
            },
            disk: DiskUse {
                bytes: disk,
                reclaimable_bytes: disk.saturating_sub(state.space.file()),
            },
            partitions,
            mapped,
        })
    }

    fn flush(&self) -> Result<(), GalleryError> {
        // Commands are handled in order, so an answer to this one means that all before are done.
        self.ask(Command::Read)?;
        self.indexer.save()
    }

    fn compact(&self) -> Result<Compacted, GalleryError> {
        self.check_writable()?;
        let _running = Compacting::begin(&self.shared)?;
        let reader = self.ask(Command::Read)?;
        let (items, bytes_before) = (reader.items()?, self.disk_bytes()?);
        let needed = self.shared.state().space.file();
        if let Some(free) = place::free_space(reader.path()).filter(|&free| free < needed) {
            return Err(GalleryError::NoSpace {
                path: self.database.clone(),
                needed,
                free,
            });
        }
        let path = reader.path().to_owned();
        let copied = guarded(&path, || {
            Copied::of(&reader, self.shared.config.cache_bytes)
        })?;
        drop(reader);
        let bytes_after = self.ask(|reply| Command::Adopt(Box::new(copied), reply))?;
        tracing::info!(
            items,
            bytes_before,
            bytes_after,
            "the gallery was compacted"
        );
        Ok(Compacted {
            items: self.shared.state().live() as u64,
            bytes_before,
            bytes_after,
        })
    }
}

impl EmbeddedGallery {
    pub(super) fn index_state(&self, rows: &Rows, graph: Option<&Graph>) -> IndexState {
        let live = rows.live() as u64;
        let Some(graph) = graph else {
            return IndexState {
                kind: self.scan_kind(),
                state: IndexProgress::Ready,
                indexed: live,
                backlog: match self.shared.config.hnsw_from as u64 {
                    from if live >= from && !self.shared.read_only => live,
                    _ => 0,
                },
            };
        };
        // Dead rows behind those are nothing that a graph takes in.
        let missing = rows
            .alive()
            .count_from(rows.first_slot_from(graph.covered()));
        IndexState {
            kind: IndexKind::Hnsw,
            state: match missing {
                0 => IndexProgress::Ready,
                _ => IndexProgress::Building,
            },
            indexed: live.saturating_sub(missing as u64),
            backlog: missing as u64,
        }
    }

    fn scan_kind(&self) -> IndexKind {
        match self.shared.config.search {
            SearchMode::Int8 => IndexKind::Int8,
            SearchMode::Exact => IndexKind::Exact,
        }
    }

    /// The kind is that of the largest partition, the numbers are those of all.
    fn index_of_all(&self, partitions: &[PartitionStats]) -> IndexState {
        let largest = partitions.iter().max_by_key(|partition| partition.items);
        let sum =
            |of: fn(&IndexState) -> u64| -> u64 { partitions.iter().map(|p| of(&p.index)).sum() };
        let building =
            |partition: &PartitionStats| partition.index.state == IndexProgress::Building;
        IndexState {
            kind: largest.map_or(self.scan_kind(), |partition| partition.index.kind),
            state: match partitions.iter().any(building) {
                true => IndexProgress::Building,
                false => IndexProgress::Ready,
            },
            indexed: sum(|index| index.indexed),
            backlog: sum(|index| index.backlog),
        }
    }
}

/// The dimension of all spaces, if they have the same.
fn common_dim(state: &State) -> Option<usize> {
    let mut dims = state.layout.spaces().map(|(_, _, shape)| shape.dim());
    let first = dims.next()?;
    dims.all(|dim| dim == first).then_some(first)
}

/// Only one compaction runs at a time.
struct Compacting<'a>(&'a Shared);

impl<'a> Compacting<'a> {
    fn begin(shared: &'a Shared) -> Result<Self, GalleryError> {
        match shared.compacting.swap(true, Ordering::AcqRel) {
            true => Err(GalleryError::Compacting),
            false => Ok(Self(shared)),
        }
    }
}

impl Drop for Compacting<'_> {
    fn drop(&mut self) {
        self.0.compacting.store(false, Ordering::Release);
    }
}
