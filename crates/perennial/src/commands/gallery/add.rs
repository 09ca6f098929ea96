//! `perennial gallery add`.

mod admission;
mod destination;
mod folder;
mod local;
mod origin;
mod remote;
mod table;

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::ArgGroup;
use perennial_core::{Embeddings, Modality, Registry};
use perennial_formats::read_embeddings;
use perennial_gallery::{EmbeddedGallery, Item, ItemId, Maintenance, VectorStore};
use perennial_upgrade::{Certification, LoadedModel};
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::admission::Admission;
use self::destination::Destination;
use self::folder::{FolderReport, Options, Plan};
use self::local::Local;
use self::origin::{ORIGIN, check_origin};
use self::remote::Remote;
use self::table::{TableArguments, TextTable};
use super::rules::certification;
use crate::arguments::GlobalArguments;
use crate::embedding::embed;
use crate::exit_status::{ExitStatus, usage};
use crate::gallery_folder::GalleryArguments;
use crate::interrupt::Interrupt;
use crate::left_out;
use crate::model_loading::VersionLoader;
use crate::probe::load_set;
use crate::progress::CountedProgress;
use crate::service_client::ServiceClient;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;

/// Items of one durable write.
const BATCH: usize = 1000;

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("added").required(true).args(["folders", "set", "table", "embeddings"]))]
pub struct Arguments {
    /// Folders of pictures to embed and store, with all subfolders; adding a folder again stores only new and changed pictures
    #[arg(value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Images to embed and store: SET:SPLIT; folder:DIR is the same as the argument DIR
    #[arg(long, value_name = "SET")]
    set: Option<SetArgument>,
    /// Model version that embeds the images or texts: name or alias
    #[arg(long, value_name = "VERSION", default_value = "live")]
    model: String,
    /// File of a model version's embeddings to store, as `perennial embed VERSION --out FILE.safetensors` writes it
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    #[command(flatten)]
    table: TableArguments,
    /// Prefix of item ids: a/b.jpg becomes PREFIX/a/b.jpg, and item 7 PREFIX/7. Default ids are the path below the folder for a
    /// picture, SET/NUMBER for an image of a set, FILE/ROW for a row of a table, and the id in the file for an embedding
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// Name stored with the items instead of the folder's absolute path; it identifies the folder when it is added again
    #[arg(long, value_name = "NAME")]
    root: Option<String>,
    /// Delete items of this folder whose file no longer exists; other items are not changed
    #[arg(long)]
    prune: bool,
    /// Stop at the first unusable picture instead of skipping and listing it
    #[arg(long)]
    strict: bool,
    /// Store no thumbnails (96 pixels, about 3 KB per item)
    #[arg(long)]
    no_thumbnails: bool,
    /// Store even if this model version is not certified against the versions already in the gallery
    #[arg(long)]
    force: bool,
}

/// Embeddings that may be stored, with what their items have in common.
struct Rows<'a> {
    embeddings: Embeddings,
    /// Of their ids.
    prefix: Option<String>,
    payload: Map<String, Value>,
    admission: Admission<'a>,
}

#[derive(Serialize)]
struct Answer {
    model_version: String,
    inserted: usize,
    replaced: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pruned: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<usize>,
    items: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    folders: Vec<FolderReport>,
}

