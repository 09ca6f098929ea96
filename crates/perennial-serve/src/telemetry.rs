//! The service's metrics, in Prometheus' text format.

mod gauges;
mod upgrades;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

pub(crate) use self::gauges::{Gauges, Storage};
use crate::process::{self, Process};
use metrics::{Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// From half a millisecond to half a minute, each bound about 1.8 times the one before.
const SECONDS: [f64; 18] = [
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0,
    10.0, 30.0,
];
const IMAGES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

const REQUESTS: &str = "perennial_http_requests_total";
const REQUEST_SECONDS: &str = "perennial_http_request_seconds";
const STAGE_SECONDS: &str = "perennial_stage_seconds";
const BATCH_IMAGES: &str = "perennial_batch_images";
const QUEUE_IMAGES: &str = "perennial_queue_images";
const ITEMS: &str = "perennial_gallery_items";
const NOT_SEARCHED: &str = "perennial_items_not_searched";
const ROUTE_ITEMS: &str = "perennial_route_items";
const SWAPS: &str = "perennial_swaps_total";
const FORCED: &str = "perennial_forced_total";
const LIVE_INFO: &str = "perennial_live_version_info";
const BUILD_INFO: &str = "perennial_build_info";
const CONNECTIONS: &str = "perennial_connections";
const REFUSED_CONNECTIONS: &str = "perennial_connections_refused_total";
const UPTIME: &str = "perennial_uptime_seconds";
const LIMITED_CLIENTS: &str = "perennial_client_limited_total";
const RELOADS: &str = "perennial_reloads_total";
const CERTIFICATE_EXPIRY: &str = "perennial_tls_certificate_expiry_timestamp_seconds";
const STARTED: &str = "perennial_process_start_time_seconds";
const RESIDENT: &str = "perennial_process_resident_memory_bytes";
const OPEN_FILES: &str = "perennial_process_open_fds";
const MAX_FILES: &str = "perennial_process_max_fds";
const INDEX_BACKLOG: &str = "perennial_index_backlog_items";
const DISK: &str = "perennial_gallery_disk_bytes";
const RECLAIMABLE: &str = "perennial_gallery_reclaimable_bytes";
const FREE: &str = "perennial_gallery_free_bytes";
const FALLBACK_ITEMS: &str = "perennial_route_fallback_items";
const BACKFILL: &str = "perennial_backfill_items";
const BACKFILL_STATE: &str = "perennial_backfill_state";
const SNAPSHOTS: &str = "perennial_snapshots";
const SNAPSHOT_AGE: &str = "perennial_snapshot_age_seconds";
const UPSTREAM_REQUESTS: &str = "perennial_upstream_requests_total";
const WITHOUT_OLD: &str = "perennial_answers_without_old_total";
const UPSTREAM_SECONDS: &str = "perennial_upstream_request_seconds";
const CANARY_DISTANCE: &str = "perennial_upstream_canary_distance";
const DRIFTED: &str = "perennial_upstream_drifted";
const ENDPOINT_DISTANCE: &str = "perennial_endpoint_canary_distance";
const ENDPOINT_DRIFTED: &str = "perennial_endpoint_drifted";

/// A part of a request's work.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    Decode,
    Queue,
    Encode,
    Search,
    Rerank,
    Commit,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Queue => "queue",
            Self::Encode => "encode",
            Self::Search => "search",
            Self::Rerank => "rerank",
            Self::Commit => "commit",
        }
    }
}

