//! `perennial demo --keep` and `--serve`: the demo's simplex gallery on disk, and behind a running service.

use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use perennial_core::{Embeddings, ModelVersion, Registry, Role};
use perennial_data::{ImageSet, encode_png};
use perennial_eval::Compatibility;
use perennial_gallery::{
    EmbeddedGallery, GalleryConfig, Item, ItemId, SimplexIdentity, VectorStore,
};
use perennial_serve::ServeConfig;
use perennial_train::Device;
use perennial_upgrade::{LIVE_ALIAS, PREVIOUS_ALIAS, Policy, RegistryRecords};
use serde_json::{Map, json};

use crate::commands::serve::{KeySource, Served, serve};
use crate::model_loading::TrainedLoader;
use crate::terminal::Terminal;

/// The margin that certifies a pair in the demo: models trained for seconds lose a little across a replacement, where the
/// ordinary ones lose everything.
const MIN_MARGIN: f64 = -0.1;

/// What the service needs of the product whose gallery survived.
pub struct Stock {
    pub versions: Vec<ModelVersion>,
    /// Of the gallery images, one entry for each version.
    pub embeddings: Vec<Embeddings>,
    pub images: ImageSet,
    pub compatibility: Compatibility,
}

/// The gallery on disk, and what stands in it.
pub struct Stocked {
    folder: PathBuf,
    gallery: EmbeddedGallery,
    items: usize,
    versions: usize,
    live: String,
}

impl Stock {
    /// Stores every image once in `folder/gallery`, each embedded by one of the versions that may meet, and makes the newest
    /// of them live, so that `perennial serve` finds everything in place.
    pub fn lay_out(&self, folder: &Path, registry: &Registry) -> anyhow::Result<Stocked> {
        let kept = versions_that_may_meet(&self.versions, &self.compatibility);
        let gallery = EmbeddedGallery::open(folder.join("gallery"), GalleryConfig::default())?;
        fill(&gallery, self, &kept)?;
        Policy {
            min_margin: MIN_MARGIN,
            ..Policy::default()
        }
        .write(&folder.join("gallery"))?;
        let live = &self.versions[kept[kept.len() - 1]].name;
        registry.set_alias(LIVE_ALIAS, live)?;
        if let [.., before, _] = kept[..] {
            registry.set_alias(PREVIOUS_ALIAS, &self.versions[before].name)?;
        }
        Ok(Stocked {
            folder: folder.join("gallery"),
            gallery,
            items: self.images.len(),
            versions: kept.len(),
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
    let records = RegistryRecords::for_gallery(registry.clone(), &stocked.folder)?;
    let served = Served {
        registry,
        folder: stocked.folder,
        gallery: stocked.gallery,
        loader: TrainedLoader(device),
        records,
    };
    serve(config, KeySource::Open, served, terminal)
}

/// The last version before the replacement, where the newest one loses little on what it stored, and the newest one.
fn versions_that_may_meet(versions: &[ModelVersion], report: &Compatibility) -> Vec<usize> {
    let rows = report.matrix().rows();
    let newest = rows.len() - 1;
    let replacement = versions
        .iter()
        .position(|version| version.role == Role::Replacement);
    let before = replacement.and_then(|at| at.checked_sub(1));
    let margin = |version: usize| rows[newest][version] - rows[version][version];
    before
        .filter(|&version| margin(version) >= MIN_MARGIN)
        .into_iter()
        .chain([newest])
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
