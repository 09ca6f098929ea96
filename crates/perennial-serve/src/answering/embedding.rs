//! Carrying out what was chosen: one encoder, a bridge behind it, or two encoders at the same time.

use std::sync::Arc;
use std::time::Instant;

use perennial_bridge::{Bridge, Index};
use perennial_core::{Modality, normalize_rows};
use perennial_encode::InputType;
use perennial_encode::endpoint::Embedded;
use perennial_upgrade::LoadedModel;
use serde_json::json;

use super::absence::{Absence, reason};
use super::choice::{Choice, Encoder, Way};
use super::kinds::kind_of;
use crate::blocking::blocking;
use crate::error::{ApiError, Code};
use crate::images::EncodedImage;
use crate::inference::{Inference, tokens};
use crate::preparing::ReceivedInput;
use crate::upstream::Asked;

impl Encoder {
    async fn embed(
        &self,
        inference: &Arc<Inference>,
        inputs: &[String],
        asked: &Asked,
    ) -> Result<Embedded, ApiError> {
        match self {
            Self::Own(model) => {
                let inputs = received(model.version.accepts(), inputs, asked.input_type);
                let prepared = inference.preparer.prepare(model, inputs).await;
                let prepared = prepared.map_err(|error| not_accepted(model, error))?;
                let tokens = tokens(&prepared);
                let vectors = inference.batcher.encode(model, &prepared).await?;
                Ok(Embedded { vectors, tokens })
            }
            Self::Upstream(upstream) => upstream.embed(inputs, asked).await,
        }
    }
}

/// The refusal of an input that is no picture says what is expected, where only pictures are embedded.
fn not_accepted(model: &LoadedModel, error: ApiError) -> ApiError {
    if error.code != Code::Unprocessable {
        return error;
    }
    if model.version.accepts() != [Modality::Image] {
        return error.with_details(json!({ "param": "input" }));
    }
    let message = format!(
        "{} embeds pictures only: send each input as `data:image/...;base64,...` or as the base64 of a picture file; {}",
        model.name(),
        error.message
    );
    ApiError { message, ..error }.with_details(json!({ "param": "input" }))
}

