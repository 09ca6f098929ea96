//! Folding a linear layer into an encoder: a new model version that embeds into the layer's target space itself.

use perennial_bridge::Bridge;
use perennial_core::outside_encoder::{CANARY_FILE, HEAD_FILE};
use perennial_core::{
    Classifier, ClassifierKind, EmbeddingSource, EncoderHead, ModelVersion, OutsideEncoder,
    Registry, Role, TrainedNetwork, VersionDraft, VersionEncoder, VertexEnd, VertexMap,
};

use crate::encoder::{network_config, trained_network};
use crate::error::TrainError;
use crate::state_dict::{StateDict, StateTensor, from_safetensors, to_safetensors};
use crate::versions::{inherited_classes, now};

/// The embedding layer, by its name in PyTorch.
const EMBEDDING: &str = perennial_core::outside_encoder::HEAD_TENSOR;
/// Its bias, where it has one.
const BIAS: &str = "fc1.bias";
/// The linear classifier's tensors, which take embeddings of the old space.
const CLASSIFIER: &str = "fc2.";

/// A version whose embedding layer computes what `version` and then `bridge` compute. A version without an embedding layer gets one. The linear
/// classifier is left out, since it takes embeddings of the space that the version leaves.
///
/// Exact up to rounding; see [`Bridge::fold`]. The draft is not published yet; the bytes are its `weights.safetensors`, or the
/// layer behind an encoder of another program, which keeps its own files.
///
/// # Errors
/// A bridge of another space or one that centres, a centred version, and weights that cannot be read.
pub fn fold(
    registry: &Registry,
    version: &ModelVersion,
    bridge: &Bridge,
) -> Result<(VersionDraft, Vec<u8>), TrainError> {
    let classifier = Classifier {
        kind: ClassifierKind::Linear,
        vertices: None,
        vertex_end: None,
        skipped_vertices: 0,
        classes: 0,
        pretrained_classes: inherited_classes([Some(version), None]),
    };
    let method = format!("{} + bridge {}", version.method, bridge.describe());
    let (draft, bytes) = with_layer(registry, version, bridge, classifier)?;
    Ok((VersionDraft { method, ..draft }, bytes))
}

/// What is known about a layer onto a simplex, for the version that gets it.
#[derive(Clone, Debug)]
pub struct HeadVersion<'a> {
    /// Where its classes have their vertices.
    pub places: VertexMap,
    /// Its classes.
    pub classes: usize,
    /// The version whose embeddings the layer was trained to meet, if there is one.
    pub reference: Option<&'a ModelVersion>,
    /// What it was trained with and on, in words.
    pub method: String,
    /// As `method`.
    pub data: String,
    /// The seed of its training.
    pub seed: u64,
}

/// As [`fold`], of a bridge that is a layer onto a simplex ([`Bridge::of_layer`]): the version's classifier is the simplex.
///
/// # Errors
/// As [`fold`].
pub fn with_head(
    registry: &Registry,
    version: &ModelVersion,
    layer: &Bridge,
    head: HeadVersion<'_>,
) -> Result<(VersionDraft, Vec<u8>), TrainError> {
    let VertexMap {
        vertices,
        end,
        skipped,
    } = head.places;
    let inherited = inherited_classes([head.reference, None]);
    let classifier = Classifier {
        kind: ClassifierKind::Simplex,
        vertices: Some(vertices),
        vertex_end: Some(end),
        skipped_vertices: skipped,
        classes: head.classes,
        pretrained_classes: match end {
            VertexEnd::Front => head.classes.max(inherited),
            VertexEnd::Back => inherited,
        },
    };
    let (draft, bytes) = with_layer(registry, version, layer, classifier)?;
    let draft = VersionDraft {
        method: head.method,
        data: head.data,
        seed: head.seed,
        ..draft
    };
    Ok((draft, bytes))
}

/// Checks, without the layer, whether a version can have one behind it.
///
/// # Errors
/// A centred version, and an embedding service.
pub fn check_foldable(version: &ModelVersion) -> Result<(), TrainError> {
    let outside = version.outside();
    if outside.is_some_and(|it| it.endpoint.is_some()) {
        return Err(refused(
            version,
            "it is an embedding service, behind which there can be no layer; keep the layer as a bridge (`fit-head --out DIR`) and search by it",
        ));
    }
    if version.centred {
        return Err(refused(
            version,
            "it is centred, which no layer of weights can do; train it without embedding.centre",
        ));
    }
    Ok(())
}

fn refused(version: &ModelVersion, problem: impl Into<String>) -> TrainError {
    TrainError::Version {
        version: version.name.clone(),
        problem: problem.into(),
    }
}

fn with_layer(
    registry: &Registry,
    version: &ModelVersion,
    bridge: &Bridge,
    classifier: Classifier,
) -> Result<(VersionDraft, Vec<u8>), TrainError> {
    bridge
        .from()
        .accept(&version.space())
        .map_err(|problem| refused(version, format!("the bridge starts elsewhere: {problem}")))?;
    check_foldable(version)?;
    let (encoder, bytes) = match &version.encoder {
        VersionEncoder::Network(network) => {
            let bytes = in_network(registry, version, bridge)?;
            let mut network = TrainedNetwork {
                classifier,
                ..network.clone()
            };
            // Where the features were the embedding, the map is the layer behind them.
            network.architecture.embedding = EmbeddingSource::Layer;
            (VersionEncoder::Network(network), bytes)
        }
        VersionEncoder::Outside(outside) => {
            let (outside, bytes) = behind(registry, version, outside, bridge, classifier)?;
            (VersionEncoder::Outside(outside), bytes)
        }
    };
    let draft = VersionDraft {
        dim: bridge.to().dim,
        encoder,
        parent: Some(version.name.clone()),
        role: Role::Update,
        created: now(),
        ..version.draft()
    };
    Ok((draft, bytes))
}

