//! Folding a bridge into an encoder: a new model version that embeds into the bridge's target space itself.

use perennial_bridge::Bridge;
use perennial_core::{
    Classifier, ClassifierKind, ModelVersion, Registry, Role, TrainedNetwork, VersionDraft,
    VersionEncoder,
};

use crate::encoder::{network_config, trained_network};
use crate::error::TrainError;
use crate::state_dict::{StateTensor, from_safetensors, to_safetensors};
use crate::versions::now;

/// The embedding layer, by its name in PyTorch.
const EMBEDDING: &str = "fc1.weight";
/// The linear classifier's tensors, which take embeddings of the old space.
const CLASSIFIER: &str = "fc2.";

/// A version whose embedding layer computes what `version` and then `bridge` compute. A version without an embedding layer gets one. The linear
/// classifier is left out, since it takes embeddings of the space that the version leaves.
///
/// Exact up to rounding; see [`Bridge::fold`]. The draft is not published yet; the bytes are its `weights.safetensors`.
///
/// # Errors
/// A bridge of another space or one that centres, a centred version, and weights that cannot be read.
pub fn fold(
    registry: &Registry,
    version: &ModelVersion,
    bridge: &Bridge,
) -> Result<(VersionDraft, Vec<u8>), TrainError> {
    let refused = |problem: String| TrainError::Version {
        version: version.name.clone(),
        problem,
    };
    bridge
        .from()
        .accept(&version.space())
        .map_err(|problem| refused(format!("the bridge starts elsewhere: {problem}")))?;
    if version.centred {
        return Err(refused(
            "it is centred, which no layer of weights can do; train it without embedding.centre"
                .to_owned(),
        ));
    }
    let network = trained_network(version)?;
    let features = network_config(version)?.features();
    let bytes = registry.load_weights(version)?;
    let path = registry.weights_path(version).display().to_string();
    let mut state = from_safetensors(&bytes, &path)?;
    state.retain(|name, _| !name.starts_with(CLASSIFIER));
    let weight = match state.remove(EMBEDDING) {
        Some(layer) => layer.values,
        None => identity(features),
    };
    let (weight, _) = bridge
        .fold(&weight, None)
        .map_err(|error| refused(error.to_string()))?;
    let dim = bridge.to().dim;
    let layer = StateTensor {
        shape: vec![dim, features],
        values: weight,
    };
    state.insert(EMBEDDING.to_owned(), layer);
    let draft = VersionDraft {
        dim,
        encoder: VersionEncoder::Network(TrainedNetwork {
            classifier: Classifier {
                kind: ClassifierKind::Linear,
                vertices: None,
                vertex_end: None,
                skipped_vertices: 0,
                classes: 0,
                pretrained_classes: network.classifier.pretrained_classes,
            },
            ..network.clone()
        }),
        parent: Some(version.name.clone()),
        role: Role::Update,
        method: format!("{} + bridge {}", version.method, bridge.describe()),
        created: now(),
        ..version.draft()
    };
    Ok((draft, to_safetensors(&state, None)?))
}

/// `[size, size]`.
fn identity(size: usize) -> Vec<f32> {
    let mut values = vec![0.0; size * size];
    values
        .iter_mut()
        .step_by(size + 1)
        .for_each(|one| *one = 1.0);
    values
}
