//! `POST /search`.

mod second_stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use perennial_encode::InputType;
use perennial_gallery::{Filter, ItemId};
use perennial_upgrade::{MergedHit, RankedBy, ScoreKind, SearchPlan};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use self::second_stage::SecondStageBody;
use super::Versioned;
use super::parts::{LeftOutBody, PartBody};
use crate::authorize::Rights;
use crate::body::{Format, Received};
use crate::config::Limits;
use crate::error::{ApiError, ErrorBody};
use crate::images::EncodedImage;
use crate::mixed_search::{self, Found, Options, Query, SearchService};
use crate::openapi::{Embedding, FilterSchema, Guarded, ItemIdSchema, WithBody};
use crate::preparing::ReceivedInput;
use crate::receive::BodyBudget;
use crate::recent::Recent;
use crate::second_stages::SecondStages;
use crate::two_stage::{Ranked, SecondStage, second_stage};

/// What to search for: exactly one of `image`, `text`, `embedding` and `id`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchBody {
    /// A picture file (PNG, JPEG, WebP, GIF, BMP or TIFF) as base64; the live version embeds it, unless `as_version` names another.
    image: Option<String>,
    /// A text, where the live version embeds texts; it does so as a query.
    text: Option<String>,
    /// A unit vector.
    embedding: Option<Vec<f32>>,
    /// A stored item, whose embedding is used.
    #[schema(value_type = Option<ItemIdSchema>)]
    id: Option<ItemId>,
    /// The version that produced `embedding`; the live one unless given. Only with `embedding`.
    model_version: Option<String>,
    /// How many hits.
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 10)]
    limit: usize,
    /// Which items may be found.
    #[serde(default)]
    #[schema(value_type = FilterSchema)]
    filter: Filter,
    /// Compare with every vector in full precision, whatever approximate index there is.
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
    /// Search with `image` or `text` as if this version, by name or alias, were live: with its own embedding of it and by its own routes. So an
    /// answer can be compared before and after an upgrade. One that is not in memory is loaded, which takes a key with write scope (403), and
    /// stays there until another is tried, the live version moves, or it was not asked for in ten minutes; 409 if it fails its checks.
    as_version: Option<String>,
    /// Second stage: the first so many hits are put in the order of their similarity to the query in the live version's space. Where their
    /// embeddings are of other versions, their originals are fetched and embedded. Hits whose original cannot be used keep their places. At most
    /// `limits.rerank`; it may be more than `limit`. 422 where the service has no `originals`, or for a query that is not of the live version.
    #[schema(minimum = 1)]
    rerank: Option<usize>,
    /// Store what the second stage embedded, as a backfill does. Only with `rerank`. Takes a key with write scope (403).
    #[serde(default)]
    backfill: bool,
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
    /// Best first by `merged_score` where the hits have one, otherwise by `standard_score`, since similarities of different spaces are not on one
    /// scale. With `rerank`, the first of them by `own_score`, where they have one.
    hits: Vec<HitBody>,
    /// The parts of the gallery that were searched, and by which routes. Those of versions that the filter leaves out are not listed.
    parts: Vec<PartBody>,
    /// Stored items that were not searched, since no certified route leads to them. Those of versions that the filter leaves out are not
    /// counted.
    not_searched: u64,
    /// The same by space, and why.
    left_out: Vec<LeftOutBody>,
    /// What became of the second stage; null without `rerank`.
    second_stage: Option<SecondStageBody>,
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
    /// What `score` is. `own_cosine`: of the query's own embedding. `bridged_cosine`: of the embedding, mapped by a bridge into the item's space.
    /// `dual_cosine`: of the mapped embedding and that of the item's own encoder together. `mapped_cosine`: of the query's own embedding, with the
    /// item's vector mapped into its space.
    score_kind: &'static str,
    /// The figure by which the hit has its place. `score`: one part was searched. `standard_score`: several were. `merged_score`: the same, by a
    /// merge that was measured. `own_score`: the second stage. `kept_place`: the second stage came to the hit and could not measure it, so it
    /// stays in the place that it had before.
    ranked_by: &'static str,
    /// The similarity less what is usual for this query among the items of its part, in standard deviations: comparable over all hits of an answer.
    standard_score: f64,
    /// The similarity on the scale of cosines in the query's own space, by the merge that was measured best for a route of this search; comparable over
    /// all hits of an answer. Null where one part was searched or no route of it has such a measurement.
    merged_score: Option<f64>,
    /// Cosine similarity to the query in the live version's space, from the second stage; null where that did not come to the hit.
    own_score: Option<f32>,
    /// The space of the item: the version or outside encoder that embedded it.
    space: String,
    /// How the query reached it: `own`, `bridged`, `dual` or `mapped`.
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
    /// `second_stage` is what became of the hit there, if it was among those that it looked at.
    fn new(merged: MergedHit, second_stage: Option<Option<f32>>, plan: &SearchPlan) -> Self {
        let hit = merged.hit;
        let route = plan.parts[merged.part].way.route();
        let ranked_by = match second_stage {
            Some(own_score) => RankedBy::second_stage(own_score),
            None => RankedBy::first_stage(plan.parts.len(), merged.merged_score),
        };
        Self {
            id: hit.id,
            score: hit.score,
            score_kind: ScoreKind::of(route).name(),
            ranked_by: ranked_by.name(),
            standard_score: merged.standard_score,
            merged_score: merged.merged_score,
            own_score: second_stage.flatten(),
            space: hit.model_version.clone(),
            route: route.name(),
            model_version: hit.model_version,
            label: hit.label,
            payload: hit.payload,
        }
    }
}

