//! `/backfill`: items of older spaces are embedded again by the live version, while the service runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use perennial_gallery::ItemId;
use perennial_gallery::bounded_json::at_most;
use perennial_upgrade::backfill::{
    BackfillSettings, BackfillState, CurvePoint, Failure, FailureReason, Order, OriginalsSource,
    Queue, StopRule,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::Instrument;
use utoipa::{IntoParams, ToSchema};

use super::items::parse_query;
use crate::admission::admit;
use crate::backfill::others;
use crate::body::read_json;
use crate::error::{ApiError, ErrorBody};
use crate::images::{EncodedImage, file_of};
use crate::keys::{MayRead, MayWrite};
use crate::openapi::{Guarded, ItemIdSchema, WithBody};
use crate::reembedding::{Fetched, expectation, reembed};
use crate::service::{Service, blocking};

/// Failed items that are named in an answer.
const NAMED_FAILURES: usize = 100;
/// Items of one push, and of one list of what is waiting.
const MAX_PUSHED: usize = 128;
/// The payload's key that is of no use to find an original, and large.
const THUMBNAIL: &str = "thumbnail";

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
    /// The most items per second; as many as the machine gives beside its requests unless given.
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
    /// A folder that the service can read; the payload's `file` is the path below it.
    Folder(String),
    /// An address with `{id}` or `{payload.KEY}` behind the host.
    Url(String),
    /// The client sends them with `PUT /backfill/originals`.
    Pushed,
}

/// When a backfill has done enough.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = StopRule)]
pub(crate) struct StopSchema {
    /// This share of the gallery is embedded by the live version; a fraction.
    share: Option<f64>,
    /// So many items were embedded again.
    items: Option<u64>,
    /// It worked for so many seconds.
    seconds: Option<f64>,
    /// The expected quality is at least this; a fraction.
    quality: Option<f64>,
}

impl From<StopRule> for StopSchema {
    fn from(rule: StopRule) -> Self {
        Self {
            share: rule.share,
            items: rule.items,
            seconds: rule.seconds,
            quality: rule.quality,
        }
    }
}

/// How far a backfill is.
#[derive(Serialize, ToSchema)]
pub(crate) struct BackfillBody {
    /// `idle`, `running`, `paused` or `finished`.
    state: &'static str,
    /// Whether it is running and waits until the service has less to do.
    waits_for_load: bool,
    /// Why it paused or finished, where it did that itself.
    reason: Option<String>,
    /// The version that embeds.
    model_version: Option<String>,
    /// `folder`, `url` or `pushed`.
    originals: Option<&'static str>,
    #[schema(value_type = Option<String>)]
    order: Option<Order>,
    /// The most items per second.
    items_per_second: Option<f64>,
    stop: StopSchema,
    /// Items in the gallery.
    items: u64,
    /// Share of them that the live version embedded, a fraction; null while no version is live.
    share: Option<f64>,
    /// Items that this backfill embedded again.
    done: u64,
    /// Items of other versions that have not failed.
    left: u64,
    /// Items that others changed or deleted in the moment in which they were embedded again; those were left alone.
    changed: u64,
    /// Items that failed, by reason.
    failed: BTreeMap<&'static str, u64>,
    /// The first of them.
    failures: Vec<FailureBody>,
    /// Of the last minute.
    rate_items_per_second: Option<f64>,
    /// At this rate.
    seconds_left: Option<f64>,
    /// For which it worked.
    seconds: f64,
    /// What the certificates let expect; null where a space has none.
    expected_quality: Option<ExpectedBody>,
    /// How it went.
    curve: Vec<PointBody>,
}

/// An item that was not embedded again.
#[derive(Serialize, ToSchema)]
pub(crate) struct FailureBody {
    #[schema(value_type = ItemIdSchema)]
    id: ItemId,
    /// `no_source`, `gone`, `refused`, `unreachable`, `unreadable`, `undecodable`, `other_picture` or `no_embedding`.
    reason: &'static str,
    /// What was found.
    detail: String,
}

impl FailureBody {
    fn new(id: &ItemId, failure: &Failure) -> Self {
        Self {
            id: id.clone(),
            reason: failure.reason.name(),
            detail: failure.detail.clone(),
        }
    }
}

/// The mean of the certified figures of each space, weighted by its items. An expectation, not a measurement.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExpectedBody {
    /// What the figures measure.
    measure: String,
    /// Now, a fraction.
    now: f64,
}

/// One point of the curve.
#[derive(Serialize, ToSchema)]
pub(crate) struct PointBody {
    /// For which the backfill had worked.
    seconds: f64,
    /// Items that it had embedded again.
    done: u64,
    /// Share of the gallery that the live version had embedded, a fraction.
    share: f64,
    /// The expected quality then, a fraction; an expectation, not a measurement.
    expected_quality: Option<f64>,
}

