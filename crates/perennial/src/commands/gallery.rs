//! `perennial gallery`: the stored embeddings, without a server in between.

mod add;
mod search;
mod version_names;

use std::path::PathBuf;

use perennial_core::Registry;
use perennial_gallery::{EmbeddedGallery, Filter, ItemId, LabelFilter, SnapshotInfo, VectorStore};
use perennial_serve::{CompatibilityCheck, RegistryRecords, newer_first};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    gallery: GalleryArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Embed images, or take embeddings from a file, and store them
    Add(add::Arguments),
    /// Find the items most similar to an image or a stored item
    Search(search::Arguments),
    /// Items per model version, index, bytes in memory and on disk
    Stats,
    /// Give the disk space of replaced and deleted items back; an interruption at any time loses nothing
    Compact,
    /// Write everything into one file
    Snapshot {
        /// The file to write
        file: PathBuf,
    },
    /// Replace everything by a snapshot, once all of it is verified
    Restore {
        /// The snapshot
        file: PathBuf,
    },
    /// Delete items by id, model version or label
    Delete(DeleteArguments),
}

#[derive(Debug, clap::Args)]
struct DeleteArguments {
    /// Item ids: digits without a leading zero are a number, anything else is a text, and so is '"12"' with the quotation marks
    #[arg(allow_negative_numbers = true)]
    ids: Vec<ItemId>,
    /// Delete every item of this model version, a name or an alias; repeatable
    #[arg(long, value_name = "VERSION")]
    model_version: Vec<String>,
    /// Delete every item with this label; repeatable
    #[arg(long)]
    label: Vec<u32>,
    /// Delete every item
    #[arg(long, conflicts_with_all = ["ids", "model_version", "label"])]
    all: bool,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let gallery = &arguments.gallery;
    match &arguments.action {
        Action::Add(arguments) => add::run(arguments, gallery, global, terminal),
        Action::Search(arguments) => search::run(arguments, gallery, global, terminal),
        Action::Stats => stats(gallery, terminal),
        Action::Compact => compact(gallery, terminal),
        Action::Snapshot { file } => {
            let written = gallery.open_read_only()?.snapshot(file)?;
            tell_snapshot("wrote", file, &written, terminal)
        }
        Action::Restore { file } => {
            if !file.is_file() {
                return Err(usage(format!(
                    "{} does not exist or is no file",
                    file.display()
                )));
            }
            let restored = gallery.open()?.restore(file)?;
            tell_snapshot("restored", file, &restored, terminal)
        }
        Action::Delete(arguments) => delete(arguments, gallery, global, terminal),
    }
}

fn stats(gallery: &GalleryArguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let stats = gallery.open_read_only()?.count()?;
    terminal.result(&stats, |_| {
        let dim = stats.dim.map_or("no dimension yet".to_owned(), |dim| {
            format!("dimension {dim}")
        });
        let mut text = format!("{} items, {dim}\n", stats.items);
        for (version, items) in &stats.per_version {
            text.push_str(&format!("  {version}  {items}\n"));
        }
        let bytes = stats.bytes_per_vector;
        text.push_str(&format!(
            "search {:?} ({:?}), {:.0} bytes per vector in memory, {:.0} on disk\n",
            stats.index.kind, stats.index.state, bytes.memory, bytes.disk
        ));
        let disk = stats.disk;
        text.push_str(&format!(
            "{} bytes on disk, about {} of them reclaimable\n",
            disk.bytes, disk.reclaimable_bytes
        ));
        if disk.is_wasteful() {
            text.push_str("`perennial gallery compact` gives that space back\n");
        }
        text
    })?;
    Ok(ExitStatus::Done)
}

fn compact(gallery: &GalleryArguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let compacted = gallery.open_existing()?.compact()?;
    terminal.result(&compacted, |_| {
        format!(
            "{} items; {} bytes before, {} now\n",
            compacted.items, compacted.bytes_before, compacted.bytes_after
        )
    })?;
    Ok(ExitStatus::Done)
}

fn tell_snapshot(
    verb: &str,
    file: &std::path::Path,
    info: &SnapshotInfo,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    terminal.result(info, |_| {
        format!(
            "{verb} {}: {} items, {} bytes, sha256 {}",
            file.display(),
            info.items,
            info.bytes,
            info.sha256
        )
    })?;
    Ok(ExitStatus::Done)
}

fn delete(
    arguments: &DeleteArguments,
    gallery: &GalleryArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Answer {
        deleted: usize,
    }
    let mut filter = if arguments.all {
        Filter::everything()
    } else {
        Filter {
            ids: given(&arguments.ids),
            labels: given(&arguments.label).map(LabelFilter::any_of),
            model_versions: given(&arguments.model_version),
            ..Filter::default()
        }
    };
    if filter.is_empty() && !arguments.all {
        return Err(usage(
            "name ids, --model-version or --label; --all deletes every item",
        ));
    }
    let gallery = gallery.open_existing()?;
    filter.model_versions = version_names::resolve(
        filter.model_versions,
        global.open_registry().ok().as_ref(),
        &gallery,
    )?;
    let deleted = gallery.delete_where(&filter)?;
    terminal.result(&Answer { deleted }, |_| format!("deleted {deleted} items"))?;
    Ok(ExitStatus::Done)
}

/// The values of a repeatable option. Not given at all, it is no condition; a condition without values would match nothing.
fn given<T: Clone>(values: &[T]) -> Option<Vec<T>> {
    (!values.is_empty()).then(|| values.to_vec())
}

/// Refuses a version that is not certified against every version stored, or against those of them that are named.
fn require_certified(
    registry: &Registry,
    gallery: &EmbeddedGallery,
    version: &str,
    among: Option<&[String]>,
) -> anyhow::Result<()> {
    let records = RegistryRecords::new(registry.clone());
    let stored = gallery.count()?.per_version;
    let problems: Vec<String> = stored
        .keys()
        .filter(|other| among.is_none_or(|among| among.contains(other)))
        .filter_map(|other| {
            let (query, gallery) = newer_first(version, other);
            records.check(query, gallery).err()
        })
        .map(|refused| refused.to_string())
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "{}; evaluate the pair, use another gallery, or pass --force",
        problems.join("; ")
    )))
}
