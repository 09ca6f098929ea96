//! Originals that clients send.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{RawQuery, State};
use perennial_core::Modality;
use perennial_gallery::ItemId;
use perennial_gallery::bounded_json::at_most;
use perennial_upgrade::LoadedModel;
use perennial_upgrade::backfill::{Failure, FailureReason, ItemKinds, Original, kind_word};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::Instrument;
use utoipa::{IntoParams, ToSchema};

use super::super::items::parse_query;
use super::status::FailureBody;
use crate::authorize::{MayRead, MayWrite};
use crate::blocking::blocking;
use crate::body::JsonBody;
use crate::error::{ApiError, ErrorBody};
use crate::images::{EncodedImage, file_of};
use crate::openapi::{Embedding, Guarded, ItemIdSchema, WithBody};
use crate::reembedding::{self, Fetched, Reembedder, reembed};

/// Items of one push, and of one list of what is waiting.
const MAX_PUSHED: usize = 128;
/// The payload's key that is of no use to find an original, and large.
const THUMBNAIL: &str = "thumbnail";

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

/// The original of one item: exactly one of `image`, `text` and `reason`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushedItem {
    #[schema(value_type = ItemIdSchema)]
    id: ItemId,
    /// The picture's file as base64.
    image: Option<String>,
    /// The whole text.
    text: Option<String>,
    /// Why there is no original: one of the reasons of `GET /backfill`. The item counts as failed.
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
    State(reembedder): State<Arc<Reembedder>>,
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
        let run = reembedder.backfill.run().ok_or_else(not_running)?;
        reembedder.backfill.hear(Instant::now());
        // No more than can be sent back at once.
        let limit = limit.min(reembedder.config.batching.queue_images);
        let items = reembedding::waiting(&reembedder, &run, limit)?;
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
        Embedding,
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn push(
    _: MayWrite,
    State(reembedder): State<Arc<Reembedder>>,
    JsonBody(body): JsonBody<PushBody>,
) -> Result<Json<PushAnswer>, ApiError> {
    // Carried out even if the client disconnects, so that what was written is counted.
    let carried_out = async move { carry_out(&reembedder, body.items).await };
    let task = tokio::spawn(carried_out.in_current_span());
    task.await.map_err(ApiError::internal)?
}

async fn carry_out(
    reembedder: &Arc<Reembedder>,
    pushed: Vec<PushedItem>,
) -> Result<Json<PushAnswer>, ApiError> {
    let begun = Instant::now();
    let run = reembedder.backfill.run().ok_or_else(not_running)?;
    reembedder.backfill.hear(begun);
    let live = reembedder.inference.snapshot()?;
    if live.name() != run.target {
        return Err(ApiError::conflict(format!(
            "{} is not live any more",
            run.target
        )));
    }
    let fetched = {
        let (reembedder, live) = (Arc::clone(reembedder), Arc::clone(&live));
        blocking(move || look_up(&reembedder, &live, pushed)).await?
    };
    let Pushed {
        mut fetched,
        not_waiting,
        counted,
    } = fetched;
    let (sent, found) = (fetched.len(), fetched.iter());
    let wanted = found.filter(|(_, original)| original.is_ok()).count();
    let stored = reembedder.gallery.stored();
    let places = reembedder.backfill.admit(wanted, 0, &stored);
    let mut room = places.count();
    fetched.retain(|(_, original)| {
        let stays = original.is_err() || room > 0;
        room -= usize::from(stays && original.is_ok());
        stays
    });
    let beyond_stop = sent - fetched.len();
    let mut outcome = reembed(reembedder, &live, fetched).await?;
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
    outcome
        .failed
        .retain(|(item, _)| !counted.contains(&item.id));
    let reembedder = Arc::clone(reembedder);
    blocking(move || {
        let stored = reembedder.gallery.stored();
        let worked = begun.elapsed();
        reembedder
            .backfill
            .note(run.number, outcome, worked, &stored);
        drop(places);
        reembedder.backfill.woken().notify_one();
        Ok(Json(answer))
    })
    .await
}