impl From<&CurvePoint> for PointBody {
    fn from(point: &CurvePoint) -> Self {
        Self {
            seconds: point.seconds,
            done: point.done,
            share: point.share,
            expected_quality: point.expected_quality,
        }
    }
}

/// Items that wait, in their order.
#[derive(Serialize, ToSchema)]
pub(crate) struct WaitingBody {
    items: Vec<WaitingItem>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
pub(crate) struct WaitingItem {
    #[schema(value_type = ItemIdSchema)]
    id: ItemId,
    /// The version that embedded it.
    model_version: String,
    /// What was stored with it, without `thumbnail`.
    #[schema(value_type = Object)]
    payload: Map<String, Value>,
}

/// Originals, or why there are none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushBody {
    #[serde(deserialize_with = "at_most::<MAX_PUSHED, _, _>")]
    items: Vec<PushedItem>,
}

/// The original of one item: exactly one of `image` and `reason`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushedItem {
    #[schema(value_type = ItemIdSchema)]
    id: ItemId,
    /// The picture's file as base64.
    image: Option<String>,
    /// Why there is no picture: one of the reasons of `GET /backfill`. The item counts as failed.
    #[schema(value_type = Option<String>)]
    reason: Option<FailureReason>,
    /// More about it.
    detail: Option<String>,
}

/// What became of them.
#[derive(Serialize, ToSchema)]
pub(crate) struct PushAnswer {
    /// Items that the live version has embedded now.
    done: usize,
    /// Items that others changed or deleted meanwhile; those were left alone.
    changed: usize,
    /// Ids that do not wait: unknown ones, and items that the live version has embedded already.
    not_waiting: usize,
    /// Items that the stop rule does not admit any more.
    beyond_stop: usize,
    failed: Vec<FailureBody>,
}

/// How many.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitingQuery {
    /// At most so many items.
    #[param(minimum = 1, maximum = 128)]
    limit: Option<usize>,
}

