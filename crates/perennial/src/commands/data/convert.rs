//! `perennial data convert`: the published folders of a set become files of records.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use perennial_core::holds;
use perennial_data::catalogue::TINY_IMAGENET_FOLDER;
use perennial_data::tinyimagenet::official::{self, Listing, Split};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::progress::CountedProgress;
use crate::terminal::Terminal;

/// The classes by number, id and name.
const CLASSES_FILE: &str = "classes.tsv";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Data set to convert
    #[arg(value_enum)]
    set: ConvertedSet,
    /// Folder that was unzipped [default: tiny-imagenet-200 in the data folder]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Folder for train.bin, val.bin and classes.tsv [default: tinyimagenet32 in the data folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ConvertedSet {
    /// Every 64x64 image becomes 32x32 by means of 2x2 pixels
    #[value(name = "tinyimagenet")]
    TinyImageNet,
}

#[derive(Serialize)]
struct Answer {
    set: &'static str,
    files: Vec<Written>,
    classes: PathBuf,
}

/// A file of records.
#[derive(Serialize)]
struct Written {
    file: PathBuf,
    images: usize,
    official_images: usize,
    partial: bool,
    missing: Vec<String>,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let ConvertedSet::TinyImageNet = arguments.set;
    let from = arguments
        .from
        .clone()
        .unwrap_or_else(|| global.data.join(TINY_IMAGENET_FOLDER));
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| global.data.join("tinyimagenet32"));
    if !from.is_dir() {
        return Err(usage(format!(
            "{} is not a folder; unzip Tiny-ImageNet there (`perennial data fetch tinyimagenet` says how), or name its folder with --from",
            from.display()
        )));
    }
    let listings = listings(&from)?;
    let classes = out.join(CLASSES_FILE);
    let names = class_table(&from)?;
    // Check that every output file can be written before any decoding.
    for (split, _) in &listings {
        official::check_free(&records_path(&out, *split))?;
    }
    if !holds(&classes, names.as_bytes()).unwrap_or(false) {
        official::check_free(&classes)?;
    }

    let total: usize = listings.iter().map(|(_, listing)| listing.len()).sum();
    let progress =
        CountedProgress::new(terminal, "converting tinyimagenet", total as u64, "images");
    let mut files = Vec::new();
    for (split, listing) in &listings {
        let file = records_path(&out, *split);
        listing.write_records(&file, &mut |images| progress.advance(images as u64))?;
        let completeness = listing.completeness();
        if completeness.is_partial() {
            tracing::warn!(
                "tinyimagenet {} is a partial set: {completeness}",
                split.name()
            );
        }
        files.push(Written {
            file,
            images: completeness.images,
            official_images: completeness.official_images,
            partial: completeness.is_partial(),
            missing: completeness.missing.clone(),
        });
    }
    progress.finish();
    perennial_core::write_atomically(&classes, names)?;
    let answer = Answer {
        set: "tinyimagenet",
        files,
        classes,
    };
    terminal.result(&answer, |_| text(&answer))?;
    Ok(ExitStatus::Done)
}

/// The splits whose folders are there.
fn listings(from: &Path) -> anyhow::Result<Vec<(Split, Listing)>> {
    let mut listings = Vec::new();
    for split in Split::ALL {
        if from.join(split.name()).is_dir() {
            listings.push((split, official::list(from, split)?));
        }
    }
    if listings.is_empty() {
        return Err(usage(format!(
            "{} has neither a folder train nor a folder val; name the folder that holds wnids.txt",
            from.display()
        )));
    }
    Ok(listings)
}

fn records_path(out: &Path, split: Split) -> PathBuf {
    out.join(format!("{}.bin", split.name()))
}

fn class_table(from: &Path) -> anyhow::Result<String> {
    let ids = official::class_ids(from)?;
    let names = official::class_names(from)
        .with_context(|| format!("names of the classes in {}", from.display()))?;
    let lines = ids.iter().zip(names).enumerate();
    Ok(lines
        .map(|(label, (id, name))| format!("{label}\t{id}\t{name}\n"))
        .collect())
}

fn text(answer: &Answer) -> String {
    let lines: Vec<String> = answer
        .files
        .iter()
        .map(|written| {
            let part = if written.partial {
                format!(" of {} published", written.official_images)
            } else {
                String::new()
            };
            format!(
                "{}: {} images{part}",
                written.file.display(),
                written.images
            )
        })
        .collect();
    lines.join("\n")
}
