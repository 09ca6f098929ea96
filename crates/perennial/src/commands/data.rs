//! `perennial data`: download and inspect image sets.

use std::collections::BTreeMap;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;
use perennial_data::catalogue::FOLDER_SIZE;
use perennial_data::folder::LabelledFolder;
use perennial_data::pictures::LeftOut;
use perennial_data::{ContentHash, DatasetArchive, ImageSet};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::left_out::{self, LeftOutAnswer};
use crate::progress::CountedProgress;
use crate::service_client::trust;
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
    /// Count the images and classes of a set, and what of a folder cannot be used
    Show {
        /// SET:SPLIT, or folder:DIR for pictures at any depth
        set: SetArgument,
        /// For a folder, stop at the first picture that cannot be used, instead of counting and naming it
        #[arg(long)]
        strict: bool,
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
        Action::Show { set, strict } => show(set, *strict, global, terminal),
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
    let fetched = perennial_data::fetch(
        archive,
        &global.data,
        base_url,
        Some(trust::of_process()?),
        &mut |state| {
            progress.set(state.received_bytes, state.total_bytes);
        },
    )?;
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
    /// Of a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutAnswer>,
}

fn show(
    argument: &SetArgument,
    strict: bool,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let mut left_out = LeftOut::default();
    let summary = match argument.folder() {
        Some(path) => {
            let mut folder = LabelledFolder::list(path)?.strict(strict);
            let summary = summarize_folder(argument.0.describe(), &mut folder, terminal)?;
            left_out = folder.left_out().clone();
            summary
        }
        None if strict => return Err(usage("--strict is for folder:DIR")),
        None => summarize(argument.0.describe(), &argument.0.load(&global.data)?),
    };
    terminal.result(&summary, |_| {
        let [fewest, most] = summary.images_per_class;
        let each = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
        let left_out = match left_out.is_empty() {
            true => String::new(),
            false => format!(
                "{:>8}  files left out\n{}",
                left_out.len(),
                left_out::lines(&left_out, "  ")
            ),
        };
        format!(
            "{}: {} images of {}x{}x{} (channels, height, width), {} classes of {each} images\n{left_out}sha256 {}",
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
    Summary::new(name, set.shape(), &counts, set.content_sha256())
}

/// The same as for the set that training would see, with a few pictures in memory at a time.
fn summarize_folder(
    name: String,
    folder: &mut LabelledFolder,
    terminal: &Terminal,
) -> anyhow::Result<Summary> {
    let shape = [3, FOLDER_SIZE, FOLDER_SIZE];
    let mut counts = BTreeMap::<u32, usize>::new();
    let mut content = ContentHash::new(shape);
    let progress = CountedProgress::new(terminal, &name, folder.len() as u64, "files");
    folder.squares(FOLDER_SIZE, |squares| {
        for square in &squares {
            *counts.entry(square.label).or_default() += 1;
            content.add(square.label, &square.pixels);
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
        }
    }
}
