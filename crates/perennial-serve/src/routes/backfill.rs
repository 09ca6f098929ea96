//! `/backfill`: items of older spaces are embedded again by the live version, while the service runs.

pub(crate) mod pushing;
mod status;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use perennial_upgrade::backfill::{BackfillSettings, Order, OriginalsSource, StopRule};
use serde::Deserialize;
use utoipa::ToSchema;

pub(super) use self::status::FailureBody;
pub(crate) use self::status::state_name;
use self::status::{BackfillBody, StopSchema, view};
use crate::admission::admit;
use crate::authorize::{MayRead, MayWrite};
use crate::blocking::blocking;
use crate::body::JsonBody;
use crate::error::{ApiError, ErrorBody};
use crate::openapi::{Guarded, WithBody};
use crate::reembedding::{Reembedder, expectation};

/// How to embed again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartBody {
    #[schema(value_type = OriginalsSchema)]
    originals: OriginalsSource,
    /// `retrieved`: what searches find most often, then what routes serve worst; `worst_served`; or `id`.
    #[serde(default)]
    #[schema(value_type = String, default = "retrieved")]
    order: Order,
    /// The most items per second, at least 0.001; as many as the machine gives beside its requests unless given.
    #[schema(minimum = 0.001)]
    items_per_second: Option<f64>,
    /// When it has done enough; the first condition that is met counts. Without any, when everything is embedded again.
    #[serde(default)]
    #[schema(value_type = StopSchema)]
    stop: StopRule,
    /// Try items again that failed before.
    #[serde(default)]
    retry: bool,
}

/// Where the originals lie.
#[derive(ToSchema)]
#[schema(as = Originals)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "describes a type of another crate")]
pub(crate) enum OriginalsSchema {
    /// A folder of pictures or texts that the service can read; the payload's `file` is the path below it.
    Folder(String),
    /// An address with `{id}` or `{payload.KEY}` behind the host.
    Url(String),
    /// A key of the payload under which the items hold their texts.
    Payload(String),
    /// The client sends them with `PUT /backfill/originals`.
    Pushed,
}

/// Begins to embed items of other versions again with the live one. Their labels and payloads stay.
#[utoipa::path(
    post,
    path = "/backfill",
    tag = "backfill",
    request_body = StartBody,
    responses(
        (status = 200, description = "It has begun.", body = BackfillBody),
        (status = 409, description = "Another one is running, or the live version's items have another simplex than what it finds here as it is.",
            body = ErrorBody),
        (status = 503, description = "No version is live, or the gallery's folder cannot be written.", body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn start(
    _: MayWrite,
    State(reembedder): State<Arc<Reembedder>>,
    JsonBody(body): JsonBody<StartBody>,
) -> Result<Json<BackfillBody>, ApiError> {
    let settings = BackfillSettings {
        originals: body.originals,
        order: body.order,
        items_per_second: body.items_per_second,
        stop: body.stop,
    };
    settings.check().map_err(ApiError::unprocessable)?;
    // What admits the first items of a version must still hold when they are written; the write checks it again.
    let versions = reembedder.gallery.hold_versions().await;
    let live = reembedder.inference.snapshot()?;
    blocking(move || {
        // Held here, since this goes on when the client leaves or the time is over.
        let _versions = versions;
        let max_bytes = reembedder.config.limits.image_bytes as u64;
        settings
            .originals
            .open(reembedder.config.downloads.client(), max_bytes)
            .map_err(ApiError::unprocessable)?;
        // Nothing is written here, and without force nothing is accepted.
        let _ = admit(
            &reembedder.gallery,
            reembedder.inference.live.current().as_deref(),
            &[Arc::new(live.version.clone())],
            false,
        )?;
        if settings.stop.quality.is_some() {
            let expected = expectation(&reembedder, live.name())?;
            if expected.quality(&reembedder.gallery.stored(), live.name()).is_none() {
                return Err(ApiError::unprocessable(
                    "stop.quality: no quality is expected, since the registry has no certificate for some of the stored versions with the live \
                     version's own figure in the same measure; run `perennial certify --record` with --new-gallery",
                ));
            }
        }
        reembedder.backfill.start(live.name(), settings, body.retry)?;
        Ok(Json(view(&reembedder)))
    })
    .await
}

/// How far it is.
#[utoipa::path(
    get,
    path = "/backfill",
    tag = "backfill",
    responses((status = 200, description = "State and progress.", body = BackfillBody), Guarded),
    security(("key" = []))
)]
pub(crate) async fn status(
    _: MayRead,
    State(reembedder): State<Arc<Reembedder>>,
) -> Result<Json<BackfillBody>, ApiError> {
    blocking(move || Ok(Json(view(&reembedder)))).await
}

/// Stops it, to be resumed.
#[utoipa::path(
    post,
    path = "/backfill/pause",
    tag = "backfill",
    responses(
        (status = 200, description = "It is paused.", body = BackfillBody),
        (status = 409, description = "None is running.", body = ErrorBody),
        Guarded
    ),
    security(("key" = []))
)]
pub(crate) async fn pause(
    _: MayWrite,
    State(reembedder): State<Arc<Reembedder>>,
) -> Result<Json<BackfillBody>, ApiError> {
    blocking(move || {
        reembedder.backfill.pause()?;
        Ok(Json(view(&reembedder)))
    })
    .await
}

/// Goes on with a paused one.
#[utoipa::path(
    post,
    path = "/backfill/resume",
    tag = "backfill",
    responses(
        (status = 200, description = "It goes on.", body = BackfillBody),
        (status = 409, description = "None is paused, or another version is live now.", body = ErrorBody),
        Guarded
    ),
    security(("key" = []))
)]
pub(crate) async fn resume(
    _: MayWrite,
    State(reembedder): State<Arc<Reembedder>>,
) -> Result<Json<BackfillBody>, ApiError> {
    blocking(move || {
        let live = reembedder.inference.live.current();
        let live = live.as_ref().map(|live| live.name());
        reembedder.backfill.resume(live)?;
        Ok(Json(view(&reembedder)))
    })
    .await
}

/// Ends it and forgets which items failed. What it embedded stays.
#[utoipa::path(
    delete,
    path = "/backfill",
    tag = "backfill",
    responses((status = 200, description = "There is none any more.", body = BackfillBody), Guarded),
    security(("key" = []))
)]
pub(crate) async fn cancel(
    _: MayWrite,
    State(reembedder): State<Arc<Reembedder>>,
) -> Result<Json<BackfillBody>, ApiError> {
    blocking(move || {
        reembedder.backfill.cancel()?;
        Ok(Json(view(&reembedder)))
    })
    .await
}
