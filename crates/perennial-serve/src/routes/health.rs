//! `GET /healthz`, `/livez`, `/readyz`, `/info` and `/metrics`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::authorize::{MayRead, Rights};
use crate::blocking::blocking;
use crate::config::Limits;
use crate::error::{ApiError, ErrorBody};
use crate::inference::Inference;
use crate::lifecycle::Lifecycle;
use crate::metrics_page::MetricsPage;
use crate::openapi::Guarded;
use crate::readiness::Readiness;

/// The service is well.
#[derive(Serialize, ToSchema)]
pub(crate) struct StatusBody {
    /// `ok`.
    status: &'static str,
    /// What is limited although the service is ready: items that are not searched, routes that are not the best ones, and upstreams and versions behind
    /// which an embedding service has another model now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detail: Vec<String>,
}

/// What this service is.
#[derive(Serialize, ToSchema)]
pub(crate) struct InfoBody {
    /// `perennial`.
    name: &'static str,
    /// The program's version.
    version: &'static str,
    /// The live model version.
    live: Option<String>,
    uptime_seconds: f64,
    /// Whether this request's key may change the gallery, the registry and what is live.
    may_write: bool,
    limits: Limits,
}

const OK: StatusBody = StatusBody {
    status: "ok",
    detail: Vec::new(),
};

/// Liveness: whether the process responds.
#[utoipa::path(get, path = "/healthz", tag = "service",
    responses((status = 200, description = "The process responds.", body = StatusBody)))]
pub(crate) async fn healthz() -> Json<StatusBody> {
    Json(OK)
}

/// Liveness, under the usual name of orchestrators.
#[utoipa::path(get, path = "/livez", tag = "service",
    responses((status = 200, description = "The process responds.", body = StatusBody)))]
pub(crate) async fn livez() -> Json<StatusBody> {
    Json(OK)
}

/// Whether requests should be sent here: a version is live, a certified route leads to stored items (or there are none), and the service is not
/// stopping. What is limited nevertheless is in `detail`.
#[utoipa::path(get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "Ready.", body = StatusBody),
        (status = 503, description = "Not ready.", body = ErrorBody)
    ))]
pub(crate) async fn readyz(
    State(readiness): State<Arc<Readiness>>,
) -> Result<Json<StatusBody>, ApiError> {
    let ready = move || readiness.check().map_err(ApiError::unavailable);
    let detail = blocking(ready).await?;
    Ok(Json(StatusBody { detail, ..OK }))
}

/// What this service is and which limits it has.
#[utoipa::path(get, path = "/info", tag = "service",
    responses((status = 200, description = "Name, versions, limits.", body = InfoBody), Guarded),
    security(("key" = [])))]
pub(crate) async fn info(
    rights: Rights,
    State(inference): State<Arc<Inference>>,
    State(lifecycle): State<Arc<Lifecycle>>,
    State(limits): State<Arc<Limits>>,
) -> Json<InfoBody> {
    Json(InfoBody {
        name: "perennial",
        version: env!("CARGO_PKG_VERSION"),
        live: inference.live.current().map(|live| live.name().to_owned()),
        uptime_seconds: lifecycle.uptime().as_secs_f64(),
        may_write: rights.write().is_ok(),
        limits: Limits::clone(&limits),
    })
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "service",
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
        (status = 401, description = "No key, or an unknown one.", body = ErrorBody),
        (status = 403, description = "A request from another web site.", body = ErrorBody)
    ),
    security(("key" = [])))]
pub(crate) async fn metrics(
    _: MayRead,
    State(page): State<Arc<MetricsPage>>,
) -> Result<Response, ApiError> {
    // Looks at files.
    blocking(move || {
        let text = page.text();
        let content_type = [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )];
        Ok((content_type, text).into_response())
    })
    .await
}
