//! `perennial demo --keep` and `--serve`: the demo's simplex gallery on disk, and behind a running service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use perennial_core::{Embeddings, ModelVersion, Registry, Role};
use perennial_data::ImageSet;
use perennial_encode::encode_png;
use perennial_gallery::{EmbeddedGallery, GalleryConfig, Item, ItemId, VectorStore};
use perennial_serve::ServeConfig;
use perennial_upgrade::{LIVE_ALIAS, PREVIOUS_ALIAS, Policy, RegistryRecords, store_space};
use serde_json::{Map, json};

use crate::commands::serve::{KeySource, Served, serve};
use crate::model_loading::VersionLoader;
use crate::terminal::Terminal;

/// What the service needs of the simplex product.
pub struct Stock {
    pub versions: Vec<ModelVersion>,
    /// Of the gallery images, one entry for each version.
    pub embeddings: Vec<Embeddings>,
    pub images: ImageSet,
}

/// The gallery on disk and its content in numbers.
pub struct Stocked {
    folder: PathBuf,
    gallery: EmbeddedGallery,
    items: usize,
    live: String,
}

impl Stock {
    /// Stores every image in `folder/gallery`, embedded by the last version before the replacement, which is live: the
    /// replacement is there to be promoted.
    pub fn lay_out(&self, folder: &Path, registry: &Registry) -> anyhow::Result<Stocked> {
        let replaced = self
            .versions
            .iter()
            .position(|version| version.role == Role::Replacement)
            .context("the demo replaced no version")?;
        let last = replaced
            .checked_sub(1)
            .context("the demo replaced its first version")?;
        let gallery = EmbeddedGallery::open(folder.join("gallery"), GalleryConfig::default())?;
        let gallery_folder = folder.join("gallery");
        Policy::write_default(&gallery_folder)?;
        fill(&gallery, self, last)?;
        let live = &self.versions[last].name;
        registry.set_alias(LIVE_ALIAS, live)?;
        if let Some(before) = last.checked_sub(1) {
            registry.set_alias(PREVIOUS_ALIAS, &self.versions[before].name)?;
        }
        Ok(Stocked {
            folder: folder.join("gallery"),
            gallery,
            items: self.images.len(),
            live: live.clone(),
        })
    }
}

/// Serves until Ctrl-C.
pub fn run(
    stocked: Stocked,
    registry: Registry,
    config: ServeConfig,
    loader: VersionLoader,
    terminal: &Terminal,
) -> anyhow::Result<()> {
    terminal.say(format_args!(
        "serving {} items, stored and searched by {}; Ctrl-C ends it",
        stocked.items, stocked.live
    ));
    let records = RegistryRecords::for_gallery(registry.clone(), &stocked.folder)?;
    let served = Served {
        registry,
        folder: stocked.folder,
        gallery: Arc::new(stocked.gallery),
        loader,
        records,
    };
    serve(config, KeySource::Open, || Ok(served), terminal)
}

/// Stores the images with their embeddings by one version.
fn fill(gallery: &EmbeddedGallery, stock: &Stock, version: usize) -> anyhow::Result<()> {
    if let Some(space) = store_space(&stock.versions[version]) {
        gallery.create_space(&space)?;
    }
    let embeddings = &stock.embeddings[version];
    let images = &stock.images;
    let items = (0..images.len()).map(|image| {
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
