//! `POST /v1/embeddings`, as OpenAI has it.

use std::sync::Arc;

use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use perennial_encode::InputType;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::drop_in::{Inputs, InputsSchema, Spaced, Vector};
use crate::answering::{Answering, Kinds};
use crate::authorize::MayRead;
use crate::blocking::blocking;
use crate::body::JsonBody;
use crate::config::Limits;
use crate::error::{ApiError, ErrorBody};
use crate::inference::Inference;
use crate::openapi::{Guarded, InputTypeSchema, WithBody};
use crate::upstream::{Asked, ClientKey};

/// Inputs to embed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingsRequest {
    #[schema(value_type = InputsSchema)]
    input: Inputs,
    /// A model that `GET /v1/models` lists, optionally with `-query`, `-document` or `-passage` behind its name.
    model: String,
    #[serde(default)]
    encoding_format: EncodingFormat,
    /// Only the dimension that the space has.
    dimensions: Option<usize>,
    /// Ignored.
    #[serde(rename = "user")]
    _user: Option<String>,
    /// Whether the inputs are queries or documents.
    #[schema(value_type = Option<InputTypeSchema>)]
    input_type: Option<InputType>,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum EncodingFormat {
    /// Arrays of numbers.
    #[default]
    Float,
    /// Base64 of 32-bit floats, the lowest byte first.
    Base64,
}

/// Their embeddings.
#[derive(Serialize, ToSchema)]
pub(crate) struct EmbeddingsAnswer {
    /// `list`.
    object: &'static str,
    /// In the order of the inputs.
    data: Vec<EmbeddingBody>,
    /// The space of the vectors.
    model: String,
    usage: UsageBody,
}

/// One embedding.
#[derive(Serialize, ToSchema)]
struct EmbeddingBody {
    /// `embedding`.
    object: &'static str,
    /// The place of its input.
    index: usize,
    embedding: Vector,
}

/// What was embedded.
#[derive(Serialize, ToSchema)]
struct UsageBody {
    /// Tokens as the upstreams count them, of both where two were asked; 0 where nobody counts.
    prompt_tokens: u64,
    /// The same.
    total_tokens: u64,
}

/// Embeds texts, or pictures as data URLs, in the space of a model; with `answer_in`, always in that space.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "embeddings",
    request_body = EmbeddingsRequest,
    responses(
        (status = 200, description = "The embeddings.", body = EmbeddingsAnswer,
            headers(
                ("x-embedding-space" = String, description = "The space of the vectors."),
                ("x-embedding-route" = String, description = "`own`, `bridged`, `dual`, or `old`."),
                ("x-embedding-fallback" = String, description = "Only where the best certified route was not taken, since the old encoder fails: `upstream_failed` or `upstream_timeout`.")
            )),
        (status = 404, description = "No such model.", body = ErrorBody),
        (status = 409, description = "No certified route into the space of the answer.", body = ErrorBody),
        (status = 502, description = "An upstream, or the embedding service behind a version, cannot be reached, fails, or answers nonsense.", body = ErrorBody),
        (status = 503, description = "No version is live.", body = ErrorBody),
        (status = 504, description = "An upstream, or the embedding service behind a version, did not answer in time.", body = ErrorBody),
        Guarded,
        WithBody
    ),
    security(("key" = []))
)]
pub(crate) async fn embeddings(
    _: MayRead,
    client_key: ClientKey,
    State(limits): State<Arc<Limits>>,
    State(answering): State<Arc<Answering>>,
    State(inference): State<Arc<Inference>>,
    JsonBody(request): JsonBody<EmbeddingsRequest>,
) -> Result<Spaced<EmbeddingsAnswer>, ApiError> {
    let EmbeddingsRequest {
        input,
        model,
        encoding_format,
        dimensions,
        _user,
        input_type,
    } = request;
    let inputs = input.within(&limits)?;
    let mut choice = {
        let kinds = Kinds::of(&inputs);
        blocking(move || answering.choose(Some(&model), input_type, kinds)).await?
    };
    if dimensions.is_some_and(|dimensions| dimensions != choice.dim) {
        return Err(ApiError::unprocessable(format!(
            "dimensions: embeddings in space {} have {} dimensions and cannot be shortened",
            choice.space, choice.dim
        ))
        .with_details(json!({ "param": "dimensions" })));
    }
    let asked = Asked {
        client_key,
        ..Asked::default()
    };
    let embedded = choice.embed(&inference, &inputs, asked).await?;
    let rows = embedded.vectors.chunks_exact(choice.dim);
    let data = rows.enumerate().map(|(index, row)| EmbeddingBody {
        object: "embedding",
        index,
        embedding: match encoding_format {
            EncodingFormat::Float => Vector::Float(row.to_vec()),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
                Vector::Base64(STANDARD.encode(bytes))
            }
        },
    });
    let answer = EmbeddingsAnswer {
        object: "list",
        data: data.collect(),
        model: choice.space.clone(),
        usage: UsageBody {
            prompt_tokens: embedded.tokens,
            total_tokens: embedded.tokens,
        },
    };
    Ok(Spaced::new(&choice, answer))
}