impl Choice {
    /// Embeds inputs. Two encoders work at the same time. Where the old one of them fails, and a route without it is certified, the choice becomes that
    /// one, and says why.
    ///
    /// **Shapes**: the result's vectors are `[n, dim]`; those of bridged and dual queries are of unit length.
    ///
    /// # Errors
    /// Those of the encoders; 422 for an input whose embedding has no direction in the space of the answer.
    pub(crate) async fn embed(
        &mut self,
        inference: &Arc<Inference>,
        inputs: &[String],
        asked: Asked,
    ) -> Result<Embedded, ApiError> {
        let asked = Asked {
            input_type: Some(self.input_type),
            ..asked
        };
        let mut embedded = match &self.way {
            Way::Alone(encoder) => encoder.embed(inference, inputs, &asked).await?,
            Way::Old(encoder, absence) => {
                let embedded = encoder.embed(inference, inputs, &asked).await;
                if let Err(error) = &embedded {
                    note(absence, error);
                } else {
                    absence.answered();
                }
                embedded?
            }
            Way::Bridged { new, bridge } => {
                let new = new.embed(inference, inputs, &asked).await?;
                bridged(bridge, new).await?
            }
            Way::Dual {
                old,
                new,
                bridge,
                weight,
                absence,
                without_old,
            } => {
                let pair = Pair {
                    old,
                    new,
                    absence,
                    may_be_without: without_old.is_some(),
                };
                match (pair.embed(inference, inputs, &asked).await?, without_old) {
                    (Taken::Both(old, new), _) => dual(bridge, *weight as f32, old, new).await?,
                    (Taken::New(new, reason), Some(bridge)) => {
                        self.route = "bridged";
                        self.fallback = Some(reason);
                        bridged(bridge, new).await?
                    }
                    (Taken::New(..), None) => {
                        return Err(ApiError::internal("a route without the old encoder"));
                    }
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

async fn bridged(bridge: &Arc<Bridge>, new: Embedded) -> Result<Embedded, ApiError> {
    let bridge = Arc::clone(bridge);
    let tokens = new.tokens;
    let vectors = blocking(move || {
        let mut vectors = Vec::new();
        bridge
            .apply(&new.vectors, &mut vectors)
            .map_err(no_direction)?;
        Ok(vectors)
    });
    let vectors = vectors.await?;
    Ok(Embedded { vectors, tokens })
}

async fn dual(
    bridge: &Arc<Bridge>,
    weight: f32,
    old: Embedded,
    new: Embedded,
) -> Result<Embedded, ApiError> {
    let bridge = Arc::clone(bridge);
    let tokens = old.tokens.saturating_add(new.tokens);
    let vectors = blocking(move || {
        let mut vectors = Vec::new();
        bridge
            .dual(&old.vectors, &new.vectors, weight, Index::Raw, &mut vectors)
            .map_err(no_direction)?;
        Ok(vectors)
    });
    let vectors = vectors.await?;
    Ok(Embedded { vectors, tokens })
}

/// A refusal of what was asked is an answer as well; an error of this service says nothing.
fn note(absence: &Absence, error: &ApiError) {
    if let Some(reason) = reason(error.code) {
        absence.failed(reason, &error.message, Instant::now());
    }
}

/// The two encoders of a dual query.
struct Pair<'a> {
    old: &'a Encoder,
    new: &'a Encoder,
    absence: &'a Absence,
    /// Whether another route leads without the old one.
    may_be_without: bool,
}

/// What they gave.
enum Taken {
    Both(Embedded, Embedded),
    /// The new one alone, and why.
    New(Embedded, &'static str),
}

impl Pair<'_> {
    async fn embed(
        &self,
        inference: &Arc<Inference>,
        inputs: &[String],
        asked: &Asked,
    ) -> Result<Taken, ApiError> {
        let Self { old, new, .. } = self;
        if self.may_be_without
            && let Some(reason) = self.absence.now(Instant::now())
        {
            let new = new.embed(inference, inputs, asked).await?;
            return Ok(self.without_old(new, reason));
        }
        // A version in this process fails with the new one, which is embedded anew then; another service fails alone.
        let (failed, at_hand) = match (old, new) {
            (Encoder::Own(model), Encoder::Own(new)) => {
                match both(inference, model, new, inputs, asked).await {
                    Ok((old, new)) => return Ok(self.done(old, new)),
                    Err(error) if old.is_behind(&error) => (error, None),
                    Err(error) => return Err(error),
                }
            }
            _ => {
                let old = async { Ok(old.embed(inference, inputs, asked).await) };
                match tokio::try_join!(old, new.embed(inference, inputs, asked))? {
                    (Ok(old), new) => return Ok(self.done(old, new)),
                    (Err(error), new) => (error, Some(new)),
                }
            }
        };
        note(self.absence, &failed);
        let (true, Some(reason)) = (self.may_be_without, reason(failed.code)) else {
            return Err(failed);
        };
        let new = match at_hand {
            Some(new) => new,
            None => new.embed(inference, inputs, asked).await?,
        };
        Ok(self.without_old(new, reason))
    }

    fn without_old(&self, new: Embedded, reason: &'static str) -> Taken {
        self.absence.count(reason);
        Taken::New(new, reason)
    }

    fn done(&self, old: Embedded, new: Embedded) -> Taken {
        self.absence.answered();
        Taken::Both(old, new)
    }
}

/// The embeddings of two encoders in this process that work at the same time. Inputs are prepared once where both want the same values.
async fn both(
    inference: &Arc<Inference>,
    old: &Arc<LoadedModel>,
    new: &Arc<LoadedModel>,
    inputs: &[String],
    asked: &Asked,
) -> Result<(Embedded, Embedded), ApiError> {
    // What both embed: which of them is asked decides nothing about an input.
    let mut accepts = new.version.accepts().to_vec();
    accepts.retain(|kind| old.version.accepts().contains(kind));
    let received = received(&accepts, inputs, asked.input_type);
    let encoders = [Arc::clone(old), Arc::clone(new)];
    let embedded = inference.embed_by_all(&encoders, received);
    let embedded = embedded.await.map_err(|error| not_accepted(new, error))?;
    let mut embedded = embedded
        .into_iter()
        .map(|(vectors, tokens)| Embedded { vectors, tokens });
    match (embedded.next(), embedded.next()) {
        (Some(old), Some(new)) => Ok((old, new)),
        _ => Err(ApiError::internal("fewer embeddings than encoders")),
    }
}

/// Texts as what is embedded: pictures, texts, or where both are, whatever each of them is.
fn received(
    accepts: &[Modality],
    inputs: &[String],
    input_type: Option<InputType>,
) -> Vec<ReceivedInput> {
    let is_picture = |input: &str| match accepts {
        [one] => *one == Modality::Image,
        _ => kind_of(input) == Modality::Image,
    };
    let inputs = inputs.iter().map(|input| match is_picture(input) {
        true => ReceivedInput::Picture(EncodedImage::Base64(input.clone())),
        false => ReceivedInput::Text(input.clone(), input_type.unwrap_or_default()),
    });
    inputs.collect()
}

fn no_direction(error: perennial_bridge::BridgeError) -> ApiError {
    ApiError::unprocessable(format!(
        "an input cannot be embedded by this route: {error}"
    ))
}
