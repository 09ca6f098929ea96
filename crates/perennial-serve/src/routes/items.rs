//! `/gallery/items`: writing, reading and deleting.

mod sample;
mod upsert;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::Uri;
use perennial_gallery::bounded_json::{self, at_most};
use perennial_gallery::limits::MAX_BATCH;
use perennial_gallery::{Filter, GalleryError, ItemId, LabelFilter, StoredItem};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use self::upsert::{Batch, ItemBody, UpsertAnswer};
use super::{Versioned, filters};
use crate::authorize::{MayRead, MayWrite};
use crate::blocking::blocking;
use crate::body::{Format, JsonBody, Received};
use crate::config::Limits;
use crate::error::{ApiError, ErrorBody};
use crate::gallery::Gallery;
use crate::openapi::{Embedding, FilterSchema, Guarded, ItemIdSchema, WithBody};
use crate::receive::BodyBudget;
use crate::recent::Recent;
use crate::storing::Storing;
use crate::versions::Versions;

/// One item, and whether a refusal may be overruled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SingleBody {
    #[schema(value_type = ItemIdSchema)]
    id: ItemId,
    /// A unit vector.
    embedding: Option<Vec<f32>>,
    /// A picture file (PNG, JPEG, WebP, GIF, BMP or TIFF) as base64.
    image: Option<String>,
    /// A text, where the live version embeds texts; it does so as a document.
    text: Option<String>,
    /// The version that produced `embedding`.
    model_version: Option<String>,
    /// The class.
    label: Option<u32>,
    /// Anything else, at most 16 KiB as JSON.
    #[serde(default, deserialize_with = "bounded_json::payload")]
    #[schema(value_type = Object)]
    payload: Map<String, Value>,
    /// Store even if the version is not certified against the stored versions.
    #[serde(default)]
    force: bool,
}

/// The same as a form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes a form")]
pub(crate) struct SingleForm {
    /// A picture file: PNG, JPEG, WebP, GIF, BMP or TIFF.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// The item without its image, as JSON.
    request: SingleBody,
}

/// Several items, stored together or not at all.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchBody {
    #[serde(deserialize_with = "at_most::<MAX_BATCH, _, _>")]
    items: Vec<ItemBody>,
    /// Store even if a version is not certified against the stored versions.
    #[serde(default)]
    force: bool,
}

/// Which items to delete: exactly one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteBody {
    #[schema(value_type = Option<Vec<ItemIdSchema>>)]
    ids: Option<Ids>,
    /// Must have a condition. One that is there but empty deletes nothing.
    #[schema(value_type = Option<FilterSchema>)]
    filter: Option<Filter>,
}

/// As many ids as one call takes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Ids(#[serde(deserialize_with = "at_most::<MAX_BATCH, _, _>")] Vec<ItemId>);

/// How many items there were.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeleteAnswer {
    deleted: usize,
}

/// A stored item.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoredBody {
    #[schema(value_type = ItemIdSchema)]
    id: ItemId,
    /// The version that embedded it.
    model_version: String,
    /// Its class.
    label: Option<u32>,
    /// What was stored with it.
    #[schema(value_type = Object)]
    payload: Map<String, Value>,
    /// Its unit vector, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Vec<f32>>,
}

impl From<StoredItem> for StoredBody {
    fn from(item: StoredItem) -> Self {
        Self {
            id: item.id,
            model_version: item.model_version,
            label: item.label,
            payload: item.payload,
            embedding: item.embedding,
        }
    }
}

/// A page of items in the order of their ids.
#[derive(Serialize, ToSchema)]
pub(crate) struct PageAnswer {
    items: Vec<StoredBody>,
    /// Give it as `after` for the next page; null at the end.
    #[schema(value_type = Option<ItemIdSchema>)]
    next: Option<ItemId>,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// The last id of the page before; digits without a leading zero are a number, anything else is a text, and so is `"12"` in
    /// quotes.
    after: Option<String>,
    /// Items per page.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// With their vectors.
    #[serde(default)]
    embeddings: bool,
    /// Only those of one version.
    model_version: Option<String>,
    /// Only those of one class.
    label: Option<u32>,
    /// Only those that pass a filter, given as JSON with the keys that a search's `filter` has. Takes the place of `model_version` and
    /// `label`.
    filter: Option<String>,
    /// A key that payloads come without, such as `thumbnail`.
    without: Option<String>,
    /// Instead of a page in the order of ids: a few items of every class in turn, for a first look. It goes without `after`,
    /// `label` and `embeddings`, and has no next page.
    #[serde(default)]
    sample: bool,
}

