//! `POST /embed`.

use std::sync::Arc;

use axum::extract::{Request, State};
use perennial_gallery::bounded_json::at_most;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Versioned;
use crate::body::{Format, Received};
use crate::config::MAX_IMAGES;
use crate::error::{ApiError, ErrorBody};
use crate::images::EncodedImage;
use crate::keys::MayRead;
use crate::openapi::{Guarded, WithBody};
use crate::service::Service;

/// Images to embed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbedRequest {
    /// Picture files (PNG, JPEG, WebP, GIF, BMP or TIFF) as base64, with or without `data:image/...;base64,` in front.
    #[serde(deserialize_with = "at_most::<MAX_IMAGES, _, _>")]
    images: Vec<String>,
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

/// Embeds images with the live version.
#[utoipa::path(
    post,
    path = "/embed",
    tag = "search",
    request_body(content((EmbedRequest = "application/json"), (EmbedForm = "multipart/form-data"))),
    responses(
        (status = 200, description = "The embeddings.", body = EmbedAnswer,
            headers(("x-model-version" = String, description = "The version that produced them."))),
        (status = 503, description = "No version is live.", body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn embed(
    _: MayRead,
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Versioned<EmbedAnswer>, ApiError> {
    let limits = &service.config.limits;
    let formats = [Format::Json, Format::Multipart];
    let (format, received) = Received::read(&service, request, &formats, limits.body_bytes).await?;
    let images = match format {
        Format::Json => {
            let request: EmbedRequest = received.json().await?;
            request
                .images
                .into_iter()
                .map(EncodedImage::Base64)
                .collect()
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
    })
}
