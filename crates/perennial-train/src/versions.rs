//! Turning a finished task into a registry version.

use perennial_core::{
    Architecture, Classifier, EmbeddingSource, ModelVersion, Preprocessing, Registry, Role,
    TrainedNetwork, VersionDraft, VersionEncoder, VertexEnd, sha256_hex,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::TrainError;
use crate::config::{Entry, ExperimentConfig, PretrainConfig};
use crate::encoder::{network_config, trained_network};
use crate::network::NetworkConfig;
use crate::state_dict::{StateDict, to_safetensors};

/// Where a version comes from.
pub(crate) struct Lineage<'a> {
    pub config: &'a ExperimentConfig,
    pub vertex_end: VertexEnd,
    pub skipped_vertices: usize,
    pub input: [usize; 3],
    pub task: usize,
    pub classes: usize,
    pub start: Option<ModelVersion>,
    pub deployed: Option<ModelVersion>,
    pub replacement: Option<Entry>,
}

/// Publishes a version, or finds the one already published if a run was killed before its checkpoint.
///
/// `earlier` are the run's versions so far: what was published before them cannot be this one.
pub(crate) fn publish(
    registry: &Registry,
    state: &StateDict,
    lineage: Lineage<'_>,
    earlier: &[String],
) -> Result<ModelVersion, TrainError> {
    let weights = to_safetensors(state, None)?;
    let draft = draft(lineage)?;
    let hash = sha256_hex(&weights);
    let since = |name: &String| Some(name) != earlier.last();
    for name in registry.names()?.into_iter().rev().take_while(since) {
        // Skip unreadable versions that this run did not publish.
        let Ok(version) = registry.get(&name) else {
            continue;
        };
        let same_but_for_the_time = VersionDraft {
            created: draft.created.clone(),
            ..version.draft()
        } == draft;
        if version.weights_sha256 == hash && same_but_for_the_time {
            return Ok(version);
        }
    }
    Ok(registry.publish(draft, &weights)?)
}

fn draft(lineage: Lineage<'_>) -> Result<VersionDraft, TrainError> {
    let Lineage {
        config,
        vertex_end,
        skipped_vertices,
        input,
        task,
        classes,
        start,
        deployed,
        replacement,
    } = lineage;
    let (network, preprocessing) = match &start {
        Some(version) => (
            network_config(version)?,
            trained_network(version)?.preprocessing.clone(),
        ),
        None => (config.network, config.preprocessing.record()),
    };
    let simplex = config.method.simplex()?;
    let bridged = replacement == Some(Entry::Bridged);
    let on_the_simplex = start.as_ref().filter(|_| !bridged);
    let inherited = inherited_classes([on_the_simplex, deployed.as_ref()]);
    let pretraining = vertex_end == VertexEnd::Front;
    let mut data = config.data.describe();
    if !pretraining {
        data.push_str(&format!(", run {} task {task}", config.name));
    }
    if let (Some(_), Some(start)) = (replacement, &start) {
        let way = if bridged { " by a bridge" } else { "" };
        data.push_str(&format!(", from {}{way}", start.name));
    }
    let source = config.embedding.source;
    let dim = match (simplex, &start) {
        (Some(simplex), _) if source == EmbeddingSource::Layer => simplex.dim(),
        // Not the features where a bridge was folded into the start.
        (None, Some(start)) => start.dim,
        _ => network.features(),
    };
    Ok(VersionDraft {
        dim,
        encoder: VersionEncoder::Network(TrainedNetwork {
            architecture: Architecture {
                embedding: source,
                ..architecture(&network, input)
            },
            preprocessing,
            classifier: Classifier {
                kind: config.method.objective().classifier().kind(),
                vertices: simplex.map(|simplex| simplex.vertices()),
                vertex_end: simplex.map(|_| vertex_end),
                skipped_vertices,
                classes,
                pretrained_classes: if pretraining { classes } else { inherited },
            },
        }),
        centred: config.embedding.centre,
        parent: deployed.map(|version| version.name),
        role: match (pretraining, replacement) {
            (true, _) => Role::Pretrained,
            (false, Some(_)) => Role::Replacement,
            (false, None) => Role::Update,
        },
        method: config.method.name().to_owned(),
        data,
        seed: config.seed,
        created: now(),
    })
}

/// In what a version differs from what a pre-training makes, as far as `model.toml` tells: the first key with both values.
pub fn pretrained_difference(config: &PretrainConfig, version: &ModelVersion) -> Option<String> {
    let Some(found) = version.network() else {
        return Some("it is an encoder of another program".to_owned());
    };
    let made = architecture(&config.network, found.architecture.input);
    let preprocessing = config.preprocessing.record();
    let simplex = config.method.simplex().ok().flatten();
    let vertices = simplex.map(|simplex| simplex.vertices());
    let show = |vertices: Option<usize>| vertices.map_or("none".to_owned(), |n| n.to_string());
    let values = |preprocessing: &Preprocessing| {
        format!("{:?}, {:?}", preprocessing.mean, preprocessing.std)
    };
    let [of_version, of_config] = [
        (&found.architecture, found.architecture.embedding),
        (&made, config.embedding.source),
    ]
    .map(|(one, embedding)| {
        let Architecture {
            backbone,
            stem,
            width,
            ..
        } = one;
        format!("{backbone} {stem} {width}, {embedding:?}")
    });
    let keys = [
        (
            "role",
            format!("{:?}", version.role),
            format!("{:?}", Role::Pretrained),
        ),
        (
            "method",
            version.method.clone(),
            config.method.name().to_owned(),
        ),
        ("data", version.data.clone(), config.data.describe()),
        ("seed", version.seed.to_string(), config.seed.to_string()),
        ("architecture", of_version, of_config),
        (
            "preprocessing",
            values(&found.preprocessing),
            values(&preprocessing),
        ),
        (
            "classifier.vertices",
            show(found.classifier.vertices),
            show(vertices),
        ),
        (
            "centred",
            version.centred.to_string(),
            config.embedding.centre.to_string(),
        ),
    ];
    let mut differing = keys.into_iter().filter(|(_, found, asked)| found != asked);
    differing
        .next()
        .map(|(key, found, asked)| format!("{key}: {found} there, {asked} here"))
}

/// Classes of pre-training that a version inherits from those it builds on.
pub(crate) fn inherited_classes(from: [Option<&ModelVersion>; 2]) -> usize {
    let classes = from.into_iter().flatten();
    classes
        .filter_map(|version| Some(version.classifier()?.pretrained_classes))
        .max()
        .unwrap_or(0)
}

/// The `architecture` table of `model.toml`, of a version whose embedding is the output of its network's last layer.
pub fn architecture(network: &NetworkConfig, input: [usize; 3]) -> Architecture {
    let entry = network.backbone.entry();
    let stem = if entry.has_stems() {
        network.stem.name()
    } else {
        ""
    };
    Architecture {
        backbone: entry.name.to_owned(),
        stem: stem.to_owned(),
        width: network.width,
        input,
        embedding: EmbeddingSource::Layer,
    }
}

/// The present moment in RFC 3339, whole seconds, UTC.
pub fn now() -> String {
    let now = OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    now.format(&Rfc3339)
        .unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}
