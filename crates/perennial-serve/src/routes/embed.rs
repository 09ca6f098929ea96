//! `POST /embed`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use perennial_gallery::bounded_json::some_at_most;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Versioned;
use super::drop_in::{Inputs, InputsSchema};
use super::tei_embed::{self, TeiRequest};
use crate::authorize::MayRead;
use crate::body::{Format, Received};
use crate::config::MAX_IMAGES;
use crate::error::{ApiError, ErrorBody};
use crate::images::EncodedImage;
use crate::openapi::{Guarded, WithBody};
use crate::service::Service;
use crate::upstream::{ClientKey, TruncationDirection};

/// Images to embed (`images`), or inputs as text-embeddings-inference takes them (`inputs`).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbedRequest {
    /// Picture files (PNG, JPEG, WebP, GIF, BMP or TIFF) as base64, with or without `data:image/...;base64,` in front.
    #[serde(default, deserialize_with = "some_at_most::<MAX_IMAGES, _, _>")]
    #[schema(nullable = false)]
    images: Option<Vec<String>>,
    /// Texts, for an upstream, or pictures as in `images`. The answer is a bare array of arrays.
    #[schema(value_type = Option<InputsSchema>)]
    inputs: Option<Inputs>,
    /// With `inputs`: whether embeddings are scaled to unit length. True unless it is false.
    normalize: Option<bool>,
    /// With `inputs`: whether texts that are too long are cut, by an upstream that can.
    truncate: Option<bool>,
    /// With `inputs`: at which end.
    truncation_direction: Option<TruncationDirection>,
    /// With `inputs`: `query` or `document`, or another name that programs use for one of them.
    prompt_name: Option<String>,
    /// With `inputs`: only the dimension that the space has.
    dimensions: Option<usize>,
}

/// What a request is for.
enum Wanted {
    Images(Vec<String>),
    Inputs(Box<TeiRequest>),
}

impl EmbedRequest {
    /// Tells the two kinds of requests apart by their keys.
    fn wanted(self) -> Result<Wanted, ApiError> {
        let beside = self.normalize.is_some()
            || self.truncate.is_some()
            || self.truncation_direction.is_some()
            || self.prompt_name.is_some()
            || self.dimensions.is_some();
        match (self.images, self.inputs) {
            (Some(images), None) if !beside => Ok(Wanted::Images(images)),
            (Some(_), None) => Err(ApiError::unprocessable(
                "images: takes no other key beside it; `normalize` and its like go with `inputs`",
            )),
            (None, Some(inputs)) => Ok(Wanted::Inputs(Box::new(TeiRequest {
                inputs,
                normalize: self.normalize,
                truncate: self.truncate,
                truncation_direction: self.truncation_direction,
                prompt_name: self.prompt_name,
                dimensions: self.dimensions,
            }))),
            _ => Err(ApiError::unprocessable(
                "expected exactly one of `images` (pictures for the live version) and `inputs` (the protocol of text-embeddings-inference)",
            )),
        }
    }
}

/// The same as a form.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes a form")]
pub(crate) struct EmbedForm {
    /// Picture files: PNG, JPEG, WebP, GIF, BMP or TIFF.
    #[schema(value_type = Vec<String>, format = Binary)]
    image: Vec<Vec<u8>>,
}

/// Their embeddings.
#[derive(Serialize, ToSchema)]
pub(crate) struct EmbedAnswer {
    /// The version that produced them.
    model_version: String,
    /// Their length.
    dim: usize,
    /// Unit vectors in the order of the images.
    embeddings: Vec<Vec<f32>>,
}

/// An answer in the form of the request.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the two answers")]
pub(crate) enum EmbedAnswers {
    /// To `images`.
    Images(EmbedAnswer),
    /// To `inputs`.
    Inputs(Vec<Vec<f32>>),
}

/// Embeds images with the live version, or inputs as text-embeddings-inference does.
#[utoipa::path(
    post,
    path = "/embed",
    tag = "search",
    request_body(content((EmbedRequest = "application/json"), (EmbedForm = "multipart/form-data"))),
    responses(
        (status = 200, description = "The embeddings.", body = EmbedAnswers,
            headers(("x-model-version" = String, description = "The version that produced them."))),
        (status = 409, description = "No certified route into the space of the answer.", body = ErrorBody),
        (status = 502, description = "An upstream cannot be reached, fails, or answers nonsense.", body = ErrorBody),
        (status = 503, description = "No version is live.", body = ErrorBody),
        (status = 504, description = "An upstream did not answer in time.", body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn embed(
    _: MayRead,
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, ApiError> {
    let client_key = ClientKey::of(&service.transport.keys.load(), request.headers());
    let limits = &service.config.limits;
    let formats = [Format::Json, Format::Multipart];
    let (format, received) = Received::read(&service, request, &formats, limits.body_bytes).await?;
    let images = match format {
        Format::Json => {
            let request: EmbedRequest = received.json().await?;
            match request.wanted()? {
                Wanted::Images(images) => images.into_iter().map(EncodedImage::Base64).collect(),
                Wanted::Inputs(request) => {
                    let answer = tei_embed::embed(&service, client_key, *request).await?;
                    return Ok(answer.into_response());
                }
            }
        }
        Format::Multipart => received.form(&["image"], limits.images).await?.images(),
    };
    let snapshot = service.inference.snapshot()?;
    let embeddings = service.inference.embed(&snapshot, images).await?;
    let dim = snapshot.version.dim;
    Ok(Versioned {
        model_version: snapshot.name().to_owned(),
        body: EmbedAnswer {
            model_version: snapshot.name().to_owned(),
            dim,
            embeddings: embeddings.chunks_exact(dim).map(<[f32]>::to_vec).collect(),
        },
    }
    .into_response())
}
