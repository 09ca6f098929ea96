//! `POST /embed`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use perennial_encode::InputType;
use perennial_gallery::bounded_json::some_at_most;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Versioned;
use super::drop_in::{Inputs, InputsSchema};
use super::tei_embed::{self, TeiRequest};
use crate::answering::Answering;
use crate::authorize::MayRead;
use crate::body::{Format, Received};
use crate::config::{Limits, MAX_IMAGES, MAX_INPUTS};
use crate::error::{ApiError, ErrorBody};
use crate::images::EncodedImage;
use crate::inference::Inference;
use crate::openapi::{Guarded, InputTypeSchema, WithBody};
use crate::preparing::ReceivedInput;
use crate::receive::BodyBudget;
use crate::upstream::{ClientKey, TruncationDirection};

/// Images or texts to embed (`images`, `texts`), or inputs as text-embeddings-inference takes them (`inputs`).
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbedRequest {
    /// Picture files (PNG, JPEG, WebP, GIF, BMP or TIFF) as base64, with or without `data:image/...;base64,` in front.
    #[serde(default, deserialize_with = "some_at_most::<MAX_IMAGES, _, _>")]
    #[schema(nullable = false)]
    images: Option<Vec<String>>,
    /// Texts, where the live version embeds texts.
    #[serde(default, deserialize_with = "some_at_most::<MAX_INPUTS, _, _>")]
    #[schema(nullable = false)]
    texts: Option<Vec<String>>,
    /// With `texts`: what they are; documents unless it is given.
    #[schema(value_type = Option<InputTypeSchema>)]
    input_type: Option<InputType>,
    /// Texts or pictures as in `images`, whichever the encoder embeds; where it embeds both, pictures are data URLs. The answer is a bare array of
    /// arrays.
    #[schema(value_type = Option<InputsSchema>)]
    inputs: Option<Inputs>,
    /// With `inputs`: whether embeddings are scaled to unit length. True unless it is false.
    normalize: Option<bool>,
    /// With `inputs`: whether texts that are too long are cut, by an upstream that can. Versions of this service cut them at the end.
    truncate: Option<bool>,
    /// With `inputs`: at which end.
    truncation_direction: Option<TruncationDirection>,
    /// With `inputs`: `query` or `document`, or another name that programs use for one of them.
    prompt_name: Option<String>,
    /// With `inputs`: only the dimension that the space has.
    dimensions: Option<usize>,
}

const ONE_KIND: &str = "expected exactly one of `images` and `texts` (for the live version) and `inputs` (the protocol of text-embeddings-inference)";

/// What a request is for.
enum Wanted {
    Own(Vec<ReceivedInput>),
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
        if self.texts.is_none() && self.input_type.is_some() {
            return Err(ApiError::unprocessable(
                "input_type: goes with `texts`; with `inputs`, `prompt_name` tells queries and documents apart",
            ));
        }
        let pictures = self.images.map(|images| {
            let images = images.into_iter().map(EncodedImage::Base64);
            images.map(ReceivedInput::Picture).collect()
        });
        let input_type = self.input_type.unwrap_or_default();
        let texts = self.texts.map(|texts| {
            let texts = texts.into_iter();
            texts
                .map(|text| ReceivedInput::Text(text, input_type))
                .collect()
        });
        if pictures.is_some() && texts.is_some() {
            return Err(ApiError::unprocessable(ONE_KIND));
        }
        match (pictures.or(texts), self.inputs) {
            (Some(inputs), None) if !beside => Ok(Wanted::Own(inputs)),
            (Some(_), None) => Err(ApiError::unprocessable(
                "images, texts: take no other key beside them but `input_type` with `texts`; `normalize` and its like go with `inputs`",
            )),
            (None, Some(inputs)) => Ok(Wanted::Inputs(Box::new(TeiRequest {
                inputs,
                normalize: self.normalize,
                truncate: self.truncate,
                truncation_direction: self.truncation_direction,
                prompt_name: self.prompt_name,
                dimensions: self.dimensions,
            }))),
            _ => Err(ApiError::unprocessable(ONE_KIND)),
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
    /// Unit vectors in the order of the images or texts.
    embeddings: Vec<Vec<f32>>,
}

/// An answer in the form of the request.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the two answers")]
pub(crate) enum EmbedAnswers {
    /// To `images` and `texts`.
    Own(EmbedAnswer),
    /// To `inputs`.
    Inputs(Vec<Vec<f32>>),
}

/// Embeds images or texts with the live version, or inputs as text-embeddings-inference does.
#[utoipa::path(
    post,
    path = "/embed",
    tag = "search",
    request_body(content((EmbedRequest = "application/json"), (EmbedForm = "multipart/form-data"))),
    responses(
        (status = 200, description = "The embeddings.", body = EmbedAnswers,
            headers(
                ("x-model-version" = String, description = "The version that produced them."),
                ("x-embedding-fallback" = String, description = "As of `/v1/embeddings`, for `inputs`.")
            )),
        (status = 409, description = "No certified route into the space of the answer.", body = ErrorBody),
        (status = 502, description = "An upstream, or the embedding service behind a version, cannot be reached, fails, or answers nonsense.", body = ErrorBody),
        (status = 503, description = "No version is live.", body = ErrorBody),
        (status = 504, description = "An upstream, or the embedding service behind a version, did not answer in time.", body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn embed(
    _: MayRead,
    client_key: ClientKey,
    State(limits): State<Arc<Limits>>,
    State(budget): State<BodyBudget>,
    State(answering): State<Arc<Answering>>,
    State(inference): State<Arc<Inference>>,
    request: Request,
) -> Result<Response, ApiError> {
    let formats = [Format::Json, Format::Multipart];
    let (format, received) = Received::read(&budget, request, &formats, limits.body_bytes).await?;
    let inputs = match format {
        Format::Json => {
            let request: EmbedRequest = received.json().await?;
            match request.wanted()? {
                Wanted::Own(inputs) => inputs,
                Wanted::Inputs(request) => {
                    let answer =
                        tei_embed::embed(&answering, &inference, &limits, client_key, *request)
                            .await?;
                    return Ok(answer.into_response());
                }
            }
        }
        Format::Multipart => {
            let images = received.form(&["image"], limits.images).await?.images();
            images.into_iter().map(ReceivedInput::Picture).collect()
        }
    };
    let snapshot = inference.snapshot()?;
    let embeddings = inference.embed(&snapshot, inputs).await?;
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
