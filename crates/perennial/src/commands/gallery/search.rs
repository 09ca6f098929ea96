//! `perennial gallery search`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use perennial_core::{Encoder, ModelVersion, Registry};
use perennial_data::{DecodeLimits, decode_square};
use perennial_gallery::{EmbeddedGallery, Filter, ItemId, LabelFilter, SearchRequest, VectorStore};
use perennial_train::TrainedEncoder;
use perennial_upgrade::{Asking, LIVE_ALIAS, OwnRoute, Stored};
use serde_json::json;

use super::remote::{self, Found};
use super::{BY_FORCE, certification, given, parse_id, require_certified, version_names};
use crate::arguments::GlobalArguments;
use crate::embedding::Preparation;
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::service_client::ServiceClient;
use crate::terminal::Terminal;

/// The largest image file that is read.
const MAX_IMAGE_BYTES: u64 = perennial_data::pictures::MAX_FILE_BYTES;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Query image: PNG, JPEG, WebP, GIF, BMP or TIFF
    #[arg(required_unless_present = "id", conflicts_with = "id")]
    image: Option<PathBuf>,
    /// Stored item to use as the query: digits without a leading zero are a numeric id, anything else is a text id; write '"12"'
    /// for the text id 12
    #[arg(long, allow_negative_numbers = true, value_parser = parse_id)]
    id: Option<ItemId>,
    /// Model version that embeds the query image: name or alias
    #[arg(long, value_name = "VERSION", default_value = "live")]
    model: String,
    /// Maximum number of results
    #[arg(long, default_value_t = 10)]
    limit: usize,
    /// Search only items of this model version (name or alias); repeatable
    #[arg(long, value_name = "VERSION")]
    model_version: Vec<String>,
    /// Search only items with this label; repeatable
    #[arg(long)]
    label: Vec<u32>,
    /// Search even if the query version is not certified against the stored versions
    #[arg(long)]
    force: bool,
}

pub fn run(
    arguments: &Arguments,
    gallery: &GalleryArguments,
    client: Option<&ServiceClient>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if let Some(client) = client {
        let found = search_service(arguments, gallery.exact, client)?;
        terminal.result(&found, |_| table(&found))?;
        return Ok(ExitStatus::Done);
    }
    let registry = global.open_registry()?;
    let rules = certification(&registry, gallery)?;
    let gallery = gallery.open_read_only()?;
    let mut filter = filter(arguments);
    filter.model_versions =
        version_names::resolve(filter.model_versions, Some(&registry), &gallery)?;
    let (model_version, embedding) = match (&arguments.image, &arguments.id) {
        (Some(image), _) => embed_file(image, registry.get(&arguments.model)?, &registry, global)?,
        (None, Some(id)) => stored(&gallery, id)?,
        (None, None) => return Err(usage("no query; pass an image or --id")),
    };
    let stored = Stored::of(&gallery)?;
    let among = filter.model_versions.as_deref();
    let asking = match &arguments.id {
        Some(_) => Asking::Item(&model_version),
        None => Asking::Version(&model_version),
    };
    let OwnRoute {
        spaces,
        refused,
        not_searched,
    } = OwnRoute::of(&rules, asking, embedding.len(), &stored, among);
    if !arguments.force {
        require_certified(&refused, BY_FORCE)?;
    }
    let mut found = gallery.search(&SearchRequest {
        spaces: &spaces,
        queries: &embedding,
        dim: embedding.len(),
        limit: arguments.limit,
        filter: &filter,
        exact: false,
    })?;
    let hits = found.pop().unwrap_or_default();
    let answer = Found {
        model_version,
        hits,
        not_searched,
    };
    terminal.result(&answer, |_| table(&answer))?;
    Ok(ExitStatus::Done)
}

fn filter(arguments: &Arguments) -> Filter {
    Filter {
        model_versions: given(&arguments.model_version),
        labels: given(&arguments.label).map(LabelFilter::any_of),
        ..Filter::default()
    }
}

/// Lets a running service embed the image and search.
fn search_service(
    arguments: &Arguments,
    exact: bool,
    client: &ServiceClient,
) -> anyhow::Result<Found> {
    if arguments.image.is_some() && arguments.model != LIVE_ALIAS {
        return Err(usage(
            "--model: a service embeds images with its live version; remove --model",
        ));
    }
    let mut query = json!({
        "limit": arguments.limit,
        "filter": filter(arguments),
        "exact": exact,
        "force": arguments.force,
    });
    if let Some(image) = &arguments.image {
        let bytes = perennial_core::read_at_most(image, MAX_IMAGE_BYTES)
            .map_err(|error| usage(error.to_string()))?;
        query["image"] = json!(BASE64_STANDARD.encode(bytes));
    }
    if let Some(id) = &arguments.id {
        query["id"] = json!(id);
    }
    let shown = |error| match &arguments.image {
        Some(image) => anyhow::Error::context(error, image.display().to_string()),
        None => error,
    };
    remote::search(client, &query).map_err(shown)
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
    let preparation = Preparation::of(&version)?;
    let square = decode_square(&bytes, preparation.side(), DecodeLimits::FILES)
        .with_context(|| image.display().to_string())?;
    let mut pixels = Vec::new();
    preparation.append(&square, &mut pixels);
    let name = version.name.clone();
    let encoder = TrainedEncoder::load(registry, version, &global.device.open()?)?;
    Ok((name, encoder.encode(&pixels)?))
}

fn table(answer: &Found) -> String {
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
    if answer.not_searched > 0 {
        text.push_str(&format!(
            "{} stored items were not searched: their embeddings have another dimension\n",
            answer.not_searched
        ));
    }
    text
}
