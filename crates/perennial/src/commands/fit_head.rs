//! `perennial fit-head`: a linear layer onto the simplex, trained on embeddings that exist already.

mod figures;
mod inputs;
mod placement;

use std::path::PathBuf;

use clap::ValueEnum;
use perennial_bridge::Bridge;
use perennial_core::output::check_folder;
use perennial_core::{ModelVersion, Registry, RegistryError, SpaceId, SpaceRef, VertexEnd};
use perennial_formats::Label;
use perennial_train::head::{HeadConfig, HeadEpoch, HeadObserver, held_out_rows};
use perennial_train::objective::Hoc;
use perennial_train::{HeadVersion, check_foldable, with_head};
use perennial_upgrade::BridgeRegistry;
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::commands::bridge::keep_bridge;
use crate::exit_status::{ExitStatus, usage};
use crate::interrupt::Interrupt;
use crate::outside_publishing::publish_layered;
use crate::progress::CountedProgress;
use crate::terminal::Terminal;
use crate::vector_argument::{VectorArgument, VectorLoader};
use figures::Figures;
use inputs::{Inputs, others};
use placement::{Asked, Placement};

/// The largest share of rows that may be held out.
const MAX_HELD_OUT: f64 = 0.9;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The features stay as they are; only the layer is trained, so a hundred thousand rows take minutes. It has no bias and takes features at unit \
length. Of a version of the registry, whether it was trained here or imported, the result is a new version. Of a file of other features it is \
a bridge, which `bridge apply` and `certify` take: from the space of the features to that of --reference, or to a new one.")]
pub struct Arguments {
    /// Embeddings to train on: a file, or VERSION@SET:SPLIT
    #[arg(value_name = "FEATURES")]
    features: VectorArgument,
    /// Classes of the embeddings, where the file itself has none
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Embeddings of the same inputs by the version that the gallery holds, on the same simplex: a file, or VERSION@SET:SPLIT. Items are then
    /// drawn to their old embeddings too
    #[arg(long, value_name = "FILE")]
    reference: Option<VectorArgument>,
    /// How rows of the two belong together [default: id if both have ids, else row]
    #[arg(long = "match", value_enum, value_name = "HOW", requires = "reference")]
    matching: Option<MatchArgument>,
    /// Leave out what has no embedding in --reference, instead of refusing it
    #[arg(long, requires = "reference")]
    skip_unpaired: bool,
    /// Vertices of the simplex; embeddings have one dimension less [default: those of --reference, else 1024]
    #[arg(long, value_name = "K")]
    vertices: Option<usize>,
    /// End of the simplex at which class 0 has its vertex [default: that of --reference, else front]
    #[arg(long, value_enum, conflicts_with = "slot")]
    end: Option<EndArgument>,
    /// Owner of the vertices to use, as allocated by `perennial slots`
    #[arg(long, value_name = "OWNER")]
    slot: Option<String>,
    /// Weight of the classes against the old embeddings, from 0 to 1
    #[arg(long, default_value_t = Hoc::default().lambda, requires = "reference")]
    lambda: f64,
    /// Inverse temperature of the contrastive term
    #[arg(long, default_value_t = Hoc::default().mu, requires = "reference")]
    mu: f64,
    /// Passes over the rows
    #[arg(long, default_value_t = HeadConfig::default().epochs)]
    epochs: usize,
    /// Rows of a step; fewer where that would be less than 16 steps a pass, down to 32
    #[arg(long, value_name = "ROWS", default_value_t = HeadConfig::default().batch_size)]
    batch_size: usize,
    /// Learning rate of the first epoch
    #[arg(long, value_name = "RATE", default_value_t = HeadConfig::default().learning_rate)]
    learning_rate: f64,
    /// Weight decay
    #[arg(long, value_name = "DECAY", default_value_t = HeadConfig::default().weight_decay)]
    weight_decay: f64,
    /// Share of every class that is not trained on and measured in the end, from 0 to 0.9
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    held_out: f64,
    /// Seed of the first weights, of the order of rows and of what is held out
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Name of the space of the embeddings, where the file does not state it
    #[arg(long, value_name = "NAME")]
    space: Option<SpaceId>,
    /// Name of the space of --reference, where the file does not state it
    #[arg(long, value_name = "NAME", requires = "reference")]
    reference_space: Option<SpaceId>,
    /// Name of the space that a bridge without --reference leads to
    #[arg(long, value_name = "NAME", conflicts_with = "reference")]
    to_space: Option<SpaceId>,
    /// Folder to write the layer to, as a bridge [default: a version of the registry, or a number in its folder `bridges`]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// How rows belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MatchArgument {
    /// Row by row
    Row,
    /// By id
    Id,
}

