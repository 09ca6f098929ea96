//! `perennial demo --keep` and `--serve`: the demo's simplex gallery on disk, and behind a running service.

use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use perennial_core::{Embeddings, ModelVersion, Registry, Role};
use perennial_data::{ImageSet, encode_png};
use perennial_eval::{Compatibility, Decision};
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
    /// Stores every image once in `folder/gallery`, embedded by versions from before the replacement, the last of which is live:
    /// the replacement is there to be promoted.
    pub fn lay_out(&self, folder: &Path, registry: &Registry) -> anyhow::Result<Stocked> {
        let replaced = self
            .versions
            .iter()
            .position(|version| version.role == Role::Replacement)
            .context("the demo replaced no version")?;
        let stored = stored_versions(&self.compatibility, replaced);
        let last = stored
            .last()
            .copied()
            .context("the demo replaced its first version")?;
        let gallery = EmbeddedGallery::open(folder.join("gallery"), GalleryConfig::default())?;
        fill(&gallery, self, &stored)?;
        let live = &self.versions[last].name;
        registry.set_alias(LIVE_ALIAS, live)?;
        if let Some(before) = last.checked_sub(1) {
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

/// The versions before the replacement, without those whose items a later one up to the replacement is measured to find worse.
/// The last one is always among them.
fn stored_versions(report: &Compatibility, replaced: usize) -> Vec<usize> {
    let found_by_all = |old: usize| {
        (old + 1..=replaced).all(|new| report.decision(new, old) != Decision::Incompatible)
    };
    (0..replaced)
        .filter(|&old| old + 1 == replaced || found_by_all(old))
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
