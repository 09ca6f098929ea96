//! `POST /search`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use perennial_encode::InputType;
use perennial_gallery::{Filter, ItemId};
use perennial_upgrade::{MergedHit, SearchPlan};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Versioned;
use super::parts::{LeftOutBody, PartBody};
use crate::authorize::MayRead;
use crate::body::{Format, Received};
use crate::error::{ApiError, ErrorBody};
use crate::images::EncodedImage;
use crate::mixed_search::{self, Found, Options, Query};
use crate::openapi::{FilterSchema, Guarded, ItemIdSchema, WithBody};
use crate::preparing::ReceivedInput;
use crate::service::Service;

/// What to search for: exactly one of `image`, `text`, `embedding` and `id`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchBody {
    /// A picture file (PNG, JPEG, WebP, GIF, BMP or TIFF) as base64; the live version embeds it.
    image: Option<String>,
    /// A text, where the live version embeds texts; it does so as a query.
    text: Option<String>,
    /// A unit vector.
    embedding: Option<Vec<f32>>,
    /// A stored item, whose embedding is used.
    #[schema(value_type = Option<ItemIdSchema>)]
    id: Option<ItemId>,
    /// The version that produced `embedding`; the live one unless given.
    model_version: Option<String>,
    /// How many hits.
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 10)]
    limit: usize,
    /// Which items may be found.
    #[serde(default)]
    #[schema(value_type = FilterSchema)]
    filter: Filter,
    /// Compare with every vector in full precision.
    #[serde(default)]
    exact: bool,
    /// Search items as well that no certified route leads to, where they have the query's dimension: their similarities may mean nothing.
    #[serde(default)]
    force: bool,
    /// Leave out hits below the threshold at which at most this share of wrong items is accepted, a fraction above 0 and below 1. The thresholds
    /// are those of the certificates, for each part of the gallery, so the setting means the same before and after an upgrade. 422 where one is not
    /// known for a rate as small.
    #[schema(exclusive_minimum = 0, exclusive_maximum = 1)]
    max_false_accept_rate: Option<f64>,
}

fn default_limit() -> usize {
    10
}

/// The same as a form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes a form")]
pub(crate) struct SearchForm {
    /// A picture file: PNG, JPEG, WebP, GIF, BMP or TIFF.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// The other settings, as JSON.
    request: Option<SearchBody>,
}

/// What was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct SearchAnswer {
    /// The version of the query.
    model_version: String,
    /// Best first by `standard_score`: similarities of different spaces are not on one scale.
    hits: Vec<HitBody>,
    /// The parts of the gallery that were searched, and by which routes. Those of versions that the filter leaves out are not listed.
    parts: Vec<PartBody>,
    /// Stored items that were not searched, since no certified route leads to them. Those of versions that the filter leaves out are not
    /// counted.
    not_searched: u64,
    /// The same by space, and why.
    left_out: Vec<LeftOutBody>,
    /// From the body's end to the answer, in seconds.
    took_seconds: f64,
}

/// One item that was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct HitBody {
    #[schema(value_type = ItemIdSchema)]
    id: ItemId,
    /// Cosine similarity to the query in the item's space. To be compared with those of hits of the same part only.
    score: f32,
    /// The similarity less what is usual for this query among the items of its part, in standard deviations: comparable over all hits of an answer.
    standard_score: f64,
    /// The space of the item: the version or outside encoder that embedded it.
    space: String,
    /// How the query reached it: `own`, `bridged` or `dual`.
    route: &'static str,
    /// The same as `space`.
    model_version: String,
    /// Its class.
    label: Option<u32>,
    /// What was stored with it.
    #[schema(value_type = Object)]
    payload: Map<String, Value>,
}

impl HitBody {
    fn new(merged: MergedHit, plan: &SearchPlan) -> Self {
        let hit = merged.hit;
        Self {
            id: hit.id,
            score: hit.score,
            standard_score: merged.standard_score,
            space: hit.model_version.clone(),
            route: plan.parts[merged.part].way.route().name(),
            model_version: hit.model_version,
            label: hit.label,
            payload: hit.payload,
        }
    }
}

