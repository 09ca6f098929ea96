//! `POST /embed` with `inputs`, as text-embeddings-inference has it.

use std::sync::Arc;

use super::drop_in::{Inputs, Spaced};
use crate::answering::{Answering, Kinds};
use crate::blocking::blocking;
use crate::config::Limits;
use crate::error::ApiError;
use crate::inference::Inference;
use crate::input_type::of_prompt;
use crate::upstream::{Asked, ClientKey, TruncationDirection};

/// A request with `inputs`.
pub(super) struct TeiRequest {
    pub(super) inputs: Inputs,
    pub(super) normalize: Option<bool>,
    pub(super) truncate: Option<bool>,
    pub(super) truncation_direction: Option<TruncationDirection>,
    pub(super) prompt_name: Option<String>,
    pub(super) dimensions: Option<usize>,
}

/// Embeds with the default encoder, or in the one space of all answers.
pub(super) async fn embed(
    answering: &Arc<Answering>,
    inference: &Arc<Inference>,
    limits: &Limits,
    client_key: ClientKey,
    request: TeiRequest,
) -> Result<Spaced<Vec<Vec<f32>>>, ApiError> {
    let inputs = request.inputs.within(limits)?;
    let input_type = match request.prompt_name.as_deref() {
        None => None,
        Some(name) => Some(of_prompt(name).ok_or_else(|| {
            ApiError::unprocessable(
                "prompt_name: only `query` (or `search_query`) and `document` (or `search_document`, `passage`) are known; they tell queries and documents apart",
            )
        })?),
    };
    let mut choice = {
        let (answering, kinds) = (Arc::clone(answering), Kinds::of(&inputs));
        blocking(move || answering.choose(None, input_type, kinds)).await?
    };
    if request
        .dimensions
        .is_some_and(|wanted| wanted != choice.dim)
    {
        return Err(ApiError::unprocessable(format!(
            "dimensions: embeddings in space {} have {} dimensions and cannot be shortened",
            choice.space, choice.dim
        )));
    }
    let asked = Asked {
        // What such a service does unless it is told otherwise.
        normalize: Some(request.normalize.unwrap_or(true)),
        truncate: request.truncate,
        truncation_direction: request.truncation_direction,
        client_key,
        ..Asked::default()
    };
    let embedded = choice.embed(inference, &inputs, asked).await?;
    let rows = embedded.vectors.chunks_exact(choice.dim);
    let rows = rows.map(<[f32]>::to_vec).collect();
    Ok(Spaced::new(&choice, rows))
}
