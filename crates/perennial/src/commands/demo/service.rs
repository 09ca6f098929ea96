//! `perennial demo --keep` and `--serve`: the demo's simplex gallery on disk, and behind a running service.

use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use perennial_core::{Embeddings, ModelVersion, Registry, Role};
use perennial_data::{ImageSet, encode_png};
use perennial_eval::Compatibility;
use perennial_gallery::{
    EmbeddedGallery, GalleryConfig, Item, ItemId, SimplexIdentity, VectorStore,
};
use perennial_serve::{LIVE_ALIAS, PREVIOUS_ALIAS, RegistryRecords, ServeConfig};
use perennial_train::Device;
use serde_json::{Map, json};

use crate::commands::serve::serve;
use crate::model_loading::TrainedLoader;
use crate::terminal::Terminal;

/// The least margin that certifies a pair in the demo. Models trained for seconds may lose a little across a replacement;
/// ordinary ones lose two thirds of their accuracy and more.
pub const MIN_MARGIN: f64 = -0.1;

/// What the service needs of the simplex product.
pub struct Stock {
    pub versions: Vec<ModelVersion>,
    /// Of the gallery images, one entry for each version.
    pub embeddings: Vec<Embeddings>,
    pub images: ImageSet,
    pub compatibility: Compatibility,
}

/// The gallery on disk and its content in numbers.
pub struct Stocked {
    gallery: EmbeddedGallery,
    items: usize,
    versions: usize,
    live: String,
}

impl Stock {
    /// Stores every image once in `folder/gallery`, half of them embedded by the last version before the replacement where the
    /// later ones may search those. The replacement is live, so that its update can be promoted next.
    pub fn lay_out(&self, folder: &Path, registry: &Registry) -> anyhow::Result<Stocked> {
        let replaced = self
            .versions
            .iter()
            .position(|version| version.role == Role::Replacement)
            .context("the demo replaced no version")?;
        let stored = stored_versions(&self.compatibility, replaced);
        let gallery = EmbeddedGallery::open(folder.join("gallery"), GalleryConfig::default())?;
        fill(&gallery, self, &stored)?;
        let live = &self.versions[replaced].name;
        registry.set_alias(LIVE_ALIAS, live)?;
        if let [before, _] = stored[..] {
            registry.set_alias(PREVIOUS_ALIAS, &self.versions[before].name)?;
        }
        Ok(Stocked {
            gallery,
            items: self.images.len(),
            versions: stored.len(),
            live: live.clone(),
        })
    }
}

/// Serves until Ctrl-C.
pub fn run(
    stocked: Stocked,
    registry: Registry,
    config: ServeConfig,
    device: Device,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    terminal.say(format_args!(
        "serving {} items of {} model versions, searched by {}; Ctrl-C ends it",
        stocked.items, stocked.versions, stocked.live
    ));
    let records = RegistryRecords::new(registry.clone()).with_min_margin(MIN_MARGIN);
    serve(
        config,
        registry,
        stocked.gallery,
        TrainedLoader(device),
        records,
        terminal,
    )
}

/// The last version before the replacement, where no later one loses much on what it stored, and the replacement.
fn stored_versions(report: &Compatibility, replaced: usize) -> Vec<usize> {
    let rows = report.matrix().rows();
    let before = replaced.checked_sub(1);
    before
        .filter(|&old| {
            rows[replaced..]
                .iter()
                .all(|row| row[old] - rows[old][old] >= MIN_MARGIN)
        })
        .into_iter()
        .chain([replaced])
        .collect()
}

/// Versions take turns over the images, so that every class holds items of each.
fn fill(gallery: &EmbeddedGallery, stock: &Stock, kept: &[usize]) -> anyhow::Result<()> {
    let first = kept.first().context("the demo trained no version")?;
    if let Some(vertices) = stock.versions[*first].classifier.vertices {
        gallery.set_identity(SimplexIdentity { vertices })?;
    }
    let images = &stock.images;
    let items = (0..images.len()).map(|image| {
        let embeddings = &stock.embeddings[kept[image % kept.len()]];
        let mut payload = Map::new();
        let png = BASE64_STANDARD.encode(encode_png(images.image(image), images.shape())?);
        payload.insert(
            "thumbnail".to_owned(),
            json!(format!("data:image/png;base64,{png}")),
        );
        Ok(Item {
            id: ItemId::from(image as u64),
            embedding: embeddings.row(image).to_vec(),
            model_version: embeddings.model_version().to_owned(),
            label: Some(images.label(image)),
            payload,
        })
    });
    gallery.upsert(items.collect::<anyhow::Result<_>>()?)?;
    Ok(())
}
