//! `perennial data`: download, convert and inspect image sets.

mod convert;

use std::collections::BTreeMap;

use clap::ValueEnum;
use perennial_data::catalogue::TINY_IMAGENET_FOLDER;
use perennial_data::{DatasetArchive, ImageSet};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::progress::CountedProgress;
use crate::run_record::FilesRecord;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Download an official archive, verify it and unpack it below the data folder; run again to resume
    Fetch {
        /// The set
        #[arg(value_enum)]
        set: FetchedSet,
        /// Download from here instead of the official address
        #[arg(long, value_name = "URL")]
        base_url: Option<String>,
    },
    /// Write a set's published folders as the files of 32x32-pixel records that experiments read
    Convert(convert::Arguments),
    /// Count the images and classes of a set, and compare with the numbers published
    Show {
        /// SET:SPLIT or folder:PATH
        set: SetArgument,
    },
}

/// Where Tiny-ImageNet is published, without a checksum.
const TINY_IMAGENET_URL: &str = "http://cs231n.stanford.edu/tiny-imagenet-200.zip";

/// What `fetch` can be asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FetchedSet {
    /// 162 MiB to download
    Cifar10,
    /// 161 MiB to download
    Cifar100,
    /// Published without a checksum: says how to get it by hand
    #[value(name = "tinyimagenet")]
    TinyImageNet,
}

pub fn run(
    action: &Action,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match action {
        Action::Fetch { set, base_url } => {
            let archive = match set {
                FetchedSet::Cifar10 => DatasetArchive::Cifar10,
                FetchedSet::Cifar100 => DatasetArchive::Cifar100,
                FetchedSet::TinyImageNet => return tiny_imagenet(global, terminal),
            };
            fetch(archive, base_url.as_deref(), global, terminal)
        }
        Action::Convert(arguments) => convert::run(arguments, global, terminal),
        Action::Show { set } => show(set, global, terminal),
    }
}

/// What `fetch` prints.
#[derive(Serialize)]
struct Fetched {
    set: &'static str,
    folder: std::path::PathBuf,
    already_present: bool,
}

/// Tiny-ImageNet comes without a checksum and over plain HTTP: what arrives could not be verified, so it is left to the user.
fn tiny_imagenet(global: &GlobalArguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    let folder = global.data.join(TINY_IMAGENET_FOLDER);
    if !folder.join("wnids.txt").is_file() {
        return Err(usage(format!(
            "Tiny-ImageNet is published without a checksum, so a download cannot be verified and is left to you: \
             unzip {TINY_IMAGENET_URL} (about 240 MB) in {}, so that {} exists; the set is then called tinyimagenet, and \
             `perennial data convert tinyimagenet` makes the files of tinyimagenet32",
            global.data.display(),
            folder.join("wnids.txt").display()
        )));
    }
    let answer = Fetched {
        set: "tinyimagenet",
        folder,
        already_present: true,
    };
    terminal.result(&answer, |_| {
        format!(
            "tinyimagenet was there already: {}",
            answer.folder.display()
        )
    })?;
    Ok(ExitStatus::Done)
}

fn fetch(
    archive: DatasetArchive,
    base_url: Option<&str>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let progress = CountedProgress::bytes(terminal, format!("fetching {}", archive.name()));
    let fetched = perennial_data::fetch(archive, &global.data, base_url, &mut |state| {
        progress.set(state.received_bytes, state.total_bytes);
    })?;
    if !fetched.already_present {
        progress.finish();
    }
    let answer = Fetched {
        set: archive.name(),
        folder: fetched.folder,
        already_present: fetched.already_present,
    };
    terminal.result(&answer, |_| {
        let how = if answer.already_present {
            "was there already"
        } else {
            "fetched"
        };
        format!("{} {how}: {}", answer.set, answer.folder.display())
    })?;
    Ok(ExitStatus::Done)
}

/// What a set holds.
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
    #[serde(flatten)]
    files: FilesRecord,
}

fn show(
    argument: &SetArgument,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let set = argument.0.load(&global.data)?;
    let summary = summarize(argument.0.describe(), &set);
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
        if let Some(completeness) = set.completeness() {
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
    Summary {
        set: name,
        images: set.len(),
        channels: set.channels(),
        height: set.height(),
        width: set.width(),
        classes: counts.len(),
        images_per_class: [
            counts.values().copied().min().unwrap_or(0),
            counts.values().copied().max().unwrap_or(0),
        ],
        sha256: set.content_sha256(),
        files: FilesRecord::of(set),
    }
}