pub fn run(
    arguments: &Arguments,
    gallery: &GalleryArguments,
    client: Option<&ServiceClient>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let folders = arguments.folders()?;
    for folder in &folders {
        // Before a gallery is made for a folder that does not exist.
        perennial_data::pictures::check_folder(folder)?;
    }
    let interrupt = Interrupt::listen()?;
    if let Some(client) = client {
        let answer = arguments.add_to_service(&folders, client, global, interrupt, terminal)?;
        terminal.result(&answer, |_| text(&answer))?;
        return Ok(ExitStatus::Done);
    }
    let registry = global.open_registry()?;
    let rules = certification(&registry, gallery)?;
    let answer = if !folders.is_empty() {
        let version = registry.get(&arguments.model)?;
        let loader = VersionLoader::of(global)?;
        let model = LoadedModel::load(&loader, &registry, version.clone())?;
        if version.picture_size().is_none() {
            return Err(usage(format!(
                "version {} embeds texts, not pictures; add texts with --table",
                version.name
            )));
        }
        let gallery = gallery.open()?;
        let admission = Admission::check(&rules, &gallery, &version, arguments.force)?;
        let destination = Local::new(&gallery, model, admission);
        add_folders(
            &destination,
            &folders,
            &arguments.options(),
            interrupt,
            terminal,
        )?
    } else if let Some(table) = arguments.text_table() {
        let rows = table.check()?;
        let version = registry.get(&arguments.model)?;
        let loader = VersionLoader::of(global)?;
        let model = LoadedModel::load(&loader, &registry, version.clone())?;
        if !version.accepts().contains(&Modality::Text) {
            return Err(usage(format!(
                "version {} embeds pictures, not texts; pass folders of pictures",
                version.name
            )));
        }
        let gallery = gallery.open()?;
        let admission = Admission::check(&rules, &gallery, &version, arguments.force)?;
        let target = (&gallery, &admission);
        let (inserted, replaced) = table.store(rows, target, &model, interrupt, terminal)?;
        Answer::of_items(&version.name, (inserted, replaced), gallery.stats()?.items)
    } else {
        let gallery = gallery.open()?;
        let rows = arguments.rows(&rules, &registry, &gallery, global, interrupt, terminal)?;
        let (inserted, replaced) = store(&gallery, &rows, interrupt, terminal)?;
        let version = rows.embeddings.model_version();
        Answer::of_items(version, (inserted, replaced), gallery.stats()?.items)
    };
    terminal.result(&answer, |_| text(&answer))?;
    Ok(ExitStatus::Done)
}

impl Answer {
    /// Items that are not of folders.
    fn of_items(version: &str, (inserted, replaced): (usize, usize), items: u64) -> Self {
        Self {
            model_version: version.to_owned(),
            inserted,
            replaced,
            unchanged: None,
            pruned: None,
            left_out: None,
            items,
            folders: Vec::new(),
        }
    }
}

