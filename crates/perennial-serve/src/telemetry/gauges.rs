//! Values that are read when the metrics are asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use perennial_upgrade::SearchPlan;

use crate::process::Process;

/// Values that are read at scrape time.
pub(crate) struct Gauges<'a> {
    pub(crate) queue_images: usize,
    pub(crate) per_version: &'a BTreeMap<String, u64>,
    /// Whether the gallery could be counted just now. Otherwise nobody knows how many items it has.
    pub(crate) counted: bool,
    pub(crate) live: Option<&'a str>,
    /// How pictures are searched.
    pub(crate) plan: &'a SearchPlan,
    pub(crate) uptime: Duration,
    pub(crate) process: Process,
    pub(crate) storage: Storage,
    /// Items of the backfill by state.
    pub(crate) backfill: [(&'static str, u64); 4],
    /// `idle`, `running`, `paused` or `finished`.
    pub(crate) backfill_state: &'static str,
}

impl Gauges<'_> {
    /// A number of items, where the gallery could be counted.
    pub(super) fn items(&self, items: u64) -> f64 {
        match self.counted {
            true => items as f64,
            false => f64::NAN,
        }
    }
}

/// What the gallery and its backups take, as far as it is known.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Storage {
    /// Bytes of the gallery's file.
    pub(crate) disk_bytes: Option<u64>,
    /// How much smaller a compaction would make it, estimated.
    pub(crate) reclaimable_bytes: Option<u64>,
    /// Bytes that are free where the gallery lies.
    pub(crate) free_bytes: Option<u64>,
    /// Items that the graph of neighbours does not hold yet.
    pub(crate) index_backlog: Option<u64>,
    /// How many snapshots there are, where there is a folder for them.
    pub(crate) snapshots: Option<u64>,
    /// The age of the newest.
    pub(crate) snapshot_age: Option<Duration>,
}
