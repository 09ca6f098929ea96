//! `perennial spaces`: embedding spaces of encoders that are not in the registry.

use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgGroup, Subcommand, ValueEnum};
use perennial_core::{Metric, Modality, Output, Registry, SpaceId, SpaceSpec, normalize_rows};
use perennial_formats::{Format, Header, VectorSet, create};
use perennial_upgrade::{CANARY_TOLERANCE, Canaries, CanaryError};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Register the space of an outside encoder, or of an API's model
    Add(AddArguments),
    /// List registered spaces and those of model versions
    List,
    /// Show a registered space
    Show {
        /// Name of the space
        name: SpaceId,
    },
    /// Compare fresh embeddings of the canaries with those registered: exit code 3 if the encoder has changed
    Check(CheckArguments),
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("length").required(true).multiple(true).args(["dim", "canaries"]))]
pub struct AddArguments {
    /// Name of the space, such as minilm-l6
    name: SpaceId,
    /// Length of its vectors [default: that of the canaries]
    #[arg(long)]
    dim: Option<usize>,
    /// How its vectors are compared
    #[arg(long, value_enum, default_value_t)]
    metric: MetricArgument,
    /// What is embedded
    #[arg(long, value_enum, default_value_t)]
    modality: ModalityArgument,
    /// What produces the embeddings, in words
    #[arg(long, default_value = "", value_name = "TEXT")]
    producer: String,
    /// Embeddings of a few fixed inputs (a file in any format, best with ids), by which a later change of the encoder is noticed
    #[arg(long, value_name = "FILE")]
    canaries: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct CheckArguments {
    /// Name of the space
    name: SpaceId,
    /// The same inputs as the registered canaries, embedded now
    #[arg(long, value_name = "FILE")]
    canaries: PathBuf,
}

/// [`Metric`] on the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum MetricArgument {
    #[default]
    Cosine,
    Dot,
    Euclidean,
}

/// [`Modality`] on the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ModalityArgument {
    #[default]
    Image,
    Text,
    Audio,
    Other,
}

impl From<MetricArgument> for Metric {
    fn from(argument: MetricArgument) -> Self {
        match argument {
            MetricArgument::Cosine => Self::Cosine,
            MetricArgument::Dot => Self::Dot,
            MetricArgument::Euclidean => Self::Euclidean,
        }
    }
}

impl From<ModalityArgument> for Modality {
    fn from(argument: ModalityArgument) -> Self {
        match argument {
            ModalityArgument::Image => Self::Image,
            ModalityArgument::Text => Self::Text,
            ModalityArgument::Audio => Self::Audio,
            ModalityArgument::Other => Self::Other,
        }
    }
}

pub fn run(
    action: &Action,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    match action {
        Action::Add(arguments) => add(arguments, global, terminal),
        Action::List => list(global, terminal),
        Action::Show { name } => {
            let spec = global.open_registry()?.space(name)?;
            show(&spec, terminal)
        }
        Action::Check(arguments) => check(arguments, global, terminal),
    }
}

fn add(
    arguments: &AddArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    let canaries = arguments
        .canaries
        .as_ref()
        .map(|file| read_canaries(file))
        .transpose()
        .context("--canaries")?;
    let dim = match (arguments.dim, &canaries) {
        (Some(dim), Some(canaries)) if dim != canaries.dim() => {
            return Err(usage(format!(
                "--dim {dim}: the canaries have {} dimensions",
                canaries.dim()
            )));
        }
        (Some(dim), _) => dim,
        (None, Some(canaries)) => canaries.dim(),
        (None, None) => return Err(usage("pass --dim, or --canaries")),
    };
    let spec = SpaceSpec::new(
        arguments.name.clone(),
        dim,
        arguments.metric.into(),
        arguments.modality.into(),
        arguments.producer.clone(),
        perennial_train::now(),
    );
    let bytes = canaries
        .map(|canaries| canary_bytes(&canaries))
        .transpose()?;
    let spec = global
        .create_registry()?
        .add_space(spec, bytes.as_deref())?;
    show(&spec, terminal)
}

