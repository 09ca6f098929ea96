//! `perennial gallery add`.

use std::path::PathBuf;

use perennial_core::Embeddings;
use perennial_gallery::{Item, ItemId, VectorStore};
use perennial_upgrade::{Insertion, LIVE_ALIAS, Stored};
use serde::Serialize;
use serde_json::Map;

use super::{certification, require_certified};
use crate::arguments::GlobalArguments;
use crate::embedding::embed;
use crate::exit_status::{ExitStatus, gate_missed, usage};
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
    /// Store even if this model version is not certified against the versions already in the gallery
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
    let rules = certification(&registry, gallery)?;
    let gallery = gallery.open()?;
    // Before minutes of embedding that could not be stored.
    let admit = |version: &str| -> anyhow::Result<Insertion> {
        let version = registry.get(version)?;
        let live = registry.aliases()?.remove(LIVE_ALIAS);
        let stored = Stored::of(&gallery)?;
        let insertion = Insertion::check(&rules, &[&version], &stored, live.as_deref());
        if !arguments.force {
            require_certified(&insertion.refused)?;
            if let Some(problem) = &insertion.other_simplex {
                return Err(gate_missed(format!(
                    "{problem}; use another gallery, or pass --force to store it anyway"
                )));
            }
        }
        Ok(insertion)
    };
    let (embeddings, prefix, insertion) = match (&arguments.embeddings, &arguments.set) {
        (Some(file), _) => {
            let embeddings = Embeddings::read(file)?;
            let insertion = admit(embeddings.model_version())?;
            (embeddings, arguments.prefix.clone(), insertion)
        }
        (None, Some(SetArgument(config))) => {
            let version = registry.get(&arguments.model)?;
            let insertion = admit(&version.name)?;
            let set = config.load(&global.data)?;
            let title = format!("{} on {}", version.name, config.describe());
            let progress = CountedProgress::new(terminal, title, set.len() as u64, "images");
            let embeddings = embed(&registry, &version, global.device, &set, |images| {
                progress.advance(images as u64);
                interrupt.check()
            })?;
            progress.finish();
            let prefix = arguments.prefix.clone();
            let prefix = prefix.or_else(|| Some(set.name().to_owned()));
            (embeddings, prefix, insertion)
        }
        (None, None) => {
            return Err(usage("name images with --set, or a file with --embeddings"));
        }
    };
    let version = embeddings.model_version().to_owned();
    if let Some(simplex) = insertion.new_simplex {
        gallery.set_identity(simplex)?;
    }
    rules.accept(&insertion.refused);
    let title = format!("storing {version}");
    let progress = CountedProgress::new(terminal, title, embeddings.len() as u64, "items");
    let (mut inserted, mut replaced) = (0, 0);
    for start in (0..embeddings.len()).step_by(BATCH) {
        let end = embeddings.len().min(start + BATCH);
        let items = (start..end).map(|row| item(&embeddings, row, prefix.as_deref()));
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

fn item(embeddings: &Embeddings, row: usize, prefix: Option<&str>) -> Item {
    let id = embeddings.ids()[row];
    Item {
        id: prefix.map_or(ItemId::Number(id), |prefix| {
            ItemId::Text(format!("{prefix}/{id}"))
        }),
        embedding: embeddings.row(row).to_vec(),
        model_version: embeddings.model_version().to_owned(),
        label: embeddings.labels().map(|labels| labels[row]),
        payload: Map::new(),
    }
}