impl SearchAnswer {
    fn new(found: Found, took: Duration) -> Self {
        let plan = &found.plan;
        let parts = plan.parts.iter().zip(&found.thresholds);
        Self {
            model_version: found.version,
            parts: parts
                .map(|(part, &threshold)| PartBody::new(part, threshold))
                .collect(),
            not_searched: plan.not_searched_items(),
            left_out: LeftOutBody::of(plan),
            hits: found
                .hits
                .into_iter()
                .map(|hit| HitBody::new(hit, plan))
                .collect(),
            took_seconds: took.as_secs_f64(),
        }
    }
}

/// Finds the items most similar to an image, a text, an embedding or a stored item.
///
/// Every part of the gallery is searched by the best certified route that the query can take: as it is, mapped by a bridge, or for pictures and texts also
/// together with the embedding of the items' own encoder. Items without such a route are not searched, and the answer says how many and why; if that
/// is all of them, it is 409.
#[utoipa::path(
    post,
    path = "/search",
    tag = "search",
    request_body(content((SearchBody = "application/json"), (SearchForm = "multipart/form-data"))),
    responses(
        (status = 200, description = "The hits, best first.", body = SearchAnswer,
            headers(("x-model-version" = String, description = "The version of the query."))),
        (status = 404, description = "No item of this id.", body = ErrorBody),
        (status = 409, description = "No certified route leads to any of the items.", body = ErrorBody),
        (status = 503, description = "No version is live.", body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn search(
    _: MayRead,
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Versioned<SearchAnswer>, ApiError> {
    let formats = [Format::Json, Format::Multipart];
    let limit = service.config.limits.body_bytes;
    let (format, received) = Received::read(&service, request, &formats, limit).await?;
    let start = Instant::now();
    let (image, mut body) = match format {
        Format::Json => {
            let mut body: SearchBody = received.json().await?;
            (body.image.take().map(EncodedImage::Base64), body)
        }
        Format::Multipart => {
            let mut form = received.form(&["image"], 1).await?;
            let body: SearchBody = form.request().await?;
            if body.image.is_some() {
                return Err(ApiError::unprocessable("the image is given twice"));
            }
            (Some(form.image()?), body)
        }
    };
    // The vectors are on their own now; the body need not wait for the search.
    drop(received);
    let results = service.config.limits.results;
    if !(1..=results).contains(&body.limit) {
        return Err(ApiError::unprocessable(format!(
            "limit: got {}, must be 1 to {results}",
            body.limit
        )));
    }
    let query = query(image, &mut body)?;
    let options = Options {
        limit: body.limit,
        filter: body.filter,
        exact: body.exact,
        force: body.force,
        max_false_accept_rate: body.max_false_accept_rate,
    };
    let found = mixed_search::search(&service, query, options).await?;
    let took = start.elapsed();
    service.recent.searched(took);
    Ok(Versioned {
        model_version: found.version.clone(),
        body: SearchAnswer::new(found, took),
    })
}

const ONE_QUERY: &str = "expected exactly one of `image`, `text`, `embedding` and `id`";

/// The one thing that is searched for.
fn query(image: Option<EncodedImage>, body: &mut SearchBody) -> Result<Query, ApiError> {
    if body.model_version.is_some() && body.embedding.is_none() {
        return Err(ApiError::unprocessable(
            "model_version: only allowed with `embedding`; images and texts are embedded by the live version, and stored items have their own",
        ));
    }
    let text = body.text.take();
    let text = text.map(|text| ReceivedInput::Text(text, InputType::Query));
    let input = match (image.map(ReceivedInput::Picture), text) {
        (Some(_), Some(_)) => return Err(ApiError::unprocessable(ONE_QUERY)),
        (image, text) => image.or(text),
    };
    match (input, body.embedding.take(), body.id.take()) {
        (Some(input), None, None) => Ok(Query::Input(input)),
        (None, Some(embedding), None) => Ok(Query::Embedding(embedding, body.model_version.take())),
        (None, None, Some(id)) => Ok(Query::Item(id)),
        _ => Err(ApiError::unprocessable(ONE_QUERY)),
    }
}
