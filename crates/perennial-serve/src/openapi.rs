//! The OpenAPI document, apart from what the handlers say themselves.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{IntoResponses, ToSchema};

use crate::error::ErrorBody;

/// The name of the security scheme.
pub(crate) const KEY: &str = "key";

/// Title, description and the security scheme.
pub(crate) fn head() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(info(
        title = "Perennial",
        description = "One gallery of embeddings, many compatible model versions, hot swap without re-embedding.\n\n\
            Answers that used a model carry its name in `x-model-version`; every answer carries `x-request-id`. Errors have one \
            form, `{error: {code, message, request_id, details}}`. Keys are sent as `authorization: Bearer KEY`; a service \
            without keys is open to this machine. Any request may also be refused with 503 `timeout`."
    ))]
    struct Head;
    let mut document = <Head as utoipa::OpenApi>::openapi();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(KEY, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document
}

/// What every route behind a key may answer.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only the derived description is used")]
pub(crate) enum Guarded {
    /// No key, or an unknown one.
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// A key without the right, or a request from another web site.
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// Too much at once; see `Retry-After`.
    #[response(status = 429)]
    TooMany(ErrorBody),
}

/// What every route that embeds may answer, where a version's encoder is an embedding service.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only the derived description is used")]
pub(crate) enum Embedding {
    /// The embedding service behind a version cannot be reached, fails, or answers nonsense.
    #[response(status = 502)]
    Failed(ErrorBody),
    /// The embedding service behind a version did not answer in time.
    #[response(status = 504)]
    TimedOut(ErrorBody),
}

/// What every route that takes a body may answer.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only the derived description is used")]
pub(crate) enum WithBody {
    /// The body is no JSON or no multipart, or its gzip data is damaged.
    #[response(status = 400)]
    BadRequest(ErrorBody),
    /// More bytes than allowed; those of a gzip body are counted after decompression.
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// Another content type, or another content encoding than gzip.
    #[response(status = 415)]
    MediaType(ErrorBody),
    /// Understood, but not usable; the message names the key.
    #[response(status = 422)]
    Unprocessable(ErrorBody),
}

/// The name of an item: a number or a text.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ItemId)]
#[allow(dead_code, reason = "describes a type of another crate")]
pub(crate) enum ItemIdSchema {
    /// Any unsigned number of 64 bits.
    Number(u64),
    /// 1 to 128 bytes without control characters.
    Text(String),
}

/// What a text or picture is for.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = InputType)]
#[allow(dead_code, reason = "describes a type of another crate")]
pub(crate) enum InputTypeSchema {
    /// Something to search for.
    #[serde(alias = "search_query")]
    Query,
    /// Something to be stored and found.
    #[serde(alias = "search_document", alias = "passage")]
    Document,
}

/// Conditions that an item must meet, all of them. One that is absent holds for every item; one that is there but empty (`[]` or
/// `{}`) holds for none.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Filter)]
#[allow(dead_code, reason = "describes a type of another crate")]
pub(crate) struct FilterSchema {
    /// The model version is one of these, by name or alias. A name that neither the registry nor the gallery knows is an error.
    #[serde(default)]
    model_versions: Vec<String>,
    /// The label meets these conditions.
    labels: Option<LabelFilterSchema>,
    /// The payload has these keys at its top level with exactly these values.
    #[serde(default)]
    #[schema(value_type = Object)]
    payload: Map<String, Value>,
    /// The id is one of these.
    #[serde(default)]
    ids: Vec<ItemIdSchema>,
}

/// Conditions on the label, all of them. Without any, no label passes.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = LabelFilter)]
#[allow(dead_code, reason = "describes a type of another crate")]
pub(crate) struct LabelFilterSchema {
    /// One of these.
    #[serde(default)]
    any_of: Vec<u32>,
    /// The smallest label that passes.
    from: Option<u32>,
    /// The largest label that passes.
    to: Option<u32>,
}
