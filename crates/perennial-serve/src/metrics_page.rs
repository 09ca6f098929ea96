//! The figures of `GET /metrics`, gathered when they are asked for.

use std::sync::Arc;

use perennial_gallery::GalleryStats;

use crate::config::ServeConfig;
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::lifecycle::Lifecycle;
use crate::planning::Planning;
use crate::process::{Process, free_bytes};
use crate::reembedding::{Reembedder, expectation_beside_runs};
use crate::routes::{backfill::state_name, snapshots};
use crate::telemetry::{Gauges, Storage, Telemetry};

/// What the figures are taken from.
pub(crate) struct MetricsPage {
    pub(crate) config: Arc<ServeConfig>,
    pub(crate) planning: Arc<Planning>,
    pub(crate) inference: Arc<Inference>,
    pub(crate) gallery: Arc<Gallery>,
    pub(crate) reembedder: Arc<Reembedder>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) lifecycle: Arc<Lifecycle>,
}

impl MetricsPage {
    /// The metrics in Prometheus' text format; looks at files.
    pub(crate) fn text(&self) -> String {
        // First, since everything else rests on it.
        let counted = self.gallery.count().ok();
        let live = self.inference.live.current();
        let plan = self.planning.live_plan();
        let backfill = &self.reembedder.backfill;
        let name = live.as_ref().map(|live| live.name());
        let expected = expectation_beside_runs(&self.reembedder, name);
        self.telemetry.render(&Gauges {
            plan: &plan,
            queue_images: self.inference.batcher.depth(),
            per_version: &self.gallery.stored().per_version,
            counted: counted.is_some(),
            live: name,
            uptime: self.lifecycle.uptime(),
            process: Process::now(),
            storage: self.storage(counted.as_ref()),
            backfill: backfill.counts(&self.gallery.stored(), name, expected.as_ref()),
            backfill_state: backfill
                .view(|view| state_name(view.record.map(|record| record.state))),
        })
    }

    /// If the gallery cannot be read, its metrics are NaN, or left out where they never were anything else, and the others are still reported.
    fn storage(&self, gallery: Option<&GalleryStats>) -> Storage {
        let snapshots = self.config.snapshots.as_deref();
        let newest = snapshots.and_then(|folder| snapshots::newest(folder).ok());
        Storage {
            disk_bytes: gallery.map(|stats| stats.disk.bytes),
            reclaimable_bytes: gallery.map(|stats| stats.disk.reclaimable_bytes),
            free_bytes: self.config.gallery.as_deref().and_then(free_bytes),
            index_backlog: gallery.map(|stats| stats.index.backlog),
            snapshots: newest.map(|(count, _)| count),
            snapshot_age: newest
                .and_then(|(_, written)| written)
                .map(|written| written.elapsed().unwrap_or_default()),
        }
    }
}