struct Pushed {
    fetched: Vec<Fetched>,
    not_waiting: usize,
    /// Items whose version embeds nothing that the live one embeds: all of its items are counted as failed already.
    counted: BTreeSet<ItemId>,
}

/// The items of pushed originals; blocks.
fn look_up(
    reembedder: &Reembedder,
    model: &LoadedModel,
    pushed: Vec<PushedItem>,
) -> Result<Pushed, ApiError> {
    let accepts = model.version.accepts();
    let originals = pushed.iter().filter(|item| item.reason.is_none()).count();
    let most = reembedder.config.batching.queue_images;
    if originals > most {
        return Err(ApiError::unprocessable(format!(
            "items: {originals} originals are more than the queue ever takes (batching.queue_images is {most}); send fewer at once"
        )));
    }
    let mut ids = BTreeSet::new();
    for (index, item) in pushed.iter().enumerate() {
        if !ids.insert(&item.id) {
            return Err(ApiError::unprocessable(format!(
                "items[{index}].id: {} occurs twice",
                item.id
            )));
        }
        let given = [
            item.image.is_some(),
            item.text.is_some(),
            item.reason.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() != 1 {
            return Err(ApiError::unprocessable(format!(
                "items[{index}]: expected exactly one of `image`, `text` and `reason`"
            )));
        }
    }
    let ids: Vec<ItemId> = pushed.iter().map(|item| item.id.clone()).collect();
    let mut stored = reembedder.gallery.store.get(&ids, true)?;
    stored.retain(|item| item.model_version != model.name());
    let mut stored: BTreeMap<ItemId, _> = stored
        .into_iter()
        .map(|item| (item.id.clone(), item))
        .collect();
    let not_waiting = ids.len() - stored.len();
    let kinds = ItemKinds::of(&reembedder.registry, stored.values());
    let counted = stored
        .values()
        .filter(|item| kinds.embeds_none_of(item, accepts))
        .map(|item| item.id.clone())
        .collect();
    let mut fetched = Vec::with_capacity(stored.len());
    for (index, item) in pushed.into_iter().enumerate() {
        let stored = stored.remove(&item.id);
        let kind = stored.as_ref().and_then(|stored| kinds.kind(stored));
        let original = match (item.image, item.text) {
            (Some(image), _) => {
                let (image, limit) = (
                    EncodedImage::Base64(image),
                    reembedder.config.limits.image_bytes,
                );
                let file = file_of(&image, limit).map_err(|error| ApiError {
                    message: format!("items[{index}].image: {}", error.message),
                    ..error
                })?;
                sent(Original::Picture(file.into_owned()), kind, accepts)
            }
            (None, Some(text)) => sent(Original::Text(text), kind, accepts),
            (None, None) => {
                let reason = item.reason.unwrap_or(FailureReason::Gone);
                Err(Failure::new(reason, item.detail.unwrap_or_default()))
            }
        };
        if let Some(stored) = stored {
            fetched.push((stored, original));
        }
    }
    Ok(Pushed {
        fetched,
        not_waiting,
        counted,
    })
}

/// An original that a client sent, if it is of the item's kind and of one that is embedded.
fn sent(
    original: Original,
    kind: Option<Modality>,
    accepts: &[Modality],
) -> Result<Original, Failure> {
    let given = match &original {
        Original::Picture(_) => Modality::Image,
        Original::Text(_) | Original::Held(_) => Modality::Text,
    };
    let (reason, problem) = match kind {
        Some(kind) if !accepts.contains(&kind) => (
            FailureReason::OtherModality,
            format!(
                "the item is a {}, which the live version does not embed",
                kind_word(kind)
            ),
        ),
        Some(kind) if kind != given => (
            FailureReason::OtherOriginal,
            format!(
                "the item is a {}, and a {} was sent",
                kind_word(kind),
                kind_word(given)
            ),
        ),
        _ if !accepts.contains(&given) => (
            FailureReason::OtherModality,
            format!(
                "it is a {}, which the live version does not embed",
                kind_word(given)
            ),
        ),
        _ => return Ok(original),
    };
    Err(Failure::new(reason, problem))
}

fn not_running() -> ApiError {
    ApiError::conflict("no backfill is running; POST /backfill begins one")
}