/// Whether with the vector.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OneQuery {
    /// With its vector.
    #[serde(default)]
    embedding: bool,
}

/// Items of a page unless asked otherwise.
const PAGE: usize = 100;

/// Stores one item. When the answer arrives, the item is on the disk.
#[utoipa::path(
    put,
    path = "/gallery/items",
    tag = "gallery",
    request_body(content((SingleBody = "application/json"), (SingleForm = "multipart/form-data"))),
    responses(
        (status = 200, description = "Stored.", body = UpsertAnswer),
        (status = 409, description = "The live version is not certified to find items of this one, or an image or text names a version that is not live.",
            body = ErrorBody),
        (status = 503, description = "No version is live, or the storage fails.", body = ErrorBody),
        Embedding,
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn put(
    _: MayWrite,
    State(limits): State<Arc<Limits>>,
    State(budget): State<BodyBudget>,
    State(storing): State<Arc<Storing>>,
    State(recent): State<Arc<Recent>>,
    request: Request,
) -> Result<Versioned<UpsertAnswer>, ApiError> {
    let formats = [Format::Json, Format::Multipart];
    let (format, received) = Received::read(&budget, request, &formats, limits.body_bytes).await?;
    let (body, file) = match format {
        Format::Json => (received.json::<SingleBody>().await?, None),
        Format::Multipart => {
            let mut form = received.form(&["image"], 1).await?;
            (form.request::<SingleBody>().await?, Some(form.image()?))
        }
    };
    let force = body.force;
    let item = ItemBody {
        id: body.id,
        embedding: body.embedding,
        image: body.image,
        text: body.text,
        model_version: body.model_version,
        label: body.label,
        payload: body.payload,
    };
    let mut batch = Batch::new(&limits, vec![item])?;
    if let Some(file) = file {
        batch.set_file(file)?;
    }
    batch.store(&storing, &recent, force).await
}

/// Stores items, all or none. When the answer arrives, they are on the disk.
#[utoipa::path(
    post,
    path = "/gallery/items:batch",
    tag = "gallery",
    request_body = BatchBody,
    responses(
        (status = 200, description = "Stored.", body = UpsertAnswer),
        (status = 409, description = "The live version is not certified to find items of one of these, or an image or text names a version that is not live.",
            body = ErrorBody),
        (status = 503, description = "No version is live, or the storage fails.", body = ErrorBody),
        Embedding,
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn put_batch(
    _: MayWrite,
    State(limits): State<Arc<Limits>>,
    State(storing): State<Arc<Storing>>,
    State(recent): State<Arc<Recent>>,
    JsonBody(body): JsonBody<BatchBody>,
) -> Result<Versioned<UpsertAnswer>, ApiError> {
    let batch = Batch::new(&limits, body.items)?;
    batch.store(&storing, &recent, body.force).await
}

/// Deletes items by id or by filter.
#[utoipa::path(
    delete,
    path = "/gallery/items",
    tag = "gallery",
    request_body = DeleteBody,
    responses(
        (status = 200, description = "The number of deleted items.", body = DeleteAnswer),
        (status = 503, description = "The storage fails.", body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn delete(
    _: MayWrite,
    State(gallery): State<Arc<Gallery>>,
    State(versions): State<Arc<Versions>>,
    JsonBody(body): JsonBody<DeleteBody>,
) -> Result<Json<DeleteAnswer>, ApiError> {
    let deleted = blocking(move || {
        let deleted = match (body.ids, body.filter) {
            (Some(Ids(ids)), None) => gallery.store.delete(&ids)?,
            (None, Some(filter)) => {
                let filter = filters::resolve(&gallery, &versions, filter)?;
                gallery.store.delete_where(&filter)?
            }
            _ => {
                return Err(ApiError::unprocessable(
                    "expected exactly one of `ids` and `filter`",
                ));
            }
        };
        gallery.count_after_write();
        Ok(deleted)
    })
    .await?;
    Ok(Json(DeleteAnswer { deleted }))
}

/// Lists items in the order of their ids.
#[utoipa::path(
    get,
    path = "/gallery/items",
    tag = "gallery",
    params(PageQuery),
    responses(
        (status = 200, description = "A page.", body = PageAnswer),
        (status = 400, description = "An unknown or malformed parameter.", body = ErrorBody),
        (status = 422, description = "A value out of range.", body = ErrorBody),
        Guarded
    ),
    security(("key" = []))
)]
pub(crate) async fn list(
    _: MayRead,
    State(limits): State<Arc<Limits>>,
    State(gallery): State<Arc<Gallery>>,
    State(versions): State<Arc<Versions>>,
    RawQuery(query): RawQuery,
) -> Result<Json<PageAnswer>, ApiError> {
    let query: PageQuery = parse_query(query)?;
    let limit = query.limit.unwrap_or(PAGE);
    let results = limits.results;
    if !(1..=results).contains(&limit) {
        return Err(ApiError::unprocessable(format!(
            "limit: must be 1 to {results}, got {limit}"
        )));
    }
    if query.sample {
        if query.after.is_some() || query.label.is_some() || query.embeddings {
            return Err(ApiError::unprocessable(
                "sample: cannot be combined with `after`, `label` or `embeddings`",
            ));
        }
        let place = Arc::clone(&gallery.searches)
            .acquire_owned()
            .await
            .map_err(ApiError::internal)?;
        let items = blocking(move || {
            // Held here, since this goes on when the client leaves.
            let _place = place;
            sample::of_classes(&*gallery.store, limit, query.model_version)
        })
        .await?;
        return Ok(Json(PageAnswer {
            items: items.into_iter().map(StoredBody::from).collect(),
            next: None,
        }));
    }
    let page = blocking(move || {
        let after = query.after.map(|id| parse_id(&id)).transpose()?;
        let filter = Filter {
            model_versions: query.model_version.map(|version| vec![version]),
            labels: query.label.map(|label| LabelFilter::any_of([label])),
            ..Filter::default()
        };
        let filter = match &query.filter {
            Some(text) => serde_json::from_str(text)
                .map_err(|error| ApiError::unprocessable(format!("filter: {error}")))?,
            None => filter,
        };
        let filter = filters::resolve(&gallery, &versions, filter)?;
        let store = &gallery.store;
        let mut page = store.scroll(after.as_ref(), limit, &filter, query.embeddings)?;
        if let Some(key) = &query.without {
            for item in &mut page.items {
                item.payload.remove(key);
            }
        }
        Ok(page)
    })
    .await?;
    Ok(Json(PageAnswer {
        items: page.items.into_iter().map(StoredBody::from).collect(),
        next: page.next,
    }))
}

/// One item. Digits without a leading zero are the id's number, anything else is a text, and so is `"12"` in quotes.
#[utoipa::path(
    get,
    path = "/gallery/items/{id}",
    tag = "gallery",
    params(("id" = String, Path, description = "The item's id."), OneQuery),
    responses(
        (status = 200, description = "The item.", body = StoredBody),
        (status = 400, description = "An unknown or malformed parameter.", body = ErrorBody),
        (status = 404, description = "No such item.", body = ErrorBody),
        (status = 422, description = "No item can have this id.", body = ErrorBody),
        Guarded
    ),
    security(("key" = []))
)]
pub(crate) async fn get(
    _: MayRead,
    State(gallery): State<Arc<Gallery>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<StoredBody>, ApiError> {
    let query: OneQuery = parse_query(query)?;
    let id = parse_id(&id)?;
    let found = blocking(move || {
        let mut items = gallery
            .store
            .get(std::slice::from_ref(&id), query.embedding)?;
        items
            .pop()
            .ok_or_else(|| ApiError::not_found(format!("no item {id}")))
    })
    .await?;
    Ok(Json(found.into()))
}

pub(super) fn parse_query<T: serde::de::DeserializeOwned>(
    query: Option<String>,
) -> Result<T, ApiError> {
    let query = query.unwrap_or_default();
    let bad = |problem: String| ApiError::bad_request(format!("query string: {problem}"));
    let uri: Uri = format!("/?{query}")
        .parse()
        .map_err(|error| bad(format!("{error}")))?;
    axum::extract::Query::try_from_uri(&uri)
        .map(|parsed| parsed.0)
        .map_err(|error| bad(error.body_text()))
}

/// An id in a path or a query string, where numbers and texts look alike.
fn parse_id(text: &str) -> Result<ItemId, ApiError> {
    Ok(text.parse::<ItemId>().map_err(GalleryError::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn ids_in_paths() {
        for (text, id) in [
            ("12", ItemId::Number(12)),
            ("\"12\"", ItemId::from("12")),
            ("cat-7", ItemId::from("cat-7")),
            ("+5", ItemId::from("+5")),
            ("007", ItemId::from("007")),
            ("99999999999999999999", ItemId::from("99999999999999999999")),
        ] {
            assert_eq!(parse_id(text).unwrap(), id);
        }
        for text in ["", "\"", &"x".repeat(1025)] {
            assert_eq!(
                parse_id(text).unwrap_err().code,
                Code::Unprocessable,
                "{text}"
            );
        }
    }
}
