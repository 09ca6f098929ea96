//! A model version as an [`Encoder`]: weights from the registry, images in, unit embeddings out.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use perennial_bridge::Centring;
use perennial_core::{EncodeError, Encoder, ModelVersion, Registry, normalize_rows};

use crate::TrainError;
use crate::centring::take_mean;
use crate::network::{BackboneKind, FrozenNetwork, Network, NetworkConfig};
use crate::state_dict::{from_safetensors, load_state_dict};

/// Images per forward pass; bounds memory for batches of any size.
const CHUNK: usize = 256;

/// A registry version ready to embed images.
pub struct TrainedEncoder {
    network: FrozenNetwork,
    centring: Option<Centring>,
    version: ModelVersion,
    device: Device,
}

impl TrainedEncoder {
    /// Loads and verifies a version's weights.
    ///
    /// # Errors
    ///
    /// Weights that are damaged or do not fit the architecture that `model.toml` names.
    pub fn load(
        registry: &Registry,
        version: ModelVersion,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let device = device.clone().without_autodiff();
        let (network, centring) = load(registry, &version, &device)?;
        Ok(Self {
            network: FrozenNetwork::new(network, version.architecture.input, &device),
            centring,
            version,
            device,
        })
    }

    /// What it was loaded from.
    pub fn version(&self) -> &ModelVersion {
        &self.version
    }
}

impl Encoder for TrainedEncoder {
    fn input_shape(&self) -> [usize; 3] {
        self.version.architecture.input
    }

    fn dim(&self) -> usize {
        self.version.dim
    }

    fn model_version(&self) -> &str {
        &self.version.name
    }

    fn encode(&self, pixels: &[f32]) -> Result<Vec<f32>, EncodeError> {
        let images = self.image_count(pixels)?;
        let [channels, height, width] = self.input_shape();
        let mut embeddings = Vec::with_capacity(images * self.dim());
        for chunk in pixels.chunks(CHUNK * channels * height * width) {
            let count = chunk.len() / (channels * height * width);
            let data = TensorData::new(chunk.to_vec(), [count, channels, height, width]);
            let output = self.network.forward(Tensor::from_data(data, &self.device));
            let values = output.into_data().convert::<f32>().try_into_vec::<f32>();
            let mut values = values.map_err(|error| EncodeError::Backend(format!("{error:?}")))?;
            let first = embeddings.len() / self.dim();
            normalize_rows(&mut values, self.dim()).map_err(|error| match error {
                perennial_core::SimilarityError::NonFinite { row }
                | perennial_core::SimilarityError::Zero { row } => {
                    EncodeError::NonFinite { image: first + row }
                }
                other => EncodeError::Backend(other.to_string()),
            })?;
            if let Some(centring) = &self.centring {
                centring
                    .apply(&mut values)
                    .map_err(|error| EncodeError::Backend(error.to_string()))?;
            }
            embeddings.extend(values);
        }
        Ok(embeddings)
    }
}

/// The network configuration that a version's `model.toml` names.
///
/// # Errors
///
/// An architecture that this build does not support.
pub fn network_config(version: &ModelVersion) -> Result<NetworkConfig, TrainError> {
    let problem = |problem: String| TrainError::Version {
        version: version.name.clone(),
        problem,
    };
    let architecture = &version.architecture;
    let backbone: BackboneKind = architecture.backbone.parse().map_err(problem)?;
    let entry = backbone.entry();
    let stem = match architecture.stem.as_str() {
        _ if !entry.has_stems() => None,
        name => Some(name.parse().map_err(problem)?),
    };
    let config = NetworkConfig {
        backbone,
        stem: entry
            .stem(stem)
            .map_err(|text| problem(format!("stem: {text}")))?,
        width: architecture.width,
    };
    config
        .check()
        .and_then(|()| config.fits(architecture.input))
        .map_err(|error| problem(error.to_string()))?;
    Ok(config)
}

/// A version's network with its weights, on a device with or without gradient tracking: what losses see, without the version's centring.
pub(crate) fn load_network(
    registry: &Registry,
    version: &ModelVersion,
    device: &Device,
) -> Result<Network, TrainError> {
    Ok(load(registry, version, device)?.0)
}

/// A version's network, and the centring of its embeddings.
fn load(
    registry: &Registry,
    version: &ModelVersion,
    device: &Device,
) -> Result<(Network, Option<Centring>), TrainError> {
    let config = network_config(version)?;
    let simplex = version.classifier.kind == perennial_core::ClassifierKind::Simplex;
    let features = config.features();
    let bytes = registry.load_weights(version)?;
    let mut state = from_safetensors(
        &bytes,
        &registry.weights_path(version).display().to_string(),
    )?;
    let centring = take_mean(&mut state, version)?;
    // Of a version with a linear classifier, the features are the embedding, unless a bridge was folded into it.
    let embedding_layer = simplex || state.contains_key("fc1.weight");
    if !embedding_layer && version.dim != features {
        return Err(TrainError::Version {
            version: version.name.clone(),
            problem: format!(
                "dim {} differs from the backbone's {features} features",
                version.dim
            ),
        });
    }
    // Before memory is allocated for the embedding layer.
    let embedding_bytes = 4 * version.dim as u64 * features as u64;
    if embedding_layer && embedding_bytes > version.weights_bytes {
        return Err(TrainError::Version {
            version: version.name.clone(),
            problem: format!(
                "dim {} does not fit its {} bytes of weights",
                version.dim, version.weights_bytes
            ),
        });
    }
    let plain = device.clone().without_autodiff();
    let mut network = Network::unset(
        &config,
        version.architecture.input,
        embedding_layer.then_some(version.dim),
        &plain,
    );
    if let Some(weight) = state.get("fc2.weight") {
        // The number of rows follows from the number of values; a header could claim any number.
        network = network.with_classifier(weight.values.len() / features, 0);
    }
    let network = load_state_dict(network, state)?;
    let network = if device.is_autodiff() {
        network.train()
    } else {
        network
    };
    Ok((network, centring))
}
