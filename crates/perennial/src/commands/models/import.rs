//! `perennial models import`: another program's weights become a version, or an error names the tensor that does not fit.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use perennial_core::{
    Classifier, ClassifierKind, Preprocessing, Registry, Role, Simplex, VersionDraft, VertexEnd,
};
use perennial_train::config::PreprocessingConfig;
use perennial_train::network::{BackboneKind, Network, NetworkConfig, Stem};
use perennial_train::pytorch::{read_checkpoint, take_simplex_classifier};
use perennial_train::state_dict::{StateDict, load_state_dict, state_dict, to_safetensors};
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::terminal::Terminal;

/// RGB: what every reader of image sets yields.
const CHANNELS: usize = 3;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Checkpoint: .pt, .pth or .safetensors
    file: PathBuf,
    /// Backbone of the network
    #[arg(long, value_enum, default_value_t)]
    backbone: BackboneArgument,
    /// First layers of a ResNet
    #[arg(long, value_enum, default_value_t)]
    stem: StemArgument,
    /// Channels after the stem
    #[arg(long, default_value_t = 64, value_parser = within::<1, 1024>)]
    width: usize,
    /// Vertices of the simplex classifier; without it the classifier is linear
    #[arg(long, value_parser = within::<2, 65_536>)]
    vertices: Option<usize>,
    /// The end of the simplex that the model's classes take: front for pre-training, back for local tasks
    #[arg(long, value_enum, default_value_t)]
    vertex_end: VertexEndArgument,
    /// Classes that the model was trained on
    #[arg(long)]
    classes: usize,
    /// Classes at the front of the simplex, where --vertex-end is back
    #[arg(long, default_value_t = 0)]
    pretrained_classes: usize,
    /// Channel means of its input, fractions
    #[arg(long, value_delimiter = ',', num_args = 3, value_name = "R,G,B")]
    mean: Option<Vec<f32>>,
    /// Channel standard deviations of its input, fractions
    #[arg(long, value_delimiter = ',', num_args = 3, value_name = "R,G,B")]
    std: Option<Vec<f32>>,
    /// Rows and columns of its input, in pixels
    #[arg(long, default_value_t = 32, value_parser = within::<8, 1024>)]
    size: usize,
    /// Alias for the new version
    #[arg(long)]
    alias: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum BackboneArgument {
    #[default]
    Resnet18,
    Small,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum StemArgument {
    #[default]
    Imagenet,
    Cifar,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum VertexEndArgument {
    #[default]
    Front,
    Back,
}

#[derive(Serialize)]
struct Answer<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<&'a str>,
    tensors: usize,
    dim: usize,
    weights_sha256: &'a str,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if !arguments.file.is_file() {
        return Err(usage(format!(
            "{} does not exist or is no file",
            arguments.file.display()
        )));
    }
    if let Some(alias) = &arguments.alias {
        Registry::check_alias(alias).map_err(|error| usage(error.to_string()))?;
    }
    perennial_core::output::check_folder(&global.registry)?;
    let mut state = read_checkpoint(&arguments.file)?;
    let simplex = arguments
        .vertices
        .map(Simplex::new)
        .transpose()
        .map_err(|error| usage(error.to_string()))?;
    match (simplex, state.get("fc1.weight")) {
        (Some(simplex), _) => take_simplex_classifier(&mut state, simplex)?,
        (None, Some(layer)) => {
            let rows = layer.shape.first().copied().unwrap_or(0);
            return Err(usage(format!(
                "{} has an embedding layer of {rows} rows, so its classifier is a simplex: pass --vertices {}",
                arguments.file.display(),
                rows + 1
            )));
        }
        (None, None) => {}
    }
    let state = load_strictly(arguments, simplex, state, global)?;
    let draft = draft(arguments, simplex);
    let weights = to_safetensors(&state, None)?;

    let registry = global.create_registry()?;
    let version = registry.publish(draft, &weights)?;
    if let Some(alias) = &arguments.alias {
        registry.set_alias(alias, &version.name)?;
    }
    let answer = Answer {
        version: &version.name,
        alias: arguments.alias.as_deref(),
        tensors: state.len(),
        dim: version.dim,
        weights_sha256: &version.weights_sha256,
    };
    terminal.result(&answer, |_| {
        let file = arguments.file.display();
        format!(
            "{} from {file}: {} tensors, dimension {}",
            version.name,
            state.len(),
            version.dim
        )
    })?;
    Ok(ExitStatus::Done)
}

/// Puts the weights into the network that the arguments describe and takes them out again under its own names.
fn load_strictly(
    arguments: &Arguments,
    simplex: Option<Simplex>,
    state: StateDict,
    global: &GlobalArguments,
) -> anyhow::Result<StateDict> {
    let config = network_config(arguments);
    let device = global.device.open()?;
    let dim = simplex.map(|simplex| simplex.dim());
    let mut network = Network::new(&config, CHANNELS, dim, 0, &device);
    // Rows are only believed where the values for them are there; any other shape is reported by the strict loading.
    if let Some(classifier) = state.get("fc2.weight")
        && let [rows, features] = classifier.shape[..]
        && features == config.features()
        && Some(classifier.values.len()) == rows.checked_mul(features)
    {
        network = network.with_classifier(rows, 0);
    }
    Ok(state_dict(&load_state_dict(network, state)?))
}

fn network_config(arguments: &Arguments) -> NetworkConfig {
    NetworkConfig {
        backbone: match arguments.backbone {
            BackboneArgument::Resnet18 => BackboneKind::Resnet18,
            BackboneArgument::Small => BackboneKind::Small,
        },
        stem: match arguments.stem {
            StemArgument::Imagenet => Stem::Imagenet,
            StemArgument::Cifar => Stem::Cifar,
        },
        width: arguments.width,
    }
}

fn draft(arguments: &Arguments, simplex: Option<Simplex>) -> VersionDraft {
    let config = network_config(arguments);
    let end = match arguments.vertex_end {
        VertexEndArgument::Front => VertexEnd::Front,
        VertexEndArgument::Back => VertexEnd::Back,
    };
    let defaults = PreprocessingConfig::default();
    VersionDraft {
        dim: simplex.map_or(config.features(), |simplex| simplex.dim()),
        architecture: perennial_train::architecture(
            &config,
            [CHANNELS, arguments.size, arguments.size],
        ),
        preprocessing: Preprocessing {
            mean: arguments
                .mean
                .clone()
                .unwrap_or_else(|| defaults.mean.to_vec()),
            std: arguments
                .std
                .clone()
                .unwrap_or_else(|| defaults.std.to_vec()),
        },
        classifier: Classifier {
            kind: if simplex.is_some() {
                ClassifierKind::Simplex
            } else {
                ClassifierKind::Linear
            },
            vertices: simplex.map(|simplex| simplex.vertices()),
            vertex_end: simplex.map(|_| end),
            classes: arguments.classes,
            pretrained_classes: match end {
                VertexEnd::Front => arguments.classes,
                VertexEnd::Back => arguments.pretrained_classes,
            },
        },
        parent: None,
        role: Role::Imported,
        method: if simplex.is_some() {
            "simplex"
        } else {
            "linear"
        }
        .to_owned(),
        data: format!("imported from {}", file_name(&arguments.file)),
        seed: 0,
        created: perennial_train::now(),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.chars().filter(|c| !c.is_control()).take(255).collect()
}

/// A whole number within limits that keep a slip from asking for all memory.
fn within<const LEAST: usize, const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(value) if (LEAST..=MOST).contains(&value) => Ok(value),
        _ => Err(format!("not a whole number from {LEAST} to {MOST}")),
    }
}