impl SearchAnswer {
    fn new(found: Found, ranked: Option<&Ranked>, took: Duration) -> Self {
        let plan = &found.plan;
        let own = ranked.map_or(&[][..], |ranked| &ranked.own);
        let looked_at = own.iter().copied().map(Some);
        let looked_at = looked_at.chain(std::iter::repeat(None));
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
                .zip(looked_at)
                .map(|(hit, stage)| HitBody::new(hit, stage, plan))
                .collect(),
            second_stage: ranked.map(SecondStageBody::new),
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
        (status = 409, description = "No certified route leads to any of the items, or `as_version` cannot be used.", body = ErrorBody),
        (status = 503, description = "No version is live.", body = ErrorBody),
        Embedding,
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn search(
    rights: Rights,
    State(limits): State<Arc<Limits>>,
    State(budget): State<BodyBudget>,
    State(service): State<Arc<SearchService>>,
    State(second_stages): State<Arc<SecondStages>>,
    State(recent): State<Arc<Recent>>,
    request: Request,
) -> Result<Versioned<SearchAnswer>, ApiError> {
    let formats = [Format::Json, Format::Multipart];
    let (format, received) = Received::read(&budget, request, &formats, limits.body_bytes).await?;
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
    let results = limits.results;
    if !(1..=results).contains(&body.limit) {
        return Err(ApiError::unprocessable(format!(
            "limit: got {}, must be 1 to {results}",
            body.limit
        )));
    }
    let second = second(&limits, &second_stages, &rights, &body)?;
    let as_version = body.as_version.take();
    let query = query(image, &mut body)?;
    let as_version = match as_version {
        Some(_) if !matches!(query, Query::Input(_)) => {
            return Err(ApiError::unprocessable(
                "as_version: only allowed with `image` or `text`, which that version embeds; say with `model_version` which one embedded `embedding`",
            ));
        }
        Some(name) => {
            let may_load = || rights.write_elsewhere();
            let planning = &service.planning;
            Some(
                planning
                    .as_if_live(&service.versions, &name, may_load)
                    .await?,
            )
        }
        None => None,
    };
    let options = Options {
        limit: second
            .as_ref()
            .map_or(body.limit, |second| second.hits.max(body.limit)),
        filter: body.filter,
        exact: body.exact,
        force: body.force,
        max_false_accept_rate: body.max_false_accept_rate,
        as_version,
    };
    let mut found = mixed_search::search(&service, query, options).await?;
    let ranked = match &second {
        Some(second) => Some(second_stage(&second_stages, &mut found, second).await?),
        None => None,
    };
    found.hits.truncate(body.limit);
    let took = start.elapsed();
    recent.searched(took);
    Ok(Versioned {
        model_version: found.version.clone(),
        body: SearchAnswer::new(found, ranked.as_ref(), took),
    })
}

/// The second stage that is asked for.
///
/// **Errors**: 422 for settings that do not go together or are out of range, 403 for a write without the right to it.
fn second(
    limits: &Limits,
    second_stages: &SecondStages,
    rights: &Rights,
    body: &SearchBody,
) -> Result<Option<SecondStage>, ApiError> {
    let Some(hits) = body.rerank else {
        return match body.backfill {
            true => Err(ApiError::unprocessable(
                "backfill: only allowed with `rerank`; POST /backfill embeds everything again",
            )),
            false => Ok(None),
        };
    };
    let most = limits.rerank.min(limits.results);
    if !(1..=most).contains(&hits) {
        return Err(ApiError::unprocessable(format!(
            "rerank: got {hits}, must be 1 to {most} (limits.rerank and limits.results)"
        )));
    }
    if body.as_version.is_some() {
        return Err(ApiError::unprocessable(
            "rerank: not allowed with `as_version`, since the live version ranks",
        ));
    }
    // Before the search, which would be in vain.
    second_stages.originals()?;
    if body.backfill {
        rights.write()?;
    }
    Ok(Some(SecondStage {
        hits,
        backfill: body.backfill,
    }))
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
