//! `perennial gallery search`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use perennial_core::{Encoder, ModelVersion, Registry};
use perennial_data::{DecodeLimits, Preprocessing, decode_square};
use perennial_gallery::{
    EmbeddedGallery, Filter, Hit, ItemId, LabelFilter, SearchRequest, VectorStore,
};
use perennial_train::TrainedEncoder;
use serde::Serialize;

use super::{given, require_certified, version_names};
use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::terminal::Terminal;

/// The largest image file that is read.
const MAX_IMAGE_BYTES: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A PNG or JPEG to search for
    #[arg(required_unless_present = "id", conflicts_with = "id")]
    image: Option<PathBuf>,
    /// A stored item to search for: digits without a leading zero are a number, anything else is a text, and so is '"12"' with the
    /// quotation marks
    #[arg(long, allow_negative_numbers = true)]
    id: Option<ItemId>,
    /// Version name or alias that embeds the image
    #[arg(long, value_name = "VERSION", default_value = "live")]
    model: String,
    /// How many items to find
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// Only items of this model version, a name or an alias; repeatable
    #[arg(long, value_name = "VERSION")]
    model_version: Vec<String>,
    /// Only items with this label; repeatable
    #[arg(long)]
    label: Vec<u32>,
    /// Search even what the querying version was not measured as compatible with
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Answer {
    model_version: String,
    hits: Vec<Hit>,
}

pub fn run(
    arguments: &Arguments,
    gallery: &GalleryArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let gallery = gallery.open_read_only()?;
    let registry = global.open_registry()?;
    let filter = Filter {
        model_versions: version_names::resolve(
            given(&arguments.model_version),
            Some(&registry),
            &gallery,
        )?,
        labels: given(&arguments.label).map(LabelFilter::any_of),
        ..Filter::default()
    };
    let (model_version, embedding) = match (&arguments.image, &arguments.id) {
        (Some(image), _) => embed_file(image, registry.get(&arguments.model)?, &registry, global)?,
        (None, Some(id)) => stored(&gallery, id)?,
        (None, None) => return Err(usage("name an image or --id")),
    };
    if !arguments.force {
        let among = filter.model_versions.as_deref();
        require_certified(&registry, &gallery, &model_version, among)?;
    }
    let hits = gallery.search(&SearchRequest {
        embedding: &embedding,
        limit: arguments.limit,
        filter: &filter,
        exact: false,
    })?;
    let answer = Answer {
        model_version,
        hits,
    };
    terminal.result(&answer, |_| table(&answer))?;
    Ok(ExitStatus::Done)
}

fn stored(gallery: &EmbeddedGallery, id: &ItemId) -> anyhow::Result<(String, Vec<f32>)> {
    let found = gallery.get(std::slice::from_ref(id), true)?.pop();
    let item = found.ok_or_else(|| usage(format!("the gallery holds no item {id}")))?;
    let embedding = item.embedding.context("the item came without embedding")?;
    Ok((item.model_version, embedding))
}

fn embed_file(
    image: &Path,
    version: ModelVersion,
    registry: &Registry,
    global: &GlobalArguments,
) -> anyhow::Result<(String, Vec<f32>)> {
    let bytes = perennial_core::read_at_most(image, MAX_IMAGE_BYTES)
        .map_err(|error| usage(error.to_string()))?;
    let [channels, height, width] = version.architecture.input;
    anyhow::ensure!(
        channels == 3 && height == width,
        "{} takes no square RGB images",
        version.name
    );
    let square = decode_square(&bytes, height, DecodeLimits::FILES)
        .with_context(|| image.display().to_string())?;
    let mut pixels = Vec::new();
    Preprocessing::try_from(&version.preprocessing)?.append(&square, channels, &mut pixels);
    let name = version.name.clone();
    let encoder = TrainedEncoder::load(registry, version, &global.device.open()?)?;
    Ok((name, encoder.encode(&pixels)?))
}

fn table(answer: &Answer) -> String {
    let mut text = format!("queried by {}\n", answer.model_version);
    for hit in &answer.hits {
        let label = hit
            .label
            .map_or_else(|| "-".to_owned(), |label| label.to_string());
        text.push_str(&format!(
            "{:.4}  {:<24}  label {label:<6}  {}\n",
            hit.score,
            hit.id.to_string(),
            hit.model_version
        ));
    }
    text
}
