//! `POST /search`.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use perennial_gallery::{Filter, Hit, ItemId, SearchRequest};
use perennial_upgrade::{Asking, OwnRoute};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Versioned;
use crate::body::{Format, Received};
use crate::error::{ApiError, ErrorBody};
use crate::images::EncodedImage;
use crate::keys::MayRead;
use crate::openapi::{FilterSchema, Guarded, ItemIdSchema, WithBody};
use crate::service::{Service, blocking, incompatible};
use crate::telemetry::Stage;

/// What to search for: exactly one of `image`, `embedding` and `id`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchBody {
    /// A picture file (PNG, JPEG, WebP, GIF, BMP or TIFF) as base64; the live version embeds it.
    image: Option<String>,
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
    /// Search even if the version is not certified against the stored versions.
    #[serde(default)]
    force: bool,
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
    /// Best first.
    hits: Vec<HitBody>,
    /// Stored items that the query cannot be compared with, since their embeddings have another dimension; they are not
    /// searched. Those of versions that the filter leaves out are not counted.
    not_searched: u64,
    /// From the body's end to the answer, in seconds.
    took_seconds: f64,
}

/// One item that was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct HitBody {
    #[schema(value_type = ItemIdSchema)]
    id: ItemId,
    /// Cosine similarity.
    score: f32,
    /// The version that embedded the item.
    model_version: String,
    /// Its class.
    label: Option<u32>,
    /// What was stored with it.
    #[schema(value_type = Object)]
    payload: Map<String, Value>,
}

impl From<Hit> for HitBody {
    fn from(hit: Hit) -> Self {
        Self {
            id: hit.id,
            score: hit.score,
            model_version: hit.model_version,
            label: hit.label,
            payload: hit.payload,
        }
    }
}

/// The query, as far as async code has brought it.
enum Query {
    Embedded {
        embedding: Vec<f32>,
        version: String,
        checked_dim: bool,
    },
    Stored(ItemId),
}

/// Finds the items most similar to an image, an embedding or a stored item.
///
/// The versions that the filter admits must all be certified with the query's version, or the answer is 409.
#[utoipa::path(
    post,
    path = "/search",
    tag = "search",
    request_body(content((SearchBody = "application/json"), (SearchForm = "multipart/form-data"))),
    responses(
        (status = 200, description = "The hits, best first.", body = SearchAnswer,
            headers(("x-model-version" = String, description = "The version of the query."))),
        (status = 404, description = "No item of this id.", body = ErrorBody),
        (status = 409, description = "The version is not certified against the stored versions.", body = ErrorBody),
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
    let (image, body) = match format {
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
    let query = query(&service, image, &body).await?;
    let _place = service
        .gallery
        .searches
        .acquire()
        .await
        .map_err(ApiError::internal)?;
    let outcome = {
        let service = Arc::clone(&service);
        blocking(move || find(&service, query, &body)).await?
    };
    let took = start.elapsed();
    service.recent.searched(took);
    Ok(Versioned {
        model_version: outcome.version.clone(),
        body: SearchAnswer {
            model_version: outcome.version,
            hits: outcome.hits.into_iter().map(HitBody::from).collect(),
            not_searched: outcome.not_searched,
            took_seconds: took.as_secs_f64(),
        },
    })
}

async fn query(
    service: &Arc<Service>,
    image: Option<EncodedImage>,
    body: &SearchBody,
) -> Result<Query, ApiError> {
    if body.model_version.is_some() && body.embedding.is_none() {
        return Err(ApiError::unprocessable(
            "model_version: only allowed with `embedding`; images are embedded by the live version, and stored items have their own",
        ));
    }
    match (image, &body.embedding, &body.id) {
        (Some(image), None, None) => {
            let snapshot = service.inference.snapshot()?;
            let embedding = service.inference.embed(&snapshot, vec![image]).await?;
            Ok(Query::Embedded {
                embedding,
                version: snapshot.name().to_owned(),
                checked_dim: true,
            })
        }
        (None, Some(embedding), None) => Ok(Query::Embedded {
            embedding: embedding.clone(),
            version: match &body.model_version {
                Some(version) => version.clone(),
                None => service.inference.snapshot()?.name().to_owned(),
            },
            checked_dim: false,
        }),
        (None, None, Some(id)) => Ok(Query::Stored(id.clone())),
        _ => Err(ApiError::unprocessable(
            "expected exactly one of `image`, `embedding` and `id`",
        )),
    }
}

/// What a search comes to.
struct Outcome {
    version: String,
    hits: Vec<Hit>,
    not_searched: u64,
}

/// The blocking part: the check of certificates, and the search itself.
fn find(service: &Service, query: Query, body: &SearchBody) -> Result<Outcome, ApiError> {
    let item_to_items = matches!(query, Query::Stored(_));
    let (embedding, version) = match query {
        Query::Embedded {
            embedding,
            version,
            checked_dim: true,
        } => (embedding, version),
        Query::Embedded {
            embedding,
            version,
            checked_dim: false,
        } => {
            let version = service.version(&version)?;
            if embedding.len() != version.dim {
                return Err(ApiError::unprocessable(format!(
                    "embedding: has {} values, those of {} have {}",
                    embedding.len(),
                    version.name,
                    version.dim
                )));
            }
            (embedding, version.name.clone())
        }
        Query::Stored(id) => {
            let mut found = service.gallery.store.get(std::slice::from_ref(&id), true)?;
            let missing = || ApiError::not_found(format!("no item {id}"));
            let item = found.pop().ok_or_else(missing)?;
            (item.embedding.ok_or_else(missing)?, item.model_version)
        }
    };
    let stored = service.gallery.stored();
    let filter = super::filters::resolve(service, body.filter.clone())?;
    let asking = match item_to_items {
        true => Asking::Item(&version),
        false => Asking::Version(&version),
    };
    let among = filter.model_versions.as_deref();
    let OwnRoute {
        spaces,
        refused,
        not_searched,
    } = OwnRoute::of(
        &service.gallery.certification,
        asking,
        embedding.len(),
        &stored,
        among,
    );
    if !refused.is_empty() {
        if !body.force {
            return Err(incompatible(&refused));
        }
        tracing::warn!(
            version,
            pairs = refused.len(),
            "an uncertified search was forced"
        );
        service.telemetry.forced("search", 1);
    }
    let start = Instant::now();
    let mut found = service.gallery.store.search(&SearchRequest {
        spaces: &spaces,
        queries: &embedding,
        dim: embedding.len(),
        limit: body.limit,
        filter: &filter,
        exact: body.exact,
    })?;
    let hits = found.pop().unwrap_or_default();
    service
        .backfill
        .retrieved(&version, hits.iter().map(|hit| (hit, None)));
    service.telemetry.stage(Stage::Search, start.elapsed());
    Ok(Outcome {
        version,
        hits,
        not_searched,
    })
}
