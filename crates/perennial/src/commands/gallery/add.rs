//! `perennial gallery add`.

use std::path::PathBuf;

use anyhow::Context;
use perennial_core::Embeddings;
use perennial_gallery::{Item, ItemId, SimplexIdentity, VectorStore};
use serde::Serialize;
use serde_json::Map;

use super::require_certified;
use crate::arguments::GlobalArguments;
use crate::embedding::embed;
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::interrupt::Interrupt;
use crate::progress::CountedProgress;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;

/// Items of one durable write.
const BATCH: usize = 1000;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images to embed and store: SET:SPLIT or folder:PATH
    #[arg(long, value_name = "SET", required_unless_present = "embeddings")]
    set: Option<SetArgument>,
    /// Version name or alias that embeds them
    #[arg(long, value_name = "VERSION", default_value = "live")]
    model: String,
    /// Embeddings to store: a file that `perennial embed` wrote
    #[arg(long, value_name = "FILE", conflicts_with = "set")]
    embeddings: Option<PathBuf>,
    /// What ids begin with: item 7 becomes PREFIX/7; the set's name by default, plain numbers for a file
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Store even what was not measured as compatible with the items that are there
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    model_version: &'a str,
    inserted: usize,
    replaced: usize,
    items: u64,
}

pub fn run(
    arguments: &Arguments,
    gallery: &GalleryArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let interrupt = Interrupt::listen()?;
    let registry = global.open_registry()?;
    let gallery = gallery.open()?;
    // Before minutes of embedding that could not be stored.
    let admit = |version: &str| match arguments.force {
        true => Ok(()),
        false => require_certified(&registry, &gallery, version, None),
    };
    let (embeddings, version, prefix) = match (&arguments.embeddings, &arguments.set) {
        (Some(file), _) => {
            let embeddings = Embeddings::read(file)?;
            // A file may name its version by an alias, which moves; items name the version itself.
            let version = registry
                .resolve(embeddings.model_version())
                .with_context(|| file.display().to_string())?;
            admit(&version)?;
            (embeddings, version, arguments.prefix.clone())
        }
        (None, Some(SetArgument(config))) => {
            let version = registry.get(&arguments.model)?;
            admit(&version.name)?;
            let set = config.load(&global.data)?;
            let title = format!("{} on {}", version.name, config.describe());
            let progress = CountedProgress::new(terminal, title, set.len() as u64, "images");
            let embeddings = embed(&registry, &version, global.device, &set, |images| {
                progress.advance(images as u64);
                interrupt.check()
            })?;
            progress.finish();
            let prefix = arguments.prefix.clone();
            (
                embeddings,
                version.name,
                prefix.or_else(|| Some(set.name().to_owned())),
            )
        }
        (None, None) => {
            return Err(usage("name images with --set, or a file with --embeddings"));
        }
    };
    if let Some(vertices) = registry.get(&version)?.classifier.vertices {
        gallery.set_identity(SimplexIdentity { vertices })?;
    }
    let title = format!("storing {version}");
    let progress = CountedProgress::new(terminal, title, embeddings.len() as u64, "items");
    let (mut inserted, mut replaced) = (0, 0);
    for start in (0..embeddings.len()).step_by(BATCH) {
        let end = embeddings.len().min(start + BATCH);
        let items = (start..end).map(|row| item(&embeddings, row, &version, prefix.as_deref()));
        let stored = gallery.upsert(items.collect())?;
        inserted += stored.inserted;
        replaced += stored.replaced;
        progress.advance((end - start) as u64);
        interrupt.check()?;
    }
    progress.finish();
    gallery.flush()?;
    let answer = Answer {
        model_version: &version,
        inserted,
        replaced,
        items: gallery.count()?.items,
    };
    terminal.result(&answer, |_| {
        format!(
            "{inserted} new and {replaced} replaced items by {version}; the gallery holds {}",
            answer.items
        )
    })?;
    Ok(ExitStatus::Done)
}

fn item(embeddings: &Embeddings, row: usize, version: &str, prefix: Option<&str>) -> Item {
    let id = embeddings.ids()[row];
    Item {
        id: prefix.map_or(ItemId::Number(id), |prefix| {
            ItemId::Text(format!("{prefix}/{id}"))
        }),
        embedding: embeddings.row(row).to_vec(),
        model_version: version.to_owned(),
        label: embeddings.labels().map(|labels| labels[row]),
        payload: Map::new(),
    }
}
