//! Carrying out what was chosen: one encoder, a bridge behind it, or two encoders at the same time.

use std::sync::Arc;

use perennial_bridge::{Bridge, Index};
use perennial_core::normalize_rows;
use perennial_upgrade::LoadedModel;
use serde_json::json;

use crate::error::{ApiError, Code};
use crate::images::EncodedImage;
use crate::input_type::InputType;
use crate::service::{Service, blocking};
use crate::upstream::{Asked, Embedded, Upstream};

/// One encoder.
#[derive(Clone)]
pub(crate) enum Encoder {
    /// A model version in this process. It takes pictures.
    Own(Arc<LoadedModel>),
    /// Another service.
    Upstream(Arc<Upstream>),
}

impl Encoder {
    /// The name of its space.
    pub(super) fn space(&self) -> &str {
        match self {
            Self::Own(model) => model.name(),
            Self::Upstream(upstream) => upstream.spec().name.as_str(),
        }
    }

    /// The length of its embeddings.
    pub(super) fn dim(&self) -> usize {
        match self {
            Self::Own(model) => model.version.dim,
            Self::Upstream(upstream) => upstream.spec().dim,
        }
    }

    /// The version's name, where it is one.
    fn version(&self) -> Option<&str> {
        match self {
            Self::Own(model) => Some(model.name()),
            Self::Upstream(_) => None,
        }
    }

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

/// Who answers a request, and how.
pub(crate) struct Choice {
    /// The space of the answer.
    pub(crate) space: String,
    /// The length of its vectors.
    pub(crate) dim: usize,
    /// `own`, `bridged`, `dual`, or `old` for queries without a certified route.
    pub(crate) route: &'static str,
    input_type: InputType,
    way: Way,
}

enum Way {
    Alone(Encoder),
    Bridged {
        new: Encoder,
        bridge: Arc<Bridge>,
    },
    Dual {
        old: Encoder,
        new: Encoder,
        bridge: Arc<Bridge>,
        weight: f64,
    },
}

impl Choice {
    /// An encoder in its own space.
    pub(super) fn alone(encoder: Encoder, input_type: InputType) -> Self {
        Self {
            space: encoder.space().to_owned(),
            dim: encoder.dim(),
            route: "own",
            input_type,
            way: Way::Alone(encoder),
        }
    }

    /// Queries that the old encoder answers because no route is certified.
    pub(super) fn uncertified(old: Encoder) -> Self {
        Self {
            route: "old",
            ..Self::alone(old, InputType::Query)
        }
    }

    /// Queries of an encoder that was trained to be comparable with another space.
    pub(super) fn own(space: &str, new: Encoder) -> Self {
        Self {
            space: space.to_owned(),
            ..Self::alone(new, InputType::Query)
        }
    }

    /// Queries through a bridge.
    pub(super) fn bridged(space: &str, new: Encoder, bridge: Arc<Bridge>) -> Self {
        Self {
            space: space.to_owned(),
            dim: bridge.to().dim,
            route: "bridged",
            input_type: InputType::Query,
            way: Way::Bridged { new, bridge },
        }
    }

    /// Dual queries.
    pub(super) fn dual(
        space: &str,
        old: Encoder,
        new: Encoder,
        bridge: Arc<Bridge>,
        weight: f64,
    ) -> Self {
        Self {
            space: space.to_owned(),
            dim: bridge.to().dim,
            route: "dual",
            input_type: InputType::Query,
            way: Way::Dual {
                old,
                new,
                bridge,
                weight,
            },
        }
    }

    /// The model version that took part, the new one of two.
    pub(crate) fn model_version(&self) -> Option<&str> {
        match &self.way {
            Way::Alone(encoder) | Way::Bridged { new: encoder, .. } => encoder.version(),
            Way::Dual { old, new, .. } => new.version().or(old.version()),
        }
    }

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
