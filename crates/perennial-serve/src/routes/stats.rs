//! `GET /gallery/stats` and `GET /stats/live`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use perennial_gallery::{IndexState, MappedIndexStats, PartitionStats, SimplexIdentity};
use serde::Serialize;
use utoipa::ToSchema;

use super::parts::{LeftOutBody, PartBody};
use crate::authorize::MayRead;
use crate::blocking::blocking;
use crate::error::ApiError;
use crate::gallery::Gallery;
use crate::inference::Inference;
use crate::openapi::Guarded;
use crate::planning::Planning;
use crate::recent::Recent;

/// Size and state of the gallery.
#[derive(Serialize, ToSchema)]
pub(crate) struct GalleryBody {
    items: u64,
    /// The dimension of the vectors, where all versions have the same.
    dim: Option<usize>,
    /// Items by the version that embedded them.
    per_version: BTreeMap<String, u64>,
    /// The kind of the largest partition, and the numbers of all.
    index: IndexBody,
    bytes_per_vector: BytesBody,
    disk: DiskBody,
    /// Items stored without a certificate since the start.
    forced_writes: u64,
    /// Pairs of versions, newer first, that were accepted by force since the start.
    forced_pairs: Vec<[String; 2]>,
    /// The simplex that the vectors belong to; the first one, where there are several.
    identity: Option<IdentityBody>,
    /// The parts of the gallery that have an index of their own; versions of one simplex share one.
    partitions: Vec<PartitionBody>,
    /// The indexes of mapped vectors that are kept in memory beside what is stored.
    mapped: Vec<MappedBody>,
    /// How pictures are searched at present: the spaces, and the routes that lead to them.
    parts: Vec<PartBody>,
    /// Items that are not searched.
    not_searched: u64,
    /// The same by space, and why.
    left_out: Vec<LeftOutBody>,
}

/// A part of the gallery with an index of its own.
#[derive(Serialize, ToSchema)]
pub(crate) struct PartitionBody {
    /// The dimension of the vectors.
    dim: usize,
    items: u64,
    /// The simplex that the vectors belong to.
    simplex: Option<IdentityBody>,
    /// Items by the version that embedded them.
    per_version: BTreeMap<String, u64>,
    index: IndexBody,
    /// Memory of one vector, in bytes.
    memory_bytes_per_vector: f64,
}

impl From<PartitionStats> for PartitionBody {
    fn from(stats: PartitionStats) -> Self {
        Self {
            dim: stats.dim,
            items: stats.items,
            simplex: stats.simplex.map(IdentityBody::from),
            per_version: stats.per_version,
            index: stats.index.into(),
            memory_bytes_per_vector: stats.memory_bytes_per_vector,
        }
    }
}

/// The items of one space by their vectors mapped into the space of a version.
#[derive(Serialize, ToSchema)]
pub(crate) struct MappedBody {
    /// The space of the items.
    space: String,
    /// The SHA-256 of the bridge that maps.
    map: String,
    /// The dimension of the mapped vectors.
    dim: usize,
    /// Items that are mapped.
    items: u64,
    /// Items that the bridge refuses.
    refused: u64,
    /// Whether it has held all items once, so that searches go through it.
    ready: bool,
    /// How its vectors are searched; the graph of many is built after that.
    index: IndexBody,
    /// Memory in use, in bytes.
    memory_bytes: u64,
}

impl From<MappedIndexStats> for MappedBody {
    fn from(stats: MappedIndexStats) -> Self {
        Self {
            space: stats.space.to_string(),
            map: stats.map,
            dim: stats.dim,
            items: stats.items,
            refused: stats.refused,
            ready: stats.ready,
            index: stats.index.into(),
            memory_bytes: stats.memory_bytes,
        }
    }
}

/// How searches are answered.
#[derive(Serialize, ToSchema)]
pub(crate) struct IndexBody {
    /// `exact`, `int8` or `hnsw`.
    #[schema(value_type = String)]
    kind: perennial_gallery::IndexKind,
    /// `ready` or `building`.
    #[schema(value_type = String)]
    state: perennial_gallery::IndexProgress,
    /// Items that an approximate index covers.
    indexed: u64,
    /// Items that an approximate index is still to take in.
    backlog: u64,
}