/// The weights of a network of our own with the bridge in its embedding layer.
fn in_network(
    registry: &Registry,
    version: &ModelVersion,
    bridge: &Bridge,
) -> Result<Vec<u8>, TrainError> {
    let features = network_config(version)?.features();
    let bytes = registry.load_weights(version)?;
    let path = registry.weights_path(version).display().to_string();
    let mut state = from_safetensors(&bytes, &path)?;
    state.retain(|name, _| !name.starts_with(CLASSIFIER));
    let own = [EMBEDDING, BIAS].map(|name| state.remove(name).map(|tensor| tensor.values));
    let source = trained_network(version)?.architecture.embedding;
    let (weight, bias) = match own {
        [Some(weight), bias] if source == EmbeddingSource::Layer => (weight, bias),
        _ => (identity(features), None),
    };
    let (layer, bias) = folded(version, bridge, &weight, bias.as_deref(), features)?;
    state.insert(EMBEDDING.to_owned(), layer);
    if let Some(bias) = bias {
        state.insert(BIAS.to_owned(), bias);
    }
    Ok(to_safetensors(&state, None)?)
}

/// The description of an encoder of another program with the bridge in the layer behind it, and the content of that layer's file.
fn behind(
    registry: &Registry,
    version: &ModelVersion,
    outside: &OutsideEncoder,
    bridge: &Bridge,
    classifier: Classifier,
) -> Result<(OutsideEncoder, Vec<u8>), TrainError> {
    // All files are taken over, and get new hashes: a damaged one would pass for sound afterwards.
    let folder = registry.verified_folder(version)?;
    let (inputs, weight) = match &outside.head {
        None => (version.dim, identity(version.dim)),
        Some(head) => {
            let path = folder.join(&head.file);
            let content = fs_err::read(&path)?;
            let mut state = from_safetensors(&content, &path.display().to_string())?;
            let layer = state
                .remove(EMBEDDING)
                .filter(|layer| layer.shape == [version.dim, head.inputs]);
            let layer = layer.ok_or_else(|| {
                refused(version, format!("{} holds no layer of its size", head.file))
            })?;
            (head.inputs, layer.values)
        }
    };
    let (layer, _) = folded(version, bridge, &weight, None, inputs)?;
    let content = to_safetensors(&StateDict::from([(EMBEDDING.to_owned(), layer)]), None)?;
    let earlier = outside.head.as_ref().map(|head| head.file.as_str());
    let own = |name: &str| name == CANARY_FILE || earlier == Some(name);
    let file = free_name(
        outside
            .files
            .iter()
            .map(|file| file.name.as_str())
            .filter(|name| !own(name)),
    );
    let described = OutsideEncoder {
        head: Some(Box::new(EncoderHead {
            file,
            inputs,
            classifier,
        })),
        files: outside
            .files
            .iter()
            .filter(|file| !own(&file.name))
            .cloned()
            .collect(),
        ..outside.clone()
    };
    Ok((described, content))
}

/// The name of the layer's file: [`HEAD_FILE`], unless a file of the encoder's own is called so.
fn free_name<'a>(taken: impl Iterator<Item = &'a str> + Clone) -> String {
    let numbered = (2..).map(|number| format!("head-{number}.safetensors"));
    std::iter::once(HEAD_FILE.to_owned())
        .chain(numbered)
        // On some disks names that differ in case are one file.
        .find(|name| !taken.clone().any(|taken| taken.eq_ignore_ascii_case(name)))
        .expect("a version has a finite number of files")
}

/// **Shapes**: `weight` is `[from_dim, inputs]` and `bias` `[from_dim]`, the results `[to_dim, inputs]` and, with a bias, `[to_dim]`.
fn folded(
    version: &ModelVersion,
    bridge: &Bridge,
    weight: &[f32],
    bias: Option<&[f32]>,
    inputs: usize,
) -> Result<(StateTensor, Option<StateTensor>), TrainError> {
    let (values, bias) = bridge
        .fold(weight, bias)
        .map_err(|error| refused(version, error.to_string()))?;
    let dim = bridge.to().dim;
    let layer = StateTensor {
        shape: vec![dim, inputs],
        values,
    };
    let bias = bias.map(|values| StateTensor {
        shape: vec![dim],
        values,
    });
    Ok((layer, bias))
}

/// `[size, size]`.
pub(crate) fn identity(size: usize) -> Vec<f32> {
    let mut values = vec![0.0; size * size];
    values
        .iter_mut()
        .step_by(size + 1)
        .for_each(|one| *one = 1.0);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_takes_no_name_of_the_encoders_own_files() {
        let free = |taken: &[&str]| free_name(taken.iter().copied());
        assert_eq!(free(&["model.onnx"]), HEAD_FILE);
        assert_eq!(
            free(&["model.onnx", "Head.safetensors"]),
            "head-2.safetensors"
        );
        assert_eq!(
            free(&["head-2.safetensors", "head.safetensors"]),
            "head-3.safetensors"
        );
    }
}