/// The metrics of one service. They are not global, so that several services can live in one process.
pub(crate) struct Telemetry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    /// Versions that have a gauge; one that has lost its last item reads 0 instead of its old number.
    seen: Mutex<BTreeSet<String>>,
    /// The same for spaces and the routes that they were searched by.
    seen_routes: Mutex<BTreeSet<(String, &'static str)>>,
    /// Gauges whose value was known once.
    known: Mutex<BTreeSet<&'static str>>,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Full(BATCH_IMAGES.to_owned()), &IMAGES)
            })
            .expect("the lists of buckets are not empty")
            .build_recorder();
        for (name, text) in [
            (REQUESTS, "Requests by route and status."),
            (SWAPS, "Swaps of the live version by outcome."),
            (
                REFUSED_CONNECTIONS,
                "Connections refused because there were too many.",
            ),
            (
                LIMITED_CLIENTS,
                "Requests refused by a limit per client: concurrent or per_second.",
            ),
            (
                RELOADS,
                "Reloads of keys and certificate by outcome: done or failed.",
            ),
            (
                UPSTREAM_REQUESTS,
                "Requests to upstreams by outcome: done, refused, failed or timeout.",
            ),
            (
                WITHOUT_OLD,
                "Requests for embeddings that a certified route answered without the old encoder, since that fails, by reason: upstream_failed or upstream_timeout.",
            ),
            (
                FORCED,
                "Operations on uncertified pairs of versions, by kind.",
            ),
        ] {
            recorder.describe_counter(name.into(), None, text.into());
        }
        for (name, text) in [
            (CONNECTIONS, "Clients connected."),
            (QUEUE_IMAGES, "Images queued or being encoded."),
            (
                ITEMS,
                "Items in the gallery by the version that embedded them.",
            ),
            (
                NOT_SEARCHED,
                "Items that searches by picture leave out, by space and kind of reason.",
            ),
            (
                ROUTE_ITEMS,
                "Items that searches by picture reach, by space and route: own, bridged, dual or mapped.",
            ),
            (LIVE_INFO, "1 for the live version."),
            (BUILD_INFO, "The program's version."),
            (UPTIME, "Seconds since the start."),
            (
                CERTIFICATE_EXPIRY,
                "Unix time at which the first certificate of the chain expires.",
            ),
            (STARTED, "Unix time at which the process started."),
            (RESIDENT, "Memory that the process holds."),
            (OPEN_FILES, "Files and sockets that the process has open."),
            (
                MAX_FILES,
                "Files and sockets that the process may have open.",
            ),
            (
                INDEX_BACKLOG,
                "Stored items that are not yet in the approximate index.",
            ),
            (DISK, "Size of the gallery's file."),
            (
                RECLAIMABLE,
                "How much smaller a compaction would make the gallery's file, estimated.",
            ),
            (FREE, "Free space of the gallery's file system."),
            (
                BACKFILL,
                "Items of a backfill: done, left, failed or changed meanwhile.",
            ),
            (
                BACKFILL_STATE,
                "1 for the state of the backfill: idle, running, paused or finished.",
            ),
            (
                FALLBACK_ITEMS,
                "Items that searches by picture reach by another route than the best certified one, by space.",
            ),
            (SNAPSHOTS, "Snapshots in the snapshots folder."),
            (SNAPSHOT_AGE, "Time since the newest snapshot was written."),
            (
                CANARY_DISTANCE,
                "Largest distance of a canary's embedding from the registered one; NaN before the first check.",
            ),
            (DRIFTED, "1 for an upstream whose model has changed."),
            (
                ENDPOINT_DISTANCE,
                "Largest distance of a canary's embedding from the one recorded at import, by version; NaN before the first check.",
            ),
            (
                ENDPOINT_DRIFTED,
                "1 for a version whose embedding service has another model now.",
            ),
        ] {
            recorder.describe_gauge(name.into(), None, text.into());
        }
        for (name, unit, text) in [
            (
                REQUEST_SECONDS,
                Some(Unit::Seconds),
                "From headers to answer, by route.",
            ),
            (
                STAGE_SECONDS,
                Some(Unit::Seconds),
                "Parts of requests: decode, queue, encode, search, rerank, commit.",
            ),
            (
                UPSTREAM_SECONDS,
                Some(Unit::Seconds),
                "Requests to upstreams, each repetition on its own.",
            ),
            (BATCH_IMAGES, None, "Images per forward pass."),
        ] {
            recorder.describe_histogram(name.into(), unit, text.into());
        }
        let telemetry = Self {
            handle: recorder.handle(),
            recorder,
            seen: Mutex::default(),
            seen_routes: Mutex::default(),
            known: Mutex::default(),
        };
        telemetry.gauge(BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        telemetry.gauge(STARTED, &[], unix_seconds(process::started()));
        // Counters start at 0, so that rates and alerts see the first event.
        for (name, label, values) in [
            (LIMITED_CLIENTS, "limit", &["concurrent", "per_second"][..]),
            (RELOADS, "outcome", &["done", "failed"]),
            (
                SWAPS,
                "outcome",
                &["moved", "forced", "refused", "failed", "rolled_back"],
            ),
            (FORCED, "kind", &["search", "upsert", "swap"]),
            (
                WITHOUT_OLD,
                "reason",
                &["upstream_failed", "upstream_timeout"],
            ),
        ] {
            for value in values {
                telemetry.count(name, &[(label, value)], 0);
            }
        }
        telemetry.count(REFUSED_CONNECTIONS, &[], 0);
        telemetry
    }

    pub(crate) fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let labels = [
            ("method", method),
            ("route", route),
            ("status", &status.to_string()),
        ];
        self.count(REQUESTS, &labels, 1);
        self.observe(REQUEST_SECONDS, &[("route", route)], took.as_secs_f64());
    }

    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        self.observe(
            STAGE_SECONDS,
            &[("stage", stage.name())],
            took.as_secs_f64(),
        );
    }

    pub(crate) fn batch(&self, images: usize) {
        self.observe(BATCH_IMAGES, &[], images as f64);
    }

    pub(crate) fn connections(&self, now: usize) {
        self.gauge(CONNECTIONS, &[], now as f64);
    }

    pub(crate) fn refused_connection(&self) {
        self.count(REFUSED_CONNECTIONS, &[], 1);
    }

    /// `limit` is `concurrent` or `per_second`.
    pub(crate) fn limited_client(&self, limit: &'static str) {
        self.count(LIMITED_CLIENTS, &[("limit", limit)], 1);
    }

    pub(crate) fn reload(&self, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.count(RELOADS, &[("outcome", outcome)], 1);
    }

    /// The certificate in use.
    pub(crate) fn certificate(&self, expires: SystemTime) {
        self.gauge(CERTIFICATE_EXPIRY, &[], unix_seconds(expires));
    }

    /// `outcome` is `moved`, `forced`, `refused`, `failed` or `rolled_back`.
    pub(crate) fn swap(&self, outcome: &'static str) {
        self.count(SWAPS, &[("outcome", outcome)], 1);
    }

    /// `kind` is `search`, `upsert` or `swap`.
    pub(crate) fn forced(&self, kind: &'static str, times: u64) {
        self.count(FORCED, &[("kind", kind)], times);
    }

    /// A request for embeddings was answered by a route that needs no old encoder, since that fails.
    pub(crate) fn answered_without_old(&self, reason: &'static str) {
        self.count(WITHOUT_OLD, &[("reason", reason)], 1);
    }

    /// An upstream that nothing was asked of yet.
    pub(crate) fn upstream(&self, upstream: &str) {
        for outcome in ["done", "refused", "failed", "timeout"] {
            let labels = [("upstream", upstream), ("outcome", outcome)];
            self.count(UPSTREAM_REQUESTS, &labels, 0);
        }
        self.canaries(upstream, f64::NAN, false);
    }

    /// `outcome` is `done`, `refused`, `failed` or `timeout`.
    pub(crate) fn upstream_request(&self, upstream: &str, outcome: &'static str, took: Duration) {
        let labels = [("upstream", upstream), ("outcome", outcome)];
        self.count(UPSTREAM_REQUESTS, &labels, 1);
        self.observe(
            UPSTREAM_SECONDS,
            &[("upstream", upstream)],
            took.as_secs_f64(),
        );
    }

    /// What the embeddings of an upstream's canaries say.
    pub(crate) fn canaries(&self, upstream: &str, distance: f64, drifted: bool) {
        let labels = [("upstream", upstream)];
        self.gauge(CANARY_DISTANCE, &labels, distance);
        self.gauge(DRIFTED, &labels, f64::from(u8::from(drifted)));
    }

    /// What the embeddings of the canaries of a version's embedding service say.
    pub(crate) fn endpoint_canaries(&self, version: &str, distance: f64, drifted: bool) {
        let labels = [("version", version)];
        self.gauge(ENDPOINT_DISTANCE, &labels, distance);
        self.gauge(ENDPOINT_DRIFTED, &labels, f64::from(u8::from(drifted)));
    }

    /// Everything as text, with the gauges of this moment.
    pub(crate) fn render(&self, now: &Gauges<'_>) -> String {
        self.gauge(QUEUE_IMAGES, &[], now.queue_images as f64);
        self.gauge(UPTIME, &[], now.uptime.as_secs_f64());
        let Process {
            resident_bytes,
            open_files,
            max_files,
        } = now.process;
        let storage = &now.storage;
        for (name, value) in [
            (RESIDENT, resident_bytes),
            (OPEN_FILES, open_files),
            (MAX_FILES, max_files),
            (DISK, storage.disk_bytes),
            (RECLAIMABLE, storage.reclaimable_bytes),
            (FREE, storage.free_bytes),
            (INDEX_BACKLOG, storage.index_backlog),
            (SNAPSHOTS, storage.snapshots),
        ] {
            self.known_gauge(name, value.map(|value| value as f64));
        }
        // The age of the last one must not stand still when it is deleted.
        let age = storage.snapshot_age.map(|age| age.as_secs_f64());
        let age = storage.snapshots.map(|_| age.unwrap_or(f64::NAN));
        self.known_gauge(SNAPSHOT_AGE, age);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(now.per_version.keys().cloned());
        seen.extend(now.live.map(str::to_owned));
        for version in seen.iter() {
            let labels = [("model_version", version.as_str())];
            let items = now.per_version.get(version).copied().unwrap_or(0);
            self.gauge(ITEMS, &labels, now.items(items));
            let live = now.live == Some(version.as_str());
            self.gauge(LIVE_INFO, &labels, f64::from(u8::from(live)));
            self.not_searched(now, version);
        }
        self.upgrades(now);
        self.handle.render()
    }

    /// Folds raw measurements into buckets; without it they would pile up between scrapes.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn count(&self, name: &'static str, labels: &[(&'static str, &str)], times: u64) {
        self.recorder
            .register_counter(&key(name, labels), &METADATA)
            .increment(times);
    }

    fn gauge(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.recorder
            .register_gauge(&key(name, labels), &METADATA)
            .set(value);
    }

    /// A gauge whose value is not always known: it is left out before it was known once, and NaN where it no longer is, instead of standing still.
    fn known_gauge(&self, name: &'static str, value: Option<f64>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if value.is_some() {
            known.insert(name);
        }
        if known.contains(name) {
            self.gauge(name, &[], value.unwrap_or(f64::NAN));
        }
    }

    fn observe(&self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.recorder
            .register_histogram(&key(name, labels), &METADATA)
            .record(value);
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels
        .iter()
        .map(|&(key, value)| Label::new(key, value.to_owned()))
        .collect();
    Key::from_parts(name, labels)
}

#[cfg(test)]
mod tests;
