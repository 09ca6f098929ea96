//! Carrying out what was chosen: one encoder, a bridge behind it, or two encoders at the same time.

use std::sync::Arc;

use perennial_bridge::Index;
use perennial_core::normalize_rows;
use perennial_upgrade::LoadedModel;
use serde_json::json;

use super::choice::{Choice, Encoder, Way};
use crate::error::{ApiError, Code};
use crate::images::EncodedImage;
use crate::service::{Service, blocking};
use crate::upstream::{Asked, Embedded};

impl Encoder {
    async fn embed(
        &self,
        service: &Service,
        inputs: &[String],
        asked: &Asked,
    ) -> Result<Embedded, ApiError> {
        match self {
            Self::Own(model) => {
                let vectors = service.inference.embed(model, images(inputs)).await;
                let vectors = vectors.map_err(|error| no_picture(model, error))?;
                Ok(Embedded { vectors, tokens: 0 })
            }
            Self::Upstream(upstream) => upstream.embed(inputs, asked).await,
        }
    }
}

/// The refusal of an input that is no picture says what is expected.
fn no_picture(model: &LoadedModel, error: ApiError) -> ApiError {
    if error.code != Code::Unprocessable {
        return error;
    }
    let message = format!(
        "{} embeds pictures only: send each input as `data:image/...;base64,...` or as the base64 of a picture file; {}",
        model.name(),
        error.message
    );
    ApiError { message, ..error }.with_details(json!({ "param": "input" }))
}

impl Choice {
    /// Embeds inputs. Two encoders work at the same time.
    ///
    /// **Shapes**: the result's vectors are `[n, dim]`; those of bridged and dual queries are of unit length.
    ///
    /// # Errors
    /// Those of the encoders; 422 for an input whose embedding has no direction in the space of the answer.
    pub(crate) async fn embed(
        &self,
        service: &Service,
        inputs: &[String],
        asked: Asked,
    ) -> Result<Embedded, ApiError> {
        let asked = Asked {
            input_type: Some(self.input_type),
            ..asked
        };
        let mut embedded = match &self.way {
            Way::Alone(encoder) => encoder.embed(service, inputs, &asked).await?,
            Way::Bridged { new, bridge } => {
                let new = new.embed(service, inputs, &asked).await?;
                let bridge = Arc::clone(bridge);
                let tokens = new.tokens;
                let vectors = blocking(move || {
                    let mut vectors = Vec::new();
                    bridge
                        .apply(&new.vectors, &mut vectors)
                        .map_err(no_direction)?;
                    Ok(vectors)
                });
                Embedded {
                    vectors: vectors.await?,
                    tokens,
                }
            }
            Way::Dual {
                old,
                new,
                bridge,
                weight,
            } => {
                let (old, new) = both(service, old, new, inputs, &asked).await?;
                let (bridge, weight) = (Arc::clone(bridge), *weight as f32);
                let tokens = old.tokens.saturating_add(new.tokens);
                let vectors = blocking(move || {
                    let mut vectors = Vec::new();
                    bridge
                        .dual(&old.vectors, &new.vectors, weight, Index::Raw, &mut vectors)
                        .map_err(no_direction)?;
                    Ok(vectors)
                });
                Embedded {
                    vectors: vectors.await?,
                    tokens,
                }
            }
        };
        if asked.normalize == Some(true) {
            normalize_rows(&mut embedded.vectors, self.dim)
                .map_err(|error| ApiError::unprocessable(error.to_string()))?;
        }
        Ok(embedded)
    }
}

/// The embeddings of two encoders that work at the same time. Pictures are decoded once where both want the same pixels.
async fn both(
    service: &Service,
    old: &Encoder,
    new: &Encoder,
    inputs: &[String],
    asked: &Asked,
) -> Result<(Embedded, Embedded), ApiError> {
    let (Encoder::Own(old), Encoder::Own(new)) = (old, new) else {
        return tokio::try_join!(
            old.embed(service, inputs, asked),
            new.embed(service, inputs, asked)
        );
    };
    let encoders = [Arc::clone(old), Arc::clone(new)];
    let embedded = service.inference.embed_by_all(&encoders, images(inputs));
    let embedded = embedded.await.map_err(|error| no_picture(new, error))?;
    let mut embedded = embedded
        .into_iter()
        .map(|vectors| Embedded { vectors, tokens: 0 });
    match (embedded.next(), embedded.next()) {
        (Some(old), Some(new)) => Ok((old, new)),
        _ => Err(ApiError::internal("fewer embeddings than encoders")),
    }
}

fn images(inputs: &[String]) -> Vec<EncodedImage> {
    inputs.iter().cloned().map(EncodedImage::Base64).collect()
}

fn no_direction(error: perennial_bridge::BridgeError) -> ApiError {
    ApiError::unprocessable(format!(
        "an input cannot be embedded by this route: {error}"
    ))
}