/// An end of the simplex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EndArgument {
    /// Class y at vertex y, as in pre-training
    Front,
    /// Class y at vertex K - 1 - y, as in training on local classes
    Back,
}

impl From<EndArgument> for VertexEnd {
    fn from(argument: EndArgument) -> Self {
        match argument {
            EndArgument::Front => Self::Front,
            EndArgument::Back => Self::Back,
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bridge: Option<&'a str>,
    from: &'a SpaceRef,
    to: SpaceRef,
    dim: usize,
    #[serde(flatten)]
    placement: &'a Placement,
    classes: usize,
    /// Labels by class, where they are texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a [Label]>,
    rows: usize,
    held_out_rows: usize,
    /// Rows of the features and of the reference that have no counterpart.
    #[serde(skip_serializing_if = "Option::is_none")]
    unpaired: Option<[usize; 2]>,
    training: Option<TrainingAnswer>,
    figures: &'a Figures,
    seed: u64,
    warnings: &'a [String],
}

/// The last epoch.
#[derive(Clone, Copy, Serialize)]
struct TrainingAnswer {
    epochs: usize,
    loss: f64,
    accuracy: f64,
    seconds: f64,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if !(0.0..=MAX_HELD_OUT).contains(&arguments.held_out) {
        return Err(usage(format!(
            "--held-out {}: must be from 0 to {MAX_HELD_OUT}",
            arguments.held_out
        )));
    }
    match &arguments.out {
        Some(folder) => Bridge::check_target(folder)?,
        // Where the result will be written, so that hours of training are not in vain.
        None => check_folder(&global.registry)?,
    }
    let interrupt = Interrupt::listen()?;
    let loader = VectorLoader {
        global,
        terminal,
        interrupt,
        pictures: false,
    };
    // Features of a file need no registry.
    let registry = global.open_registry().ok();
    let mut features = loader.load(&arguments.features, ("--space", arguments.space.as_ref()))?;
    features.read_labels(arguments.labels.as_deref())?;
    let encoder = version_of(registry.as_ref(), &features.rows.space)?;
    let encoder = encoder.filter(|_| arguments.out.is_none());
    match (&encoder, &registry) {
        (Some(version), _) => check_foldable(version)?,
        (None, Some(registry)) if arguments.out.is_none() => {
            check_folder(BridgeRegistry::of(registry).folder())?;
        }
        (None, _) => {}
    }
    let reference = arguments
        .reference
        .as_ref()
        .map(|argument| {
            let space = arguments.reference_space.as_ref();
            loader.load(argument, ("--reference-space", space))
        })
        .transpose()?;
    let older = match &reference {
        Some(reference) => version_of(registry.as_ref(), &reference.rows.space)?,
        None => None,
    };
    let by_id = arguments.matching.map(|how| how == MatchArgument::Id);
    let inputs = Inputs::of(features, reference, by_id, arguments.skip_unpaired)?;

    let asked = Asked {
        vertices: arguments.vertices,
        end: arguments.end.map(VertexEnd::from),
        slot: arguments.slot.as_deref(),
    };
    let placement = Placement::find(&asked, registry.as_ref(), older.as_ref(), &inputs)?;
    let config = arguments.config(&placement);
    let held_out = held_out_rows(&inputs.classes, arguments.held_out, arguments.seed);
    let fit = others(inputs.classes.len(), &held_out);
    let mut observer = Observer::new(terminal, interrupt, &config, fit.len());
    let weight = inputs.train(&config, &fit, global, &mut observer)?;
    let training = observer.finish();

    let to = match &inputs.reference {
        Some(reference) => reference.space.clone(),
        None => SpaceRef {
            dim: placement.vertices - 1,
            id: arguments.to_space.clone(),
            fingerprint: None,
        },
    };
    let layer = inputs.bridge(&weight, &fit, to)?;
    drop(weight);
    let figures = Figures::measure(&inputs, &layer, &config, [&fit, &held_out])?;
    let warnings = figures.warnings(inputs.class_count);

    let (mut version, mut bridge) = (None, None);
    match (&encoder, &registry) {
        (Some(encoder), Some(registry)) => {
            let head = HeadVersion {
                places: config.vertex_map(),
                classes: inputs.class_count,
                reference: older.as_ref(),
                method: inputs.method().to_owned(),
                data: inputs.describe(fit.len()),
                seed: arguments.seed,
            };
            let (draft, content) = with_head(registry, encoder, &layer, head)?;
            version = Some(publish_layered(registry, encoder, draft, &content, global)?);
        }
        _ => bridge = Some(keep_bridge(&layer, arguments.out.as_deref(), global)?),
    }
    let answer = Answer {
        version: version.as_ref().map(|version| version.name.as_str()),
        bridge: bridge.as_deref(),
        from: layer.from(),
        to: match &version {
            Some(version) => version.space(),
            None => layer.to().clone(),
        },
        dim: layer.to().dim,
        placement: &placement,
        classes: inputs.class_count,
        labels: inputs.names.as_deref(),
        rows: fit.len(),
        held_out_rows: held_out.len(),
        unpaired: inputs.unpaired,
        training,
        figures: &figures,
        seed: arguments.seed,
        warnings: &warnings,
    };
    terminal.result(&answer, |_| render(&answer))?;
    Ok(ExitStatus::Done)
}

impl Arguments {
    fn config(&self, placement: &Placement) -> HeadConfig {
        HeadConfig {
            loss: Hoc {
                vertices: placement.vertices,
                lambda: self.lambda,
                mu: self.mu,
                ..Hoc::default()
            },
            end: placement.vertex_end,
            skipped: placement.skipped_vertices,
            epochs: self.epochs,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            seed: self.seed,
            ..HeadConfig::default()
        }
    }
}

/// The version whose embeddings are of a space, if it is one of the registry's.
fn version_of(
    registry: Option<&Registry>,
    space: &SpaceRef,
) -> anyhow::Result<Option<ModelVersion>> {
    let (Some(id), Some(registry)) = (&space.id, registry) else {
        return Ok(None);
    };
    let version = match registry.get(id.as_str()) {
        Ok(version) => version,
        Err(RegistryError::Unknown { .. } | RegistryError::DanglingAlias { .. }) => {
            return Ok(None);
        }
        // A damaged description does not turn a version into a bridge.
        Err(error) => return Err(error.into()),
    };
    // An alias is no name of a space.
    let same = version.name == id.as_str() && version.space().accept(space).is_ok();
    Ok(same.then_some(version))
}

/// Shows the progress, and asks for Ctrl-C.
struct Observer<'a> {
    terminal: &'a Terminal,
    interrupt: Interrupt,
    progress: Option<CountedProgress>,
    epochs: usize,
    last: Option<HeadEpoch>,
}

impl<'a> Observer<'a> {
    fn new(terminal: &'a Terminal, interrupt: Interrupt, config: &HeadConfig, rows: usize) -> Self {
        let total = rows as u64 * config.epochs as u64;
        Self {
            terminal,
            interrupt,
            progress: Some(CountedProgress::new(terminal, "training", total, "rows")),
            epochs: config.epochs,
            last: None,
        }
    }

