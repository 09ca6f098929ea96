//! `perennial models import`: publishes another program's weights or encoder as a version, or names what does not fit.

mod answer;
mod endpoint;
mod input;
mod outside;
mod registered_space;
mod whole_number;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use perennial_core::{
    Architecture, Classifier, ClassifierKind, EmbeddingSource, Preprocessing, Registry, Role,
    Simplex, TrainedNetwork, VersionDraft, VersionEncoder, VertexEnd,
};
use perennial_train::import::{
    CheckpointFile, Description, Found, ImportError, Inferred, Selection, network_options,
};
use perennial_train::network::{BackboneKind, NetworkConfig, Stem};
use perennial_train::state_dict::to_safetensors;

use crate::arguments::GlobalArguments;
use crate::exit_status::{ExitStatus, usage};
use crate::network_argument;
use crate::terminal::Terminal;
use answer::{Answer, place, text};
use endpoint::EndpointArguments;
use input::{Input, InputArguments};
use outside::{OutsideArguments, is_outside};
use whole_number::within;

/// RGB, the format of all image sets.
const CHANNELS: usize = 3;

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "perennial models import [OPTIONS] <FILE|DIR>\n       perennial models import [OPTIONS] --endpoint <URL> --model <NAME>",
    after_help = "A .onnx file, or a folder in the layout of a model hub, is imported as it is: an encoder of pictures, of texts or of \
                  both, which this program runs. With --endpoint, the encoder of texts is an embedding service that is asked over \
                  HTTP. Anything else is a checkpoint, whose weights must be those of a supported backbone. \
                  The weights may be nested: state_dict, model, net, module (DataParallel, averaged \
                  weights), _orig_mod (torch.compile). Where a file holds several networks, such as model and model_ema, \
                  --key names one. Backbone, stem, width and the classes of a linear classifier are read from the \
                  tensors. Size, mean and standard deviation are read from a config.json (timm), \
                  preprocessor_config.json or model.toml beside the file; otherwise pass them as options."
)]
pub struct Arguments {
    /// Checkpoint (PyTorch .pt, .pth, .ckpt, .bin, or safetensors), ONNX graph, or folder of a model hub
    #[arg(value_name = "FILE|DIR")]
    file: Option<PathBuf>,
    /// Dictionary with the weights, such as model_ema or state_dict.model; a dot is the top level
    #[arg(long)]
    key: Option<String>,
    /// Backbone of the network [default: read from the tensors]
    #[arg(long, value_parser = network_argument::backbone())]
    backbone: Option<BackboneKind>,
    /// How the network begins [default: read from the tensors]
    #[arg(long, value_parser = network_argument::stem())]
    stem: Option<Stem>,
    /// Channels after the stem, or numbers per patch [default: read from the tensors]
    #[arg(long, value_parser = within::<1, 1024>)]
    width: Option<usize>,
    /// Vertices of the simplex classifier [default: read from a frozen classifier in the file]
    #[arg(long, value_parser = within::<2, 65_536>)]
    vertices: Option<usize>,
    /// End of the simplex from which the model's classes are assigned: front for pre-training, back for local tasks
    #[arg(long, value_enum)]
    vertex_end: Option<VertexEndArgument>,
    /// Number of classes that the model was trained on [default: the rows of a linear classifier]
    #[arg(long, value_parser = within::<1, { u32::MAX as usize }>)]
    classes: Option<usize>,
    /// Number of pre-training classes at the front of the simplex, with --vertex-end back
    #[arg(long)]
    pretrained_classes: Option<usize>,
    #[command(flatten)]
    input: InputArguments,
    /// Alias for the new version
    #[arg(long)]
    alias: Option<String>,
    #[command(flatten)]
    outside: OutsideArguments,
    #[command(flatten)]
    endpoint: EndpointArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VertexEndArgument {
    Front,
    Back,
}

/// Everything about the new version that is not its weights.
struct Facts {
    file: PathBuf,
    key: String,
    network: NetworkConfig,
    simplex: Option<Simplex>,
    classes: Found<usize>,
    vertex_end: VertexEnd,
    skipped_vertices: usize,
    pretrained_classes: usize,
    embedding: EmbeddingSource,
    input: Input,
}

pub fn run(
    arguments: &Arguments,
    global: &GlobalArguments,
    terminal: &Terminal,
) -> anyhow::Result<ExitStatus> {
    if let Some(alias) = &arguments.alias {
        Registry::check_alias(alias).map_err(|error| usage(error.to_string()))?;
    }
    if let Some(url) = arguments.endpoint.url() {
        perennial_core::output::check_folder(&global.registry)?;
        let alias = arguments.alias.as_deref();
        let Arguments {
            endpoint, outside, ..
        } = arguments;
        return endpoint::run(url, endpoint, outside, alias, global, terminal);
    }
    let path = checkpoint_path(arguments)?;
    perennial_core::output::check_folder(&global.registry)?;
    if is_outside(&path) {
        let (size, alias) = (arguments.input.size(), arguments.alias.as_deref());
        return outside::run(&path, &arguments.outside, size, alias, global, terminal);
    }
    let file = CheckpointFile::open(&path)?;
    let selection = file
        .select(arguments.key.as_deref())
        .map_err(as_wrong_usage)?;
    let mut description = Description::beside(&path, &file);
    let inferred = selection.infer();
    let shown = inferred.as_ref().ok().copied();
    check_channels(&path, shown)?;
    let network = match (network(arguments, shown)?, inferred) {
        (Some(network), _) => network,
        (None, Ok(inferred)) => inferred.network,
        (None, Err(error)) => return Err(error.into()),
    };
    let simplex = simplex(arguments, &selection, &description)?;
    let state = selection.weights(&network, CHANNELS, simplex)?;
    let own_side = selection.side(&network);
    if let Some(value) = own_side {
        description.size = Some(Found {
            value,
            source: "position embedding".to_owned(),
        });
    }
    let facts = facts(
        arguments,
        path,
        &selection,
        &description,
        network,
        simplex,
        shown.and_then(|shown| shown.classifier_rows),
    )?;
    let side = facts.input.size.value;
    if own_side.is_some_and(|own| own != side) {
        return Err(usage(format!(
            "--size {side}: the position embedding in {} is for images of {} pixels",
            facts.file.display(),
            own_side.unwrap_or_default()
        )));
    }
    let weights = to_safetensors(&state, None)?;

    let registry = global.create_registry()?;
    let version = registry.publish(draft(&facts), &weights)?;
    if let Some(alias) = &arguments.alias {
        registry.set_alias(alias, &version.name)?;
    }
    let answer = Answer {
        version: &version.name,
        alias: arguments.alias.as_deref(),
        file: &facts.file,
        key: &facts.key,
        tensors: state.len(),
        counters: selection.counters.len(),
        left_out: &selection.left_out,
        network: network_options(&facts.network),
        dim: version.dim,
        classes: facts.classes.clone().into(),
        size: facts.input.size.clone().into(),
        mean: facts.input.mean.clone().into(),
        std: facts.input.std.clone().into(),
        weights_sha256: &version.weights_sha256,
    };
    terminal.result(&answer, |_| text(&answer))?;
    Ok(ExitStatus::Done)
}

/// The checkpoint file. A list of numbers before it may have taken it as its last value.
fn checkpoint_path(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let path = match (&arguments.file, arguments.input.check()?) {
        (Some(file), None) => file.clone(),
        (None, Some(file)) => PathBuf::from(file),
        (Some(_), Some(text)) => {
            return Err(usage(format!(
                "{text}: only one checkpoint file can be imported; remove this argument"
            )));
        }
        (None, None) => {
            return Err(usage(
                "no checkpoint file; pass one: perennial models import FILE --size PIXELS --normalization NAME",
            ));
        }
    };
    if path.exists() {
        return Ok(path);
    }
    Err(usage(format!("{} does not exist", path.display())))
}

/// Errors that another argument can prevent are wrong usage; all others are failures of the file.
fn as_wrong_usage(error: ImportError) -> anyhow::Error {
    match error {
        ImportError::SeveralNetworks { .. }
        | ImportError::UnknownKey { .. }
        | ImportError::Vertices { .. } => usage(error.to_string()),
        other => other.into(),
    }
}

/// The network as the arguments describe it, completed from the tensors; `None` if that is not enough.
fn network(
    arguments: &Arguments,
    shown: Option<Inferred>,
) -> anyhow::Result<Option<NetworkConfig>> {
    let shown = shown.map(|shown| shown.network);
    let Some(backbone) = arguments.backbone.or(shown.map(|shown| shown.backbone)) else {
        return Ok(None);
    };
    let entry = backbone.entry();
    let stem = match (arguments.stem, shown) {
        (Some(stem), _) => Some(stem),
        (None, Some(shown)) if shown.backbone == backbone => Some(shown.stem),
        (None, _) if !entry.has_stems() => None,
        (None, _) => return Ok(None),
    };
    let stem = entry
        .stem(stem)
        .map_err(|problem| usage(format!("--stem {problem}")))?;
    let width = arguments.width.or(shown.map(|shown| shown.width));
    Ok(width.map(|width| NetworkConfig {
        backbone,
        stem,
        width,
    }))
}

fn check_channels(path: &Path, shown: Option<Inferred>) -> anyhow::Result<()> {
    match shown {
        Some(shown) if shown.channels != CHANNELS => Err(usage(format!(
            "{}: its first layer takes images of {} channels; images are read as RGB, {CHANNELS} channels",
            path.display(),
            shown.channels
        ))),
        _ => Ok(()),
    }
}

fn simplex(
    arguments: &Arguments,
    selection: &Selection<'_>,
    description: &Description,
) -> anyhow::Result<Option<Simplex>> {
    let described = description
        .classifier
        .as_ref()
        .and_then(|found| found.value.vertices);
    match arguments.vertices.or(described) {
        Some(vertices) => Simplex::new(vertices)
            .map(Some)
            .map_err(|error| usage(error.to_string())),
        None => selection.simplex().map_err(as_wrong_usage),
    }
}

fn facts(
    arguments: &Arguments,
    file: PathBuf,
    selection: &Selection<'_>,
    description: &Description,
    network: NetworkConfig,
    simplex: Option<Simplex>,
    rows: Option<usize>,
) -> anyhow::Result<Facts> {
    let classes = arguments.classes.map(|value| Found {
        value,
        source: "given".to_owned(),
    });
    let rows = rows.filter(|_| simplex.is_none());
    if let (Some(Found { value, .. }), Some(rows)) = (&classes, rows)
        && *value > rows
    {
        return Err(usage(format!(
            "--classes {value}: the classifier in {} has {rows} rows, one for each class",
            file.display()
        )));
    }
    let classes = classes
        .or_else(|| {
            rows.filter(|rows| *rows > 0).map(|value| Found {
                value,
                source: "rows of the classifier".to_owned(),
            })
        })
        .or_else(|| description.classes.clone());
    let (classes, input) = match (classes, arguments.input.resolve(description)?) {
        (Some(classes), Ok(input)) => (classes, input),
        (classes, input) => {
            let mut missing = input.err().unwrap_or_default();
            if classes.is_none() {
                missing.push("--classes N (classes it was trained on)".to_owned());
            }
            return Err(usage(format!(
                "{}: {} tensors of a network ({}) were found {}, but the file does not describe classes or input completely: pass {}",
                file.display(),
                selection.tensors(),
                network_options(&network),
                place(&selection.key),
                missing.join(" and ")
            )));
        }
    };
    let described = description
        .classifier
        .as_ref()
        .map(|found| &found.value)
        .filter(|classifier| classifier.vertices == simplex.map(|simplex| simplex.vertices()));
    let vertex_end = match arguments.vertex_end {
        Some(VertexEndArgument::Front) => VertexEnd::Front,
        Some(VertexEndArgument::Back) => VertexEnd::Back,
        None => described
            .and_then(|classifier| classifier.vertex_end)
            .unwrap_or(VertexEnd::Front),
    };
    let pretrained = arguments
        .pretrained_classes
        .or(described.map(|classifier| classifier.pretrained_classes));
    Ok(Facts {
        pretrained_classes: match vertex_end {
            VertexEnd::Front => classes.value,
            VertexEnd::Back => pretrained.unwrap_or(0),
        },
        skipped_vertices: match vertex_end {
            VertexEnd::Front => 0,
            VertexEnd::Back => described.map_or(0, |classifier| classifier.skipped_vertices),
        },
        embedding: match (&description.embedding, described) {
            (Some(found), Some(_)) => found.value,
            _ => EmbeddingSource::Layer,
        },
        file,
        key: selection.key.clone(),
        network,
        simplex,
        classes,
        vertex_end,
        input,
    })
}

fn draft(facts: &Facts) -> VersionDraft {
    let Facts {
        network,
        simplex,
        input,
        ..
    } = facts;
    let side = input.size.value;
    let layer = simplex.filter(|_| facts.embedding == EmbeddingSource::Layer);
    VersionDraft {
        dim: layer.map_or(network.features(), |simplex| simplex.dim()),
        encoder: VersionEncoder::Network(TrainedNetwork {
            architecture: Architecture {
                embedding: facts.embedding,
                ..perennial_train::architecture(network, [CHANNELS, side, side])
            },
            preprocessing: Preprocessing {
                mean: input.mean.value.to_vec(),
                std: input.std.value.to_vec(),
            },
            classifier: Classifier {
                kind: match simplex {
                    Some(_) => ClassifierKind::Simplex,
                    None => ClassifierKind::Linear,
                },
                vertices: simplex.map(|simplex| simplex.vertices()),
                vertex_end: simplex.map(|_| facts.vertex_end),
                skipped_vertices: facts.skipped_vertices,
                classes: facts.classes.value,
                pretrained_classes: facts.pretrained_classes,
            },
        }),
        centred: false,
        parent: None,
        role: Role::Imported,
        method: match simplex {
            Some(_) => "simplex",
            None => "linear",
        }
        .to_owned(),
        data: origin(facts),
        seed: 0,
        created: perennial_train::now(),
    }
}

/// Where everything about an imported version comes from, in words.
fn origin(facts: &Facts) -> String {
    let short = |text: &str, most: usize| -> String {
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(most)
            .collect()
    };
    let file = facts.file.file_name().unwrap_or_default();
    let input = &facts.input;
    format!(
        "imported from {} ({}); size {}, mean {}, std {}, classes {}",
        short(&file.to_string_lossy(), 255),
        short(&place(&facts.key), 255),
        short(&input.size.source, 64),
        short(&input.mean.source, 64),
        short(&input.std.source, 64),
        short(&facts.classes.source, 64),
    )
}
