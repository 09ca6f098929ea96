//! Size and state, and what keeps files small and starts fast.

use std::sync::atomic::Ordering;

use super::compaction::Copied;
use super::log::guarded;
use super::state::Shared;
use super::writer::Command;
use super::{EmbeddedGallery, SearchMode, place};
use crate::error::GalleryError;
use crate::stats::{
    BytesPerVector, Compacted, DiskUse, GalleryStats, IndexKind, IndexProgress, IndexState,
};
use crate::store::Maintenance;

impl Maintenance for EmbeddedGallery {
    fn stats(&self) -> Result<GalleryStats, GalleryError> {
        let disk = self.disk_bytes()?;
        let state = self.shared.state();
        let rows = &state.rows;
        let graph = self
            .shared
            .graph()
            .filter(|graph| graph.dim() == rows.dim());
        let live = rows.live() as u64;
        let per_version = state.versions.iter().zip(rows.per_version());
        let index = match &graph {
            None => IndexState {
                kind: match self.shared.config.search {
                    SearchMode::Int8 => IndexKind::Int8,
                    SearchMode::Exact => IndexKind::Exact,
                },
                state: IndexProgress::Ready,
                indexed: live,
                backlog: match self.shared.config.hnsw_from as u64 {
                    from if live >= from && !self.shared.read_only => live,
                    _ => 0,
                },
            },
            Some(graph) => {
                let missing = rows.slots() - rows.first_slot_from(graph.covered());
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
        };
        let memory = rows.bytes() + graph.map_or(0, |graph| graph.bytes());
        let per_vector = |bytes: f64| if live == 0 { 0.0 } else { bytes / live as f64 };
        Ok(GalleryStats {
            items: live,
            dim: state.meta.dim(),
            per_version: per_version
                .filter(|&(_, &items)| items > 0)
                .map(|(name, &items)| (name.clone(), items))
                .collect(),
            index,
            bytes_per_vector: BytesPerVector {
                memory: per_vector(memory as f64),
                disk: per_vector(disk as f64),
            },
            disk: DiskUse {
                bytes: disk,
                reclaimable_bytes: disk.saturating_sub(state.space.file()),
            },
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
            items: self.shared.state().rows.live() as u64,
            bytes_before,
            bytes_after,
        })
    }
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