fn show(spec: &SpaceSpec, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    terminal.result(spec, |_| {
        let lower = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
        let mut text = format!(
            "{}: {} dimensions, {}, {}\n",
            spec.name,
            spec.dim,
            lower(&spec.metric),
            lower(&spec.modality)
        );
        if !spec.producer.is_empty() {
            text.push_str(&format!("producer  {}\n", spec.producer));
        }
        text.push_str(&format!("created   {}\n", spec.created));
        if let Some(hash) = &spec.canaries_sha256 {
            text.push_str(&format!("canaries  {hash}\n"));
        }
        text
    })?;
    Ok(ExitStatus::Done)
}

fn list(global: &GlobalArguments, terminal: &Terminal) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Entry {
        name: String,
        dim: usize,
        kind: &'static str,
    }
    #[derive(Serialize)]
    struct Answer {
        spaces: Vec<Entry>,
    }
    let registry = global.open_registry()?;
    let mut spaces = Vec::new();
    for name in registry.space_names()? {
        let spec = registry.space(&name)?;
        spaces.push(Entry {
            name: name.to_string(),
            dim: spec.dim,
            kind: "outside",
        });
    }
    for version in registry.list()? {
        spaces.push(Entry {
            name: version.name,
            dim: version.dim,
            kind: "version",
        });
    }
    let answer = Answer { spaces };
    terminal.result(&answer, |_| {
        let line = |entry: &Entry| format!("{:<24} {:>6}  {}\n", entry.name, entry.dim, entry.kind);
        let lines: String = answer.spaces.iter().map(line).collect();
        match lines.is_empty() {
            true => "no spaces yet; register one with `perennial spaces add`\n".to_owned(),
            false => lines,
        }
    })?;
    Ok(ExitStatus::Done)
}

fn check(
    arguments: &CheckArguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    #[derive(Serialize)]
    struct Answer<'a> {
        space: &'a SpaceId,
        canaries: usize,
        largest_distance: f64,
        tolerance: f64,
        changed: bool,
    }
    let registry = global.open_registry()?;
    let spec = registry.space(&arguments.name)?;
    let known = registered(&registry, &spec)?;
    let fresh = read_canaries(&arguments.canaries)?;
    let file = arguments.canaries.display();
    if let (Some(ids), Some(fresh_ids)) = (known.ids(), fresh.ids())
        && ids.len() == fresh_ids.len()
        && ids != fresh_ids
    {
        return Err(usage(format!(
            "{file}: its ids are not those of the registered canaries; embed the same inputs in the same order"
        )));
    }
    let largest_distance = known
        .largest_distance(fresh.vectors(), fresh.dim())
        .map_err(|error| match error {
            CanaryError::Shape { .. } => usage(format!("{file}: {error}")),
            error => error.into(),
        })?;
    let answer = Answer {
        space: &spec.name,
        canaries: known.len(),
        largest_distance,
        tolerance: CANARY_TOLERANCE,
        changed: largest_distance > CANARY_TOLERANCE,
    };
    terminal.result(&answer, |_| {
        let result = match answer.changed {
            true => "the encoder has changed: vectors that it makes now are of another space",
            false => "unchanged",
        };
        format!(
            "{}: {result}; largest distance of {} canaries {largest_distance:.2e}, allowed {CANARY_TOLERANCE}\n",
            answer.space, answer.canaries
        )
    })?;
    Ok(match answer.changed {
        true => ExitStatus::GateMissed,
        false => ExitStatus::Done,
    })
}

fn registered(registry: &Registry, spec: &SpaceSpec) -> anyhow::Result<Canaries> {
    Canaries::of(registry, spec)?.ok_or_else(|| {
        usage(format!(
            "space {} has no canaries; register it with --canaries FILE",
            spec.name
        ))
    })
}

/// Unit vectors.
fn read_canaries(file: &std::path::Path) -> anyhow::Result<VectorSet> {
    let set = perennial_formats::read(file)?;
    set.check_directions()?;
    let (dim, space) = (set.dim(), set.space().cloned());
    let mut vectors = set.vectors().to_vec();
    normalize_rows(&mut vectors, dim)?;
    Ok(set.replace_vectors(dim, vectors, space)?)
}

/// The canaries as a safetensors file.
fn canary_bytes(canaries: &VectorSet) -> anyhow::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("canaries.safetensors");
    let header = Header {
        dim: canaries.dim(),
        rows: Some(canaries.len() as u64),
        space: None,
        format: Format::Safetensors,
    };
    let mut writer = create(Output::prepare(&path)?, Format::Safetensors, &header)?;
    writer.write(canaries)?;
    writer.finish()?;
    Ok(fs_err::read(path)?)
}
