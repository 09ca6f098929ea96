//! `perennial gallery`: the stored embeddings, in a folder or in a running service.

mod add;
mod backfill;
mod given;
mod remote;
mod rules;
mod search;
mod stats;
mod version_names;

use std::path::PathBuf;

use perennial_core::Output;
use perennial_gallery::{
    Compacted, Filter, ItemId, LabelFilter, Maintenance, SNAPSHOT_FILE_KIND, SnapshotInfo,
    Snapshots, VectorStore,
};
use serde::Serialize;

use self::given::{given, parse_id, parse_label};
use crate::arguments::GlobalArguments;
use crate::database_store::DatabaseArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::service_client::{ServerArguments, ServiceClient};
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    gallery: GalleryArguments,
    #[command(flatten)]
    server: ServerArguments,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Store images, texts of a table, or a file of embeddings
    Add(add::Arguments),
    /// Embed items of older versions again with the live one, from their originals, in the order that pays
    Backfill(backfill::Arguments),
    /// Find the items most similar to an image, a text or a stored item
    Search(search::Arguments),
    /// Show items per model version, the index, and bytes in memory and on disk
    Stats,
    /// Reclaim the disk space of replaced and deleted items; safe to interrupt at any time
    Compact,
    /// Write the whole gallery to one snapshot file; with --server, to a new file in the folder of `serve --snapshots`
    Snapshot {
        /// File to write; may be a device or a pipe, and - is standard output. With --server, the service chooses the name
        file: Option<PathBuf>,
    },
    /// Replace the whole gallery by a snapshot, after the snapshot has been verified
    Restore {
        /// Snapshot file
        file: PathBuf,
        #[command(flatten)]
        store: DatabaseArguments,
    },
    /// Delete items by id, model version or label
    Delete(DeleteArguments),
}

#[derive(Debug, clap::Args)]
struct DeleteArguments {
    /// Item ids: digits without a leading zero are a numeric id, anything else is a text id; write '"12"' for the text id 12
    #[arg(allow_negative_numbers = true, value_parser = parse_id)]
    ids: Vec<ItemId>,
    /// Delete every item of this model version (name or alias); repeatable
    #[arg(long, value_name = "VERSION")]
    model_version: Vec<String>,
    /// Delete every item with this label, a whole number; repeatable
    #[arg(long, value_parser = parse_label)]
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
    let client = match &arguments.action {
        Action::Backfill(_) => arguments.server.client_beside(&gallery.gallery, terminal)?,
        _ => arguments.server.client()?,
    };
    match &arguments.action {
        Action::Add(arguments) => add::run(arguments, gallery, client.as_ref(), global, terminal),
        Action::Backfill(arguments) => {
            backfill::run(arguments, gallery, client.as_ref(), global, terminal)
        }
        Action::Search(arguments) => {
            search::run(arguments, gallery, client.as_ref(), global, terminal)
        }
        Action::Stats => stats::run(gallery, client.as_ref(), global, terminal),
        Action::Compact => compact(gallery, client.as_ref(), terminal),
        Action::Snapshot { file } => {
            if let Some(client) = client {
                return snapshot_in_service(&client, file.as_deref(), terminal);
            }
            let file = file.as_deref().ok_or_else(|| {
                usage("no file name; pass the file to write, such as all.snapshot")
            })?;
            let output = Output::prepare_kind(file, SNAPSHOT_FILE_KIND)?;
            let written = gallery.open_read_only()?.snapshot(output.path())?;
            if output.is_stdout() {
                return Ok(ExitStatus::Done);
            }
            tell_snapshot("wrote", file, &written, terminal)
        }
        Action::Restore { .. } if client.is_some() => Err(usage(
            "a snapshot cannot be restored while the service runs: stop it, restore with --gallery, and start it again",
        )),
        Action::Restore { file, store } => {
            if !file.is_file() {
                return Err(usage(format!(
                    "{} does not exist or is not a file",
                    file.display()
                )));
            }
            let restored = match store.settings()? {
                Some(database) => {
                    terminal.say(format_args!(
                        "restoring into the gallery in {}",
                        database.url
                    ));
                    database.open(false, &gallery.gallery)?.restore(file)?
                }
                None => gallery.open()?.restore(file)?,
            };
            tell_snapshot("restored", file, &restored, terminal)
        }
        Action::Delete(arguments) => delete(arguments, gallery, client.as_ref(), global, terminal),
    }
}

/// Lets the service write a snapshot into its own folder.
fn snapshot_in_service(
    client: &ServiceClient,
    file: Option<&std::path::Path>,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if let Some(file) = file {
        return Err(usage(format!(
            "{}: with --server, the service writes the snapshot to its own folder and chooses the name; remove the \
             file name",
            file.display()
        )));
    }
    let snapshot = remote::snapshot(client)?;
    terminal.result(&snapshot, |_| {
        let info = &snapshot.info;
        format!(
            "{} wrote {} into its snapshots folder: {} items, {} bytes, sha256 {}",
            client.url(),
            snapshot.name,
            info.items,
            info.bytes,
            info.sha256
        )
    })?;
    Ok(ExitStatus::Done)
}

fn compact(
    gallery: &GalleryArguments,
    client: Option<&ServiceClient>,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let compacted = match client {
        Some(client) => client
            .post("/gallery/compact", &serde_json::json!({}))?
            .read::<Compacted>()?,
        None => gallery.open_existing()?.compact()?,
    };
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
    client: Option<&ServiceClient>,
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
            "nothing to delete; pass ids, --model-version or --label, or --all for every item",
        ));
    }
    let deleted = match client {
        Some(client) => remote::delete(client, &filter, arguments.all)?,
        None => {
            let gallery = gallery.open_existing()?;
            filter.model_versions = version_names::resolve(
                filter.model_versions,
                global.open_registry().ok().as_ref(),
                &gallery,
            )?;
            gallery.delete_where(&filter)?
        }
    };
    terminal.result(&Answer { deleted }, |_| format!("deleted {deleted} items"))?;
    Ok(ExitStatus::Done)
}