impl Arguments {
    /// The table of texts, if it is one that is added.
    fn text_table(&self) -> Option<TextTable<'_>> {
        let path = self.table.table.as_deref()?;
        Some(TextTable::new(path, &self.table, self.prefix.as_deref()))
    }

    /// The folders, however they are named.
    fn folders(&self) -> anyhow::Result<Vec<PathBuf>> {
        let of_set = match &self.set {
            Some(set) => set.folder_for_a_version()?,
            None => None,
        };
        let folders: Vec<PathBuf> = match of_set {
            Some(folder) => vec![folder.to_owned()],
            None => self.folders.clone(),
        };
        for (given, option) in [
            (self.root.is_some(), "--root"),
            (self.prune, "--prune"),
            (self.strict, "--strict"),
            (self.no_thumbnails, "--no-thumbnails"),
        ] {
            if given && folders.is_empty() {
                return Err(usage(format!(
                    "{option} applies only to folders of pictures; remove it, or pass a folder"
                )));
            }
        }
        if folders.len() > 1 && self.root.is_some() {
            return Err(usage(
                "--root names a single folder; add the folders with one command each",
            ));
        }
        if let Some(root) = &self.root {
            folder::check_root(root)?;
        }
        Ok(folders)
    }

    fn options(&self) -> Options {
        Options {
            prefix: self.prefix.clone(),
            root: self.root.clone(),
            prune: self.prune,
            strict: self.strict,
            no_thumbnails: self.no_thumbnails,
        }
    }

    /// The same for the gallery of a running service, which embeds and checks.
    fn add_to_service(
        &self,
        folders: &[PathBuf],
        client: &ServiceClient,
        global: &GlobalArguments,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<Answer> {
        if let Some(file) = &self.embeddings {
            let embeddings = read_embeddings(file)?;
            let version = embeddings.model_version();
            let title = format!("storing {version}");
            let progress = CountedProgress::new(terminal, title, embeddings.len() as u64, "items");
            let id = |number| id(self.prefix.as_deref(), number);
            let stored =
                remote::add_embeddings(client, &embeddings, id, self.force, interrupt, &progress)?;
            progress.finish();
            let items = super::remote::stats(client)?.items;
            return Ok(Answer::of_items(version, stored, items));
        }
        let destination = Remote::new(client, &self.model, self.force, interrupt)?;
        if let Some(table) = self.text_table() {
            let rows = table.check()?;
            let version = destination.model_version();
            let stored = table.send(rows, &destination, version, interrupt, terminal)?;
            return Ok(Answer::of_items(version, stored, destination.finish()?));
        }
        destination.check_pictures()?;
        let Some(SetArgument(config)) = self.set.as_ref().filter(|_| folders.is_empty()) else {
            return add_folders(&destination, folders, &self.options(), interrupt, terminal);
        };
        let set = config.load(&global.data)?;
        let prefix = self.prefix.clone();
        let prefix = prefix.unwrap_or_else(|| set.name().to_owned());
        let described = config.describe();
        let ids: Vec<ItemId> = (0..set.len() as u64)
            .map(|row| id(Some(&prefix), row))
            .collect();
        destination.check_origins(&ids.iter().collect::<Vec<_>>(), &described)?;
        let version = destination.model_version();
        let title = format!("{version} on {described}");
        let progress = CountedProgress::new(terminal, title, set.len() as u64, "images");
        let payload = Map::from_iter([(ORIGIN.to_owned(), json!(described))]);
        let stored = destination.add_set(&set, &prefix, &payload, &progress)?;
        progress.finish();
        Ok(Answer::of_items(version, stored, destination.finish()?))
    }

    /// The embeddings of a file or of a set's images.
    fn rows<'a>(
        &self,
        rules: &'a Certification,
        registry: &Registry,
        gallery: &EmbeddedGallery,
        global: &GlobalArguments,
        interrupt: Interrupt,
        terminal: &Terminal,
    ) -> anyhow::Result<Rows<'a>> {
        match (&self.embeddings, &self.set) {
            (Some(file), _) => {
                let embeddings = read_embeddings(file)?;
                let version = registry
                    .get(embeddings.model_version())
                    .with_context(|| file.display().to_string())?;
                if version.name != embeddings.model_version() {
                    return Err(usage(format!(
                        "{} names its model version by the alias {}, which may have moved since; embed again with {}, or write the version's own name into the file",
                        file.display(),
                        embeddings.model_version(),
                        version.name
                    )));
                }
                let admission = Admission::check(rules, gallery, &version, self.force)?;
                Ok(Rows {
                    embeddings,
                    prefix: self.prefix.clone(),
                    payload: Map::new(),
                    admission,
                })
            }
            (None, Some(SetArgument(config))) => {
                let version = registry.get(&self.model)?;
                let admission = Admission::check(rules, gallery, &version, self.force)?;
                let set = load_set(config, &global.data, std::slice::from_ref(&version))?;
                let prefix = self.prefix.clone();
                let prefix = prefix.unwrap_or_else(|| set.name().to_owned());
                check_set(gallery, &prefix, set.len(), &config.describe())?;
                let title = format!("{} on {}", version.name, config.describe());
                let progress = CountedProgress::new(terminal, title, set.len() as u64, "images");
                let embeddings = embed(registry, &version, global, &set, |images| {
                    progress.advance(images as u64);
                    interrupt.check()
                })?;
                progress.finish();
                let payload = Map::from_iter([(ORIGIN.to_owned(), json!(config.describe()))]);
                Ok(Rows {
                    embeddings,
                    prefix: Some(prefix),
                    payload,
                    admission,
                })
            }
            (None, None) => Err(usage(
                "nothing to add; pass folders, --set SET:SPLIT, --table FILE or --embeddings FILE",
            )),
        }
    }
}

/// Refuses to replace items of any other origin: another set, another split, a folder or a file.
fn check_set(
    gallery: &EmbeddedGallery,
    prefix: &str,
    images: usize,
    set: &str,
) -> anyhow::Result<()> {
    let ids: Vec<ItemId> = (0..images as u64)
        .map(|row| id(Some(prefix), row))
        .collect();
    for ids in ids.chunks(BATCH) {
        for item in gallery.get(ids, false)? {
            check_origin(&item, set)?;
        }
    }
    Ok(())
}

