//! The handlers, one file per subject.

pub(crate) mod aliases;
pub(crate) mod backfill;
pub(crate) mod compaction;
pub(crate) mod compatibility;
mod drop_in;
pub(crate) mod embed;
pub(crate) mod filters;
pub(crate) mod health;
pub(crate) mod items;
pub(crate) mod models;
pub(crate) mod openai_embeddings;
pub(crate) mod openai_models;
pub(crate) mod page;
pub(crate) mod parts;
pub(crate) mod search;
pub(crate) mod snapshots;
pub(crate) mod stats;
mod tei_embed;

use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::request_log::MODEL_VERSION;

/// JSON that names the model version behind it in a header.
pub(crate) struct Versioned<T> {
    /// Empty where no model was used.
    model_version: String,
    body: T,
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.body).into_response();
        if let Ok(version) = HeaderValue::from_str(&self.model_version)
            && !version.is_empty()
        {
            response.headers_mut().insert(MODEL_VERSION, version);
        }
        response
    }
}
