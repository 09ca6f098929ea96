//! `GET /compatibility`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use perennial_core::{CompatibilityRecord, CompatibilityRecords, Registry, Verdict};
use perennial_upgrade::{Finding, recorded_finding};
use serde::Serialize;
use utoipa::ToSchema;

use super::parts::{LeftOutBody, PartBody};
use crate::authorize::MayRead;
use crate::blocking::blocking;
use crate::error::ApiError;
use crate::gallery::Gallery;
use crate::openapi::Guarded;
use crate::planning::Planning;
use crate::versions::Versions;

/// Measurements between versions.
#[derive(Serialize, ToSchema)]
pub(crate) struct CompatibilityBody {
    /// All versions, oldest first.
    versions: Vec<String>,
    /// Items in the gallery by version.
    stored: BTreeMap<String, u64>,
    /// Accuracy of versions on their own gallery, as far as measured; fractions.
    self_tests: BTreeMap<String, f64>,
    /// The newest measurement of each pair.
    pairs: Vec<PairBody>,
    /// How pictures are searched at present: the spaces, and the routes that lead to them.
    parts: Vec<PartBody>,
    /// Items that are not searched, by space, and why.
    left_out: Vec<LeftOutBody>,
}

/// One measured pair; fractions.
#[derive(Serialize, ToSchema)]
pub(crate) struct PairBody {
    /// The version that embedded the queries.
    query_version: String,
    /// The version that embedded the gallery.
    gallery_version: String,
    self_test: f64,
    cross_test: f64,
    /// `cross_test - self_test`.
    margin: f64,
    interval: IntervalBody,
    /// `compatible`, `undecided` or `incompatible`: where the interval lies against a margin of 0. Undecided also where there are fewer than 30
    /// queries, or where so few of them changed that chance alone may have done it.
    #[schema(value_type = String)]
    verdict: Verdict,
    /// Compatible under the measurement's own rule for ties.
    compatible: bool,
    /// Whether the service allows searches between the two without force.
    certified: bool,
    /// The best certified route: `own`, `bridged`, `dual` or `mapped`; null where there is none.
    route: Option<&'static str>,
    queries: ProbesBody,
    gallery: ProbesBody,
    /// RFC 3339, UTC.
    created: String,
}

/// A 95 % interval of the margin.
#[derive(Serialize, ToSchema)]
pub(crate) struct IntervalBody {
    low: f64,
    high: f64,
}

/// A probe set.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProbesBody {
    name: String,
    count: usize,
    sha256: String,
}

impl From<perennial_core::ProbeSet> for ProbesBody {
    fn from(probes: perennial_core::ProbeSet) -> Self {
        Self {
            name: probes.name,
            count: probes.count,
            sha256: probes.sha256,
        }
    }
}

impl PairBody {
    fn new(record: CompatibilityRecord, route: Option<&'static str>) -> Self {
        Self {
            compatible: record.is_compatible(),
            certified: route.is_some(),
            route,
            self_test: record.self_test,
            cross_test: record.cross_test,
            margin: record.margin,
            interval: IntervalBody {
                low: record.interval.low,
                high: record.interval.high,
            },
            verdict: match recorded_finding(&record, 0.95, 0.0) {
                Some(Finding::Compatible) => Verdict::Compatible,
                Some(Finding::Incompatible) => Verdict::Incompatible,
                Some(Finding::Undecided | Finding::CannotTell) | None => Verdict::Undecided,
            },
            queries: record.queries.into(),
            gallery: record.gallery.into(),
            created: record.created,
            query_version: record.query_version,
            gallery_version: record.gallery_version,
        }
    }
}

fn is_of_registry(versions: &Versions, record: &CompatibilityRecord) -> bool {
    let has = |name: &str, weights: &Option<String>| {
        let version = versions.get(name);
        version.is_ok_and(|version| Some(&version.weights_sha256) == weights.as_ref())
    };
    has(&record.query_version, &record.query_weights)
        && has(&record.gallery_version, &record.gallery_weights)
}

/// The compatibility matrix: for each measured pair the newest record, and whether the service allows searches between the two.
#[utoipa::path(
    get,
    path = "/compatibility",
    tag = "models",
    responses((status = 200, description = "The matrix.", body = CompatibilityBody), Guarded),
    security(("key" = []))
)]
pub(crate) async fn compatibility(
    _: MayRead,
    State(registry): State<Arc<Registry>>,
    State(versions): State<Arc<Versions>>,
    State(gallery): State<Arc<Gallery>>,
    State(planning): State<Arc<Planning>>,
) -> Result<Json<CompatibilityBody>, ApiError> {
    blocking(move || {
        let records = CompatibilityRecords::of(&registry).map_err(ApiError::internal)?;
        let mut self_tests = BTreeMap::new();
        let mut newest: BTreeMap<(String, String), CompatibilityRecord> = BTreeMap::new();
        for record in records.records {
            // A record of other weights belongs to a version that no longer exists.
            if !is_of_registry(&versions, &record) {
                continue;
            }
            self_tests.insert(record.gallery_version.clone(), record.self_test);
            let pair = (record.query_version.clone(), record.gallery_version.clone());
            newest.insert(pair, record);
        }
        let pairs = newest
            .into_values()
            .map(|record| {
                let certification = &gallery.certification;
                let ways = certification.ways(&record.query_version, &record.gallery_version);
                let best = ways.ok().and_then(|ways| ways.into_iter().next());
                PairBody::new(record, best.map(|best| best.way.route().name()))
            })
            .collect();
        let plan = planning.live_plan();
        Ok(Json(CompatibilityBody {
            versions: registry.names()?,
            stored: gallery.stored().per_version.clone(),
            self_tests,
            pairs,
            parts: PartBody::of(&plan),
            left_out: LeftOutBody::of(&plan),
        }))
    })
    .await
}
