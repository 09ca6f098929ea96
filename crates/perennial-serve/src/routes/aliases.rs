//! `PUT /aliases/live` and `POST /aliases/live:rollback`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::authorize::MayWrite;
use crate::body::{JsonBody, OptionalJsonBody};
use crate::error::{ApiError, ErrorBody};
use crate::openapi::{Guarded, WithBody};
use crate::swap::{SwapAnswer, SwapOrder, SwapService, Target, swap};

/// Which version shall answer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveRequest {
    /// A version or an alias.
    version: String,
    /// Swap even if the version is not certified against the stored versions. All other checks still apply.
    #[serde(default)]
    force: bool,
    /// Check only.
    #[serde(default)]
    dry_run: bool,
}

/// How to return to the version before.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// Go ahead although the version is not certified with what is stored.
    #[serde(default)]
    force: bool,
    /// Check only.
    #[serde(default)]
    dry_run: bool,
}

/// Swaps the live version, after it was loaded, verified, warmed up and checked. No request waits for it or fails by it.
#[utoipa::path(
    put,
    path = "/aliases/live",
    tag = "models",
    request_body = MoveRequest,
    responses(
        (status = 200, description = "The version is live, or would be in a dry run.", body = SwapAnswer),
        (status = 404, description = "No such version.", body = ErrorBody),
        (status = 409, description = "A check failed (`details.checks` lists all), or another swap is under way.",
            body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn move_live(
    _: MayWrite,
    State(service): State<Arc<SwapService>>,
    JsonBody(request): JsonBody<MoveRequest>,
) -> Result<Json<SwapAnswer>, ApiError> {
    let order = SwapOrder {
        target: Target::Version(request.version),
        force: request.force,
        dry_run: request.dry_run,
    };
    Ok(Json(swap(&service, order).await?))
}

/// Returns to the version that was live before. The body may be absent.
#[utoipa::path(
    post,
    path = "/aliases/live:rollback",
    tag = "models",
    request_body = Option<RollbackRequest>,
    responses(
        (status = 200, description = "The previous version is live again, or would be in a dry run.", body = SwapAnswer),
        (status = 409, description = "There is no version before, a check failed, or another swap is under way.",
            body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn roll_back(
    _: MayWrite,
    State(service): State<Arc<SwapService>>,
    OptionalJsonBody(request): OptionalJsonBody<RollbackRequest>,
) -> Result<Json<SwapAnswer>, ApiError> {
    let order = SwapOrder {
        target: Target::Previous,
        force: request.force,
        dry_run: request.dry_run,
    };
    Ok(Json(swap(&service, order).await?))
}