impl From<IndexState> for IndexBody {
    fn from(state: IndexState) -> Self {
        Self {
            kind: state.kind,
            state: state.state,
            indexed: state.indexed,
            backlog: state.backlog,
        }
    }
}

/// Space on the disk, in bytes, of the file that holds the items, or of their tables in a database.
#[derive(Serialize, ToSchema)]
pub(crate) struct DiskBody {
    /// Size of the file.
    bytes: u64,
    /// How much smaller `POST /gallery/compact` would make it, estimated.
    reclaimable_bytes: u64,
}

/// What one vector costs.
#[derive(Serialize, ToSchema)]
pub(crate) struct BytesBody {
    memory: f64,
    disk: f64,
}

/// A simplex.
#[derive(Serialize, ToSchema)]
pub(crate) struct IdentityBody {
    vertices: usize,
}

impl From<SimplexIdentity> for IdentityBody {
    fn from(simplex: SimplexIdentity) -> Self {
        Self {
            vertices: simplex.vertices,
        }
    }
}

/// The last 10 seconds.
#[derive(Serialize, ToSchema)]
pub(crate) struct LiveBody {
    searches_per_second: f64,
    /// Items.
    upserts_per_second: f64,
    /// Since the start.
    requests_total: u64,
    /// Answers of 500 and above since the start.
    failed_total: u64,
    /// Of searches and upserts; null where there was none.
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    /// Images that wait or are being encoded.
    queue_depth: usize,
    swaps: SwapsBody,
}

/// Swaps since the start.
#[derive(Serialize, ToSchema)]
pub(crate) struct SwapsBody {
    moved: u64,
    refused: u64,
}

/// Size and state of the gallery.
#[utoipa::path(
    get,
    path = "/gallery/stats",
    tag = "gallery",
    responses((status = 200, description = "The numbers.", body = GalleryBody), Guarded),
    security(("key" = []))
)]
pub(crate) async fn gallery(
    _: MayRead,
    State(gallery): State<Arc<Gallery>>,
    State(planning): State<Arc<Planning>>,
) -> Result<Json<GalleryBody>, ApiError> {
    blocking(move || {
        let stats = gallery.count()?;
        let spaces = gallery.store.spaces()?;
        let simplex = spaces.iter().find_map(|stats| stats.space.simplex);
        let plan = planning.live_plan();
        Ok(Json(GalleryBody {
            parts: PartBody::of(&plan),
            not_searched: plan.not_searched_items(),
            left_out: LeftOutBody::of(&plan),
            items: stats.items,
            dim: stats.dim,
            per_version: stats.per_version,
            index: stats.index.into(),
            bytes_per_vector: BytesBody {
                memory: stats.bytes_per_vector.memory,
                disk: stats.bytes_per_vector.disk,
            },
            disk: DiskBody {
                bytes: stats.disk.bytes,
                reclaimable_bytes: stats.disk.reclaimable_bytes,
            },
            forced_writes: gallery.forced_writes.load(Ordering::Relaxed),
            forced_pairs: gallery.certification.accepted(),
            identity: simplex.map(IdentityBody::from),
            partitions: stats
                .partitions
                .into_iter()
                .map(PartitionBody::from)
                .collect(),
            mapped: stats.mapped.into_iter().map(MappedBody::from).collect(),
        }))
    })
    .await
}

/// Rates and latencies of the last 10 seconds.
#[utoipa::path(
    get,
    path = "/stats/live",
    tag = "service",
    responses((status = 200, description = "The numbers.", body = LiveBody), Guarded),
    security(("key" = []))
)]
pub(crate) async fn live(
    _: MayRead,
    State(recent): State<Arc<Recent>>,
    State(inference): State<Arc<Inference>>,
) -> Json<LiveBody> {
    let rates = recent.rates();
    Json(LiveBody {
        searches_per_second: rates.searches_per_second,
        upserts_per_second: rates.upserts_per_second,
        requests_total: rates.totals.requests,
        failed_total: rates.totals.failed,
        p50_seconds: rates.p50_seconds,
        p99_seconds: rates.p99_seconds,
        queue_depth: inference.batcher.depth(),
        swaps: SwapsBody {
            moved: rates.totals.swaps_moved,
            refused: rates.totals.swaps_refused,
        },
    })
}