/// Stores embeddings, a durable batch at a time.
fn store(
    gallery: &EmbeddedGallery,
    rows: &Rows<'_>,
    interrupt: Interrupt,
    terminal: &Terminal,
) -> anyhow::Result<(usize, usize)> {
    let embeddings = &rows.embeddings;
    let version = embeddings.model_version();
    let title = format!("storing {version}");
    let progress = CountedProgress::new(terminal, title, embeddings.len() as u64, "items");
    let (mut inserted, mut replaced) = (0, 0);
    for start in (0..embeddings.len()).step_by(BATCH) {
        let end = embeddings.len().min(start + BATCH);
        let items = (start..end).map(|row| Item {
            id: id(rows.prefix.as_deref(), embeddings.ids()[row]),
            embedding: embeddings.row(row).to_vec(),
            model_version: version.to_owned(),
            label: embeddings.labels().map(|labels| labels[row]),
            payload: rows.payload.clone(),
        });
        let stored = gallery.upsert(items.collect())?;
        rows.admission.written();
        inserted += stored.inserted;
        replaced += stored.replaced;
        progress.advance((end - start) as u64);
        interrupt.check()?;
    }
    progress.finish();
    gallery.flush()?;
    Ok((inserted, replaced))
}

fn id(prefix: Option<&str>, number: u64) -> ItemId {
    prefix.map_or(ItemId::Number(number), |prefix| {
        ItemId::Text(format!("{prefix}/{number}"))
    })
}

/// Checks all folders before the first is stored, so that an error in one of them leaves the gallery unchanged.
fn add_folders(
    destination: &dyn Destination,
    folders: &[PathBuf],
    options: &Options,
    interrupt: Interrupt,
    terminal: &Terminal,
) -> anyhow::Result<Answer> {
    let mut plans: Vec<Plan> = Vec::with_capacity(folders.len());
    let mut owners: HashMap<String, usize> = HashMap::new();
    for folder in folders {
        let plan = Plan::new(destination, folder, options)?;
        if folders.len() > 1 {
            for id in plan.ids(options) {
                if let Some(&other) = owners.get(&id) {
                    return Err(usage(format!(
                        "the id {id} occurs in {} and in {}; add the folders with one command each and different --prefix",
                        plans[other].root(),
                        plan.root()
                    )));
                }
                owners.insert(id, plans.len());
            }
        }
        plans.push(plan);
    }
    let mut reports = Vec::with_capacity(plans.len());
    for plan in plans {
        reports.push(plan.carry_out(destination, options, interrupt, terminal)?);
    }
    let sum = |of: fn(&FolderReport) -> usize| reports.iter().map(of).sum::<usize>();
    Ok(Answer {
        model_version: destination.model_version().to_owned(),
        inserted: sum(|report| report.inserted),
        replaced: sum(|report| report.replaced),
        unchanged: Some(sum(|report| report.unchanged)),
        pruned: Some(sum(|report| report.pruned)),
        left_out: Some(sum(|report| report.left_out.len())),
        items: destination.finish()?,
        folders: reports,
    })
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    for report in &answer.folders {
        text.push_str(&format!("{}\n", report.folder.display()));
        for (count, what) in [
            (report.inserted, "added"),
            (report.replaced, "replaced"),
            (report.unchanged, "unchanged"),
            (report.pruned, "pruned"),
            (report.left_out.len(), "left out"),
        ] {
            text.push_str(&format!("{count:>8}  {what}\n"));
        }
        text.push_str(&left_out::lines(&report.left_out, "  "));
    }
    match answer.folders.is_empty() {
        true => text.push_str(&format!(
            "{} new and {} replaced items by {}; the gallery holds {}",
            answer.inserted, answer.replaced, answer.model_version, answer.items
        )),
        false => text.push_str(&format!(
            "embedded by {}; the gallery holds {} items",
            answer.model_version, answer.items
        )),
    }
    text
}
