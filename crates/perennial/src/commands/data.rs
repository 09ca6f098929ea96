//! `perennial data`: download and inspect image sets.

use std::collections::BTreeMap;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use perennial_data::{DatasetArchive, ImageSet};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::ExitStatus;
use crate::progress::CountedProgress;
use crate::set_argument::SetArgument;
use crate::terminal::Terminal;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Download an official archive, verify it and unpack it below the data folder; run again to resume
    Fetch {
        /// The set
        #[arg(value_parser = archive())]
        set: DatasetArchive,
        /// Download from here instead of the official address
        #[arg(long, value_name = "URL")]
        base_url: Option<String>,
    },
    /// Count the images and classes of a set
    Show {
        /// SET:SPLIT or folder:PATH
        set: SetArgument,
    },
}

fn archive() -> impl TypedValueParser<Value = DatasetArchive> {
    PossibleValuesParser::new(DatasetArchive::ALL.map(DatasetArchive::name)).map(|name| {
        DatasetArchive::from_name(&name).expect("the possible values are the archives' names")
    })
}

pub fn run(
    action: &Action,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match action {
        Action::Fetch { set, base_url } => fetch(*set, base_url.as_deref(), global, terminal),
        Action::Show { set } => show(set, global, terminal),
    }
}

fn fetch(
    archive: DatasetArchive,
    base_url: Option<&str>,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Answer {
        set: &'static str,
        folder: std::path::PathBuf,
        already_present: bool,
    }
    let progress = CountedProgress::bytes(terminal, format!("fetching {}", archive.name()));
    let fetched = perennial_data::fetch(archive, &global.data, base_url, &mut |state| {
        progress.set(state.received_bytes, state.total_bytes);
    })?;
    if !fetched.already_present {
        progress.finish();
    }
    let answer = Answer {
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
        let each = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
        format!(
            "{}: {} images of {}x{}x{} (channels, height, width), {} classes of {each} images\nsha256 {}",
            summary.set,
            summary.images,
            summary.channels,
            summary.height,
            summary.width,
            summary.classes,
            summary.sha256
        )
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
    }
}