    fn finish(mut self) -> Option<TrainingAnswer> {
        let took = self.progress.take()?.finish();
        let last = self.last?;
        Some(TrainingAnswer {
            epochs: self.epochs,
            loss: last.loss,
            accuracy: last.accuracy,
            seconds: took.as_secs_f64(),
        })
    }
}

impl HeadObserver for Observer<'_> {
    fn step(&mut self, rows: usize) {
        if let Some(progress) = &self.progress {
            progress.advance(rows as u64);
        }
    }

    fn epoch(&mut self, epoch: &HeadEpoch) {
        self.last = Some(*epoch);
        if !self.terminal.draws_bars() {
            self.terminal.say(format_args!(
                "epoch {}/{}: loss {:.3}, accuracy {:.1} %",
                epoch.epoch + 1,
                self.epochs,
                epoch.loss,
                100.0 * epoch.accuracy
            ));
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupt.pressed()
    }
}

fn render(answer: &Answer<'_>) -> String {
    let mut text = match (answer.version, answer.bridge) {
        (Some(version), _) => format!("{version}: {} with a linear layer", answer.from),
        (None, bridge) => format!(
            "{}: a linear layer from {} to {}",
            bridge.unwrap_or_default(),
            answer.from,
            answer.to
        ),
    };
    text.push_str(&format!(
        ", {} classes on a simplex of {} vertices ({}), {} dimensions\n",
        answer.classes,
        answer.placement.vertices,
        answer.placement.describe(),
        answer.dim
    ));
    text.push_str(&format!(
        "trained on {} rows, measured on {} held out\n",
        answer.rows, answer.held_out_rows
    ));
    if let Some([features, reference]) = answer.unpaired
        && [features, reference] != [0, 0]
    {
        text.push_str(&format!(
            "left out, since only one side has them: {features} of the features, {reference} of --reference\n"
        ));
    }
    text.push_str(&answer.figures.describe());
    for warning in answer.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    if answer.version.is_some() {
        text.push_str("certify it before it is used\n");
    }
    text
}
