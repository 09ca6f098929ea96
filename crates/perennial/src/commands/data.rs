//! `perennial data`: download, convert and inspect image sets.

mod convert;
#[cfg_attr(not(feature = "fetch"), path = "data/no_fetch.rs")]
mod fetch;
mod fetched_set;

use std::collections::BTreeMap;

use perennial_data::catalogue::FOLDER_SIZE;
use perennial_data::folder::LabelledFolder;
use perennial_data::pictures::LeftOut;
use perennial_data::{ContentHash, ImageSet};
use perennial_train::SetConfig;
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::left_out::{self, LeftOutAnswer};
use crate::progress::CountedProgress;
use crate::run_record::FilesRecord;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;
use fetched_set::FetchedSet;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Download an official archive, verify it and unpack it into the data folder; run again to resume
    #[cfg_attr(
        not(feature = "fetch"),
        doc = "(this build cannot download; build with --features fetch)"
    )]
    Fetch {
        /// The set
        #[arg(value_enum)]
        set: FetchedSet,
        /// URL to download from instead of the official one
        #[arg(long, value_name = "URL")]
        base_url: Option<String>,
    },
    /// Convert a set's published image folders to the files of 32x32-pixel records that experiments read
    Convert(convert::Arguments),
    /// Count the images and classes of a set, compare with the published numbers, and list unusable files of a folder
    Show {
        /// SET:SPLIT, or folder:DIR for all pictures below a folder
        set: SetArgument,
        /// With folder:DIR: stop at the first unusable picture instead of skipping and listing it
        #[arg(long)]
        strict: bool,
    },
}

pub fn run(
    action: &Action,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match action {
        Action::Fetch { set, base_url } => fetch::run(*set, base_url.as_deref(), global, terminal),
        Action::Convert(arguments) => convert::run(arguments, global, terminal),
        Action::Show { set, strict } => show(set, *strict, global, terminal),
    }
}

/// Summary of a set.
#[derive(Serialize)]
struct Summary {
    set: String,
    images: usize,
    channels: usize,
    height: usize,
    width: usize,
    /// Classes with at least one image.
    classes: usize,
    /// Images of the smallest and of the largest class.
    images_per_class: [usize; 2],
    sha256: String,
    /// Of a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutAnswer>,
    #[serde(flatten)]
    files: FilesRecord,
}

fn show(
    argument: &SetArgument,
    strict: bool,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let mut left_out = LeftOut::default();
    let mut completeness = None;
    let summary = match argument.folder() {
        Some(path) => {
            let mut folder = LabelledFolder::list(path)?.strict(strict);
            let summary = summarize_folder(&argument.0, &mut folder, terminal)?;
            left_out = folder.left_out().clone();
            summary
        }
        None if strict => return Err(usage("--strict requires folder:DIR")),
        None => {
            let set = argument.0.load(&global.data)?;
            completeness = set.completeness().cloned();
            summarize(argument.0.describe(), &set)
        }
    };
    terminal.result(&summary, |_| {
        let [fewest, most] = summary.images_per_class;
        let each = if fewest == most {
            most.to_string()
        } else {
            format!("{fewest} to {most}")
        };
        let mut text = format!(
            "{}: {} images of {}x{}x{} (channels, height, width), {} classes of {each} images\n",
            summary.set,
            summary.images,
            summary.channels,
            summary.height,
            summary.width,
            summary.classes,
        );
        if !left_out.is_empty() {
            let lines = left_out::lines(&left_out, "  ");
            text.push_str(&format!("{:>8}  files left out\n{lines}", left_out.len()));
        }
        if let Some(completeness) = &completeness {
            text.push_str(&match completeness.is_partial() {
                true => format!("a partial set: {completeness}\n"),
                false => format!("as published: {completeness}\n"),
            });
        }
        text + "sha256 " + &summary.sha256
    })?;
    Ok(ExitStatus::Done)
}

fn summarize(name: String, set: &ImageSet) -> Summary {
    let mut counts = BTreeMap::<u32, usize>::new();
    for label in set.labels() {
        *counts.entry(*label).or_default() += 1;
    }
    let mut summary = Summary::new(name, set.shape(), &counts, set.content_sha256());
    summary.files = FilesRecord::of(set);
    summary
}

/// The same as for the set that training would see, with a few pictures in memory at a time.
fn summarize_folder(
    config: &SetConfig,
    folder: &mut LabelledFolder,
    terminal: &Terminal,
) -> anyhow::Result<Summary> {
    let (name, size) = (config.describe(), config.picture_size(FOLDER_SIZE)?);
    let shape = [3, size, size];
    let mut counts = BTreeMap::<u32, usize>::new();
    let mut content = ContentHash::new(shape);
    let progress = CountedProgress::new(terminal, &name, folder.len() as u64, "files");
    folder.squares(size, |squares| {
        for square in &squares {
            *counts.entry(square.label).or_default() += 1;
            content.add(square.label, &square.content);
        }
        progress.advance(squares.len() as u64);
        anyhow::Ok(())
    })?;
    progress.finish();
    let mut summary = Summary::new(name, shape, &counts, content.finish());
    summary.left_out = Some(LeftOutAnswer::from(folder.left_out()));
    Ok(summary)
}

impl Summary {
    fn new(
        set: String,
        [channels, height, width]: [usize; 3],
        counts: &BTreeMap<u32, usize>,
        sha256: String,
    ) -> Self {
        Self {
            set,
            images: counts.values().sum(),
            channels,
            height,
            width,
            classes: counts.len(),
            images_per_class: [
                counts.values().copied().min().unwrap_or(0),
                counts.values().copied().max().unwrap_or(0),
            ],
            sha256,
            left_out: None,
            files: FilesRecord::default(),
        }
    }
}
