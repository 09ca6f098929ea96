//! A batch on its way into the gallery: images and texts become embeddings, then all of it is stored at once.

use std::sync::Arc;
use std::time::Instant;

use perennial_encode::InputType;
use perennial_gallery::{Item, ItemId, Upserted, bounded_json};
use perennial_upgrade::LoadedModel;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::config::Limits;
use crate::error::ApiError;
use crate::images::EncodedImage;
use crate::inference::Inference;
use crate::openapi::ItemIdSchema;
use crate::preparing::ReceivedInput;
use crate::recent::Recent;
use crate::routes::Versioned;
use crate::storing::Storing;

/// One item: an embedding with the version that produced it, or an image or a text for the live version to embed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemBody {
    #[schema(value_type = ItemIdSchema)]
    pub(super) id: ItemId,
    /// A unit vector.
    pub(super) embedding: Option<Vec<f32>>,
    /// A picture file (PNG, JPEG, WebP, GIF, BMP or TIFF) as base64.
    pub(super) image: Option<String>,
    /// A text, where the live version embeds texts; it does so as a document.
    pub(super) text: Option<String>,
    /// The version that produced `embedding`.
    pub(super) model_version: Option<String>,
    /// The class.
    pub(super) label: Option<u32>,
    /// Anything else, at most 16 KiB as JSON.
    #[serde(default, deserialize_with = "bounded_json::payload")]
    #[schema(value_type = Object)]
    pub(super) payload: Map<String, Value>,
}

/// What was stored.
#[derive(Serialize, ToSchema)]
pub(crate) struct UpsertAnswer {
    /// Items that are new.
    inserted: usize,
    /// Items that took the place of one of the same id.
    replaced: usize,
}

impl From<Upserted> for UpsertAnswer {
    fn from(upserted: Upserted) -> Self {
        Self {
            inserted: upserted.inserted,
            replaced: upserted.replaced,
        }
    }
}

/// Items whose embeddings may still be images or texts.
pub(super) struct Batch {
    items: Vec<Item>,
    /// Images and texts, and the positions of their items.
    inputs: Vec<(usize, ReceivedInput)>,
}

impl Batch {
    /// Takes the items apart.
    ///
    /// **Errors**: 422 for no item, too many, or one without exactly one of image, text and embedding.
    pub(super) fn new(limits: &Limits, bodies: Vec<ItemBody>) -> Result<Self, ApiError> {
        let limit = limits.items;
        if !(1..=limit).contains(&bodies.len()) {
            return Err(ApiError::unprocessable(format!(
                "items: expected 1 to {limit}, got {}",
                bodies.len()
            )));
        }
        let mut batch = Self {
            items: Vec::with_capacity(bodies.len()),
            inputs: Vec::new(),
        };
        for (index, body) in bodies.into_iter().enumerate() {
            let given = [
                (body.image.is_some(), "`image`"),
                (body.text.is_some(), "`text`"),
                (body.embedding.is_some(), "`embedding`"),
            ];
            let given = given.iter().filter(|(given, _)| *given);
            let given: Vec<&str> = given.map(|&(_, name)| name).collect();
            if given.len() > 1 {
                return Err(ApiError::unprocessable(format!(
                    "items[{index}]: has both {}",
                    given.join(" and ")
                )));
            }
            let image = body
                .image
                .map(|image| ReceivedInput::Picture(EncodedImage::Base64(image)));
            let text = body
                .text
                .map(|text| ReceivedInput::Text(text, InputType::Document));
            batch
                .inputs
                .extend(image.or(text).map(|input| (index, input)));
            batch.items.push(Item {
                id: body.id,
                embedding: body.embedding.unwrap_or_default(),
                model_version: body.model_version.unwrap_or_default(),
                label: body.label,
                payload: body.payload,
            });
        }
        Ok(batch)
    }

    /// Gives the only item its image from a form.
    ///
    /// **Errors**: 422 when it has one already, or an embedding.
    pub(super) fn set_file(&mut self, file: EncodedImage) -> Result<(), ApiError> {
        let embedded = self.items.iter().any(|item| !item.embedding.is_empty());
        if embedded || !self.inputs.is_empty() {
            return Err(ApiError::unprocessable(
                "the file comes with another image, text or embedding in `request`",
            ));
        }
        self.inputs.push((0, file.into()));
        Ok(())
    }

    /// Embeds, checks and stores.
    ///
    /// **Errors**: 409 for versions that are not certified with each other, 422 for items that cannot be stored, 503 for a failing disk.
    pub(super) async fn store(
        mut self,
        storing: &Arc<Storing>,
        recent: &Recent,
        force: bool,
    ) -> Result<Versioned<UpsertAnswer>, ApiError> {
        let start = Instant::now();
        let mut embedded_by = String::new();
        if !self.inputs.is_empty() {
            let snapshot = storing.inference.snapshot()?;
            self.embed(&storing.inference, &snapshot).await?;
            embedded_by = snapshot.name().to_owned();
        }
        let count = self.items.len() as u64;
        let upserted = storing.store(self.items, force).await?;
        recent.upserted(count, start.elapsed());
        Ok(Versioned {
            model_version: embedded_by,
            body: upserted.into(),
        })
    }

    async fn embed(
        &mut self,
        inference: &Inference,
        snapshot: &Arc<LoadedModel>,
    ) -> Result<(), ApiError> {
        let inputs = std::mem::take(&mut self.inputs);
        let (positions, inputs): (Vec<usize>, Vec<ReceivedInput>) = inputs.into_iter().unzip();
        for &position in &positions {
            let named = &self.items[position].model_version;
            if !named.is_empty() && named != snapshot.name() {
                return Err(ApiError::conflict(format!(
                    "items[{position}]: images and texts are embedded by the live version {}, not by {named}",
                    snapshot.name()
                )));
            }
        }
        let embeddings = inference.embed(snapshot, inputs).await?;
        for (&position, row) in positions
            .iter()
            .zip(embeddings.chunks_exact(snapshot.version.dim))
        {
            let item = &mut self.items[position];
            item.embedding = row.to_vec();
            item.model_version = snapshot.name().to_owned();
        }
        Ok(())
    }
}