/// Begins to embed items of other versions again with the live one. Their labels and payloads stay.
#[utoipa::path(
    post,
    path = "/backfill",
    tag = "backfill",
    request_body = StartBody,
    responses(
        (status = 200, description = "It has begun.", body = BackfillBody),
        (status = 409, description = "Another one is running, or the live version's items may not be stored here.", body = ErrorBody),
        (status = 503, description = "No version is live, or the gallery's folder cannot be written.", body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn start(
    _: MayWrite,
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<BackfillBody>, ApiError> {
    let body: StartBody = read_json(&service, request).await?;
    let live = service.inference.snapshot()?;
    let settings = BackfillSettings {
        originals: body.originals,
        order: body.order,
        items_per_second: body.items_per_second,
        stop: body.stop,
    };
    settings.check().map_err(ApiError::unprocessable)?;
    // What admits the first items of a version must still hold when they are written; the write checks it again.
    let _versions = service.gallery.versions_in_gallery.lock().await;
    let service = Arc::clone(&service);
    blocking(move || {
        let max_bytes = service.config.limits.image_bytes as u64;
        settings
            .originals
            .open(service.config.downloads.client(), max_bytes)
            .map_err(ApiError::unprocessable)?;
        admit(&service, &[Arc::new(live.version.clone())], false)?;
        if settings.stop.quality.is_some() {
            let expected = expectation(&service, live.name())?;
            if expected.quality(&service.gallery.stored(), live.name()).is_none() {
                return Err(ApiError::unprocessable(
                    "stop.quality: no quality is expected, since the registry has no certificate for some of the stored versions with the live \
                     version's own figure in the same measure; run `perennial certify --record` with --new-gallery",
                ));
            }
        }
        service.backfill.start(live.name(), settings, body.retry)?;
        Ok(Json(view(&service)))
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
    State(service): State<Arc<Service>>,
) -> Result<Json<BackfillBody>, ApiError> {
    blocking(move || Ok(Json(view(&service)))).await
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
    State(service): State<Arc<Service>>,
) -> Result<Json<BackfillBody>, ApiError> {
    blocking(move || {
        service.backfill.pause()?;
        Ok(Json(view(&service)))
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
    State(service): State<Arc<Service>>,
) -> Result<Json<BackfillBody>, ApiError> {
    blocking(move || {
        let live = service.inference.live.current();
        let live = live.as_ref().map(|live| live.name());
        service.backfill.resume(live)?;
        Ok(Json(view(&service)))
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
    State(service): State<Arc<Service>>,
) -> Result<Json<BackfillBody>, ApiError> {
    blocking(move || {
        service.backfill.cancel()?;
        Ok(Json(view(&service)))
    })
    .await
}

/// The items that come next, for a client that sends their originals.
#[utoipa::path(
    get,
    path = "/backfill/waiting",
    tag = "backfill",
    params(WaitingQuery),
    responses(
        (status = 200, description = "None when nothing is left but failures.", body = WaitingBody),
        (status = 400, description = "An unknown or malformed parameter.", body = ErrorBody),
        (status = 409, description = "No backfill is running.", body = ErrorBody),
        (status = 422, description = "A value out of range.", body = ErrorBody),
        Guarded
    ),
    security(("key" = []))
)]
pub(crate) async fn waiting(
    _: MayRead,
    State(service): State<Arc<Service>>,
    RawQuery(query): RawQuery,
) -> Result<Json<WaitingBody>, ApiError> {
    let query: WaitingQuery = parse_query(query)?;
    let limit = query.limit.unwrap_or(MAX_PUSHED);
    if !(1..=MAX_PUSHED).contains(&limit) {
        return Err(ApiError::unprocessable(format!(
            "limit: must be 1 to {MAX_PUSHED}, got {limit}"
        )));
    }
    blocking(move || {
        let backfill = &service.backfill;
        let run = backfill.run().ok_or_else(not_running)?;
        let stored = service.gallery.stored();
        let spaces = expectation(&service, &run.target)?.worst_first(&stored, &run.target);
        let mut queue = Queue::new(run.settings.order, spaces);
        let skip = |item: &_| backfill.has_failed(item);
        let mut retrievals = backfill.retrievals();
        let items = queue.next(&*service.gallery.store, &mut retrievals, limit, &skip)?;
        let items = items.into_iter().map(|mut item| {
            item.payload.remove(THUMBNAIL);
            WaitingItem {
                id: item.id,
                model_version: item.model_version,
                payload: item.payload,
            }
        });
        Ok(Json(WaitingBody {
            items: items.collect(),
        }))
    })
    .await
}

/// Embeds waiting items again, from originals that the client sends. Their labels and payloads stay.
#[utoipa::path(
    put,
    path = "/backfill/originals",
    tag = "backfill",
    request_body = PushBody,
    responses(
        (status = 200, description = "What became of each.", body = PushAnswer),
        (status = 409, description = "No backfill is running, or another version is live now.", body = ErrorBody),
        (status = 503, description = "The storage fails; nothing was changed.", body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn push(
    _: MayWrite,
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<PushAnswer>, ApiError> {
    let body: PushBody = read_json(&service, request).await?;
    // Carried out even if the client disconnects, so that what was written is counted.
    let carried_out = async move { carry_out(&service, body.items).await };
    let task = tokio::spawn(carried_out.in_current_span());
    task.await.map_err(ApiError::internal)?
}

async fn carry_out(
    service: &Arc<Service>,
    pushed: Vec<PushedItem>,
) -> Result<Json<PushAnswer>, ApiError> {
    let begun = Instant::now();
    let run = service.backfill.run().ok_or_else(not_running)?;
    let live = service.inference.snapshot()?;
    if live.name() != run.target {
        return Err(ApiError::conflict(format!(
            "{} is not live any more",
            run.target
        )));
    }
    let fetched = {
        let (service, target) = (Arc::clone(service), run.target.clone());
        blocking(move || look_up(&service, &target, pushed)).await?
    };
    let Pushed {
        mut fetched,
        not_waiting,
    } = fetched;
    let progress = service.backfill.progress(&service.gallery.stored());
    let allowed = run.settings.stop.items_left(&progress);
    let allowed = allowed.map_or(usize::MAX, |items| {
        usize::try_from(items).unwrap_or(usize::MAX)
    });
    let beyond_stop = fetched.len().saturating_sub(allowed);
    fetched.truncate(allowed);
    let outcome = reembed(service, &live, fetched).await?;
    let answer = PushAnswer {
        done: outcome.done.len(),
        changed: outcome.changed.len(),
        not_waiting,
        beyond_stop,
        failed: outcome
            .failed
            .iter()
            .map(|(item, failure)| FailureBody::new(&item.id, failure))
            .collect(),
    };
    let service = Arc::clone(service);
    blocking(move || {
        let stored = service.gallery.stored();
        service.backfill.note(&outcome, begun.elapsed(), &stored);
        service.backfill.woken().notify_one();
        Ok(Json(answer))
    })
    .await
}

struct Pushed {
    fetched: Vec<Fetched>,
    not_waiting: usize,
}

/// The items of pushed originals; blocks.
fn look_up(service: &Service, target: &str, pushed: Vec<PushedItem>) -> Result<Pushed, ApiError> {
    let mut ids = BTreeSet::new();
    for (index, item) in pushed.iter().enumerate() {
        if !ids.insert(&item.id) {
            return Err(ApiError::unprocessable(format!(
                "items[{index}].id: {} occurs twice",
                item.id
            )));
        }
        if item.image.is_some() == item.reason.is_some() {
            return Err(ApiError::unprocessable(format!(
                "items[{index}]: expected exactly one of `image` and `reason`"
            )));
        }
    }
    let ids: Vec<ItemId> = pushed.iter().map(|item| item.id.clone()).collect();
    let mut stored = service.gallery.store.get(&ids, true)?;
    stored.retain(|item| item.model_version != target);
    let mut stored: BTreeMap<ItemId, _> = stored
        .into_iter()
        .map(|item| (item.id.clone(), item))
        .collect();
    let not_waiting = ids.len() - stored.len();
    let mut fetched = Vec::with_capacity(stored.len());
    for (index, item) in pushed.into_iter().enumerate() {
        let original = match (item.image, item.reason) {
            (Some(image), _) => {
                let (image, limit) = (
                    EncodedImage::Base64(image),
                    service.config.limits.image_bytes,
                );
                let file = file_of(&image, limit).map_err(|error| ApiError {
                    message: format!("items[{index}].image: {}", error.message),
                    ..error
                })?;
                Ok(file.into_owned())
            }
            (None, reason) => {
                let reason = reason.unwrap_or(FailureReason::Gone);
                Err(Failure::new(reason, item.detail.unwrap_or_default()))
            }
        };
        if let Some(stored) = stored.remove(&item.id) {
            fetched.push((stored, original));
        }
    }
    Ok(Pushed {
        fetched,
        not_waiting,
    })
}

fn not_running() -> ApiError {
    ApiError::conflict("no backfill is running; POST /backfill begins one")
}

/// Everything that is known; blocks.
fn view(service: &Service) -> BackfillBody {
    let live = service.inference.live.current();
    let live = live.as_ref().map(|live| live.name());
    let stored = service.gallery.stored();
    let view = service.backfill.view();
    let record = view.record.as_ref();
    let target = record.map(|record| record.target.as_str()).or(live);
    let failures = record.map_or(0, |record| record.failures());
    let others = others(&stored, target);
    let left = others.saturating_sub(failures);
    let progress = service.backfill.progress(&stored);
    let ends_after = record.and_then(|record| record.settings.stop.items_left(&progress));
    let running = record.is_some_and(|record| record.state == BackfillState::Running);
    let rate = view.items_per_second.filter(|_| running);
    let share = |target: Option<&str>| {
        target?;
        Some(match stored.items {
            0 => 1.0,
            items => (items - others) as f64 / items as f64,
        })
    };
    let expected = view.expectation.as_ref().zip(target);
    BackfillBody {
        state: match record.map(|record| record.state) {
            None => "idle",
            Some(BackfillState::Running) => "running",
            Some(BackfillState::Paused) => "paused",
            Some(BackfillState::Finished) => "finished",
        },
        waits_for_load: view.waits_for_load,
        reason: record.and_then(|record| record.reason.clone()),
        model_version: record.map(|record| record.target.clone()),
        originals: record.map(|record| match record.settings.originals {
            OriginalsSource::Folder(_) => "folder",
            OriginalsSource::Url(_) => "url",
            OriginalsSource::Pushed => "pushed",
        }),
        order: record.map(|record| record.settings.order),
        items_per_second: record.and_then(|record| record.settings.items_per_second),
        stop: record
            .map(|record| record.settings.stop.into())
            .unwrap_or_default(),
        items: stored.items,
        share: share(target),
        done: record.map_or(0, |record| record.done),
        left,
        changed: record.map_or(0, |record| record.changed),
        failed: record
            .map(|record| record.failed())
            .unwrap_or_default()
            .into_iter()
            .map(|(reason, items)| (reason.name(), items))
            .collect(),
        failures: record.map_or_else(Vec::new, |record| {
            let first = record.first_failures(NAMED_FAILURES);
            first
                .map(|(id, failure)| FailureBody::new(id, failure))
                .collect()
        }),
        rate_items_per_second: rate,
        seconds_left: rate.filter(|rate| *rate > 0.0).map(|rate| {
            let items = ends_after.map_or(left, |items| items.min(left));
            items as f64 / rate
        }),
        seconds: record.map_or(0.0, |record| record.seconds),
        expected_quality: expected.and_then(|(expectation, target)| {
            Some(ExpectedBody {
                measure: expectation.measure.clone()?,
                now: expectation.quality(&stored, target)?,
            })
        }),
        curve: record.map_or_else(Vec::new, |record| {
            record.curve.points().iter().map(PointBody::from).collect()
        }),
    }
}
