//! A model version as an [`Encoder`]: weights from the registry, images in, unit embeddings out.

use std::borrow::Cow;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use perennial_bridge::Centring;
use perennial_core::{
    EmbeddingSource, Modality, ModelVersion, Registry, Simplex, TrainedNetwork, normalize_in_place,
};
use perennial_data::Preprocessing;
use perennial_encode::{
    EncodeError, Encoder, Input, PrepareError, Prepared, Values, decode_square, grey, scale_square,
};

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
    preprocessing: Preprocessing,
    /// Channels, height and width of an input.
    input: [usize; 3],
    device: Device,
}

impl TrainedEncoder {
    /// Loads and verifies a version's weights.
    ///
    /// # Errors
    ///
    /// Weights that are damaged or do not fit the architecture that `model.toml` names, images that are no squares of 1 or 3 channels.
    pub fn load(
        registry: &Registry,
        version: ModelVersion,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let device = device.clone().without_autodiff();
        let described = trained_network(&version)?;
        let input = described.architecture.input;
        let [channels, height, width] = input;
        if !matches!(channels, 1 | 3) || height != width {
            return Err(TrainError::Version {
                version: version.name.clone(),
                problem: format!(
                    "it takes inputs of {channels}x{height}x{width} (channels, height, width); pictures become squares of 1 or 3 channels"
                ),
            });
        }
        let preprocessing = preprocessing_of(&version)?;
        let (network, centring) = load(registry, &version, &device)?;
        Ok(Self {
            network: FrozenNetwork::new(network, input, &device),
            centring,
            preprocessing,
            input,
            version,
            device,
        })
    }

    /// Normalises a square of `[3, side, side]` bytes.
    fn normalised(&self, square: &[u8]) -> Vec<f32> {
        let mut pixels = Vec::with_capacity(self.input.iter().product());
        match self.input[0] {
            1 => self.preprocessing.append(&grey(square), 1, &mut pixels),
            _ => self.preprocessing.append(square, 3, &mut pixels),
        }
        pixels
    }

    /// An image as data sets hold it: as it is where it has the network's shape, otherwise as a picture file of the same content.
    fn of_pixels(&self, pixels: &[u8], shape: [usize; 3]) -> Result<Vec<f32>, PrepareError> {
        let [channels, height, width] = shape;
        if shape == self.input {
            let mut normalised = Vec::with_capacity(pixels.len());
            self.preprocessing.append(pixels, channels, &mut normalised);
            return Ok(normalised);
        }
        let rgb = match channels {
            3 => Cow::Borrowed(pixels),
            _ => Cow::Owned(pixels.repeat(3)),
        };
        let side = self.input[1];
        let square = match [height, width] == [side; 2] {
            true => rgb,
            false => Cow::Owned(scale_square(&rgb, [height, width], side)?),
        };
        Ok(self.normalised(&square))
    }

    /// What it was loaded from.
    pub fn version(&self) -> &ModelVersion {
        &self.version
    }
}

impl Encoder for TrainedEncoder {
    fn accepts(&self) -> &[Modality] {
        &[Modality::Image]
    }

    fn prepare(&self, input: Input<'_>) -> Result<Prepared, PrepareError> {
        self.check_modality(&input)?;
        let pixels = match input {
            Input::Picture { file, limits } => {
                self.normalised(&decode_square(file, self.input[1], limits)?)
            }
            Input::Decoded(picture) => self.normalised(&picture.square(self.input[1])?),
            Input::Pixels { pixels, shape } => self.of_pixels(pixels, shape)?,
            // Refused above.
            Input::Text { .. } => Vec::new(),
        };
        Ok(Prepared {
            values: Values::Pixels(pixels),
        })
    }

    fn dim(&self) -> usize {
        self.version.dim
    }

    fn model_version(&self) -> &str {
        &self.version.name
    }

    fn encode(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        self.embeddings(batch, false)
    }

    fn encode_with_missing(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        self.embeddings(batch, true)
    }
}

impl TrainedEncoder {
    /// With `may_be_missing`, rows of zeros for images whose embedding has length 0.
    fn embeddings(
        &self,
        batch: &[Prepared],
        may_be_missing: bool,
    ) -> Result<Vec<f32>, EncodeError> {
        let [channels, height, width] = self.input;
        let image_len = channels * height * width;
        let mut embeddings = Vec::with_capacity(batch.len() * self.dim());
        for (chunk, images) in batch.chunks(CHUNK).enumerate() {
            let mut pixels: Vec<f32> = Vec::with_capacity(images.len() * image_len);
            for (place, image) in images.iter().enumerate() {
                match &image.values {
                    Values::Pixels(image) if image.len() == image_len => pixels.extend(image),
                    _ => {
                        return Err(EncodeError::Prepared {
                            input: chunk * CHUNK + place,
                            problem: format!("{image_len} values of an image were expected"),
                        });
                    }
                }
            }
            let data = TensorData::new(pixels, [images.len(), channels, height, width]);
            let output = self.network.forward(Tensor::from_data(data, &self.device));
            let values = output.into_data().convert::<f32>().try_into_vec::<f32>();
            let mut values = values.map_err(|error| EncodeError::Backend(format!("{error:?}")))?;
            let first = embeddings.len() / self.dim();
            for (row, values) in values.chunks_exact_mut(self.dim()).enumerate() {
                if may_be_missing && values.iter().all(|&value| value == 0.0) {
                    continue;
                }
                normalize_in_place(values)
                    .map_err(|_| EncodeError::NonFinite { input: first + row })?;
                if let Some(centring) = &self.centring {
                    centring
                        .apply(values)
                        .map_err(|error| EncodeError::Backend(error.to_string()))?;
                }
            }
            embeddings.extend(values);
        }
        Ok(embeddings)
    }
}

/// What a version's `model.toml` says about its network.
///
/// # Errors
///
/// A version with the encoder of another program.
pub fn trained_network(version: &ModelVersion) -> Result<&TrainedNetwork, TrainError> {
    version.network().ok_or_else(|| TrainError::Version {
        version: version.name.clone(),
        problem:
            "it has the encoder of another program; this needs a network that was trained here"
                .to_owned(),
    })
}

/// Channels, height and width of the images that a version's network takes.
///
/// # Errors
///
/// A version with the encoder of another program.
pub(crate) fn input_of(version: &ModelVersion) -> Result<[usize; 3], TrainError> {
    Ok(trained_network(version)?.architecture.input)
}

/// How a version's images are normalised.
///
/// # Errors
///
/// A version with the encoder of another program, or with deviations that nothing can be divided by.
pub(crate) fn preprocessing_of(version: &ModelVersion) -> Result<Preprocessing, TrainError> {
    Ok(Preprocessing::try_from(
        &trained_network(version)?.preprocessing,
    )?)
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
    let architecture = &trained_network(version)?.architecture;
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

/// A version's network with its weights, on a device with or without gradient tracking: what losses see, with its embedding layer even where the
/// version embeds by the features in front of it, and without the version's centring.
pub(crate) fn load_network(
    registry: &Registry,
    version: &ModelVersion,
    device: &Device,
) -> Result<Network, TrainError> {
    Ok(read(registry, version, device)?.0)
}

/// The network whose output is a version's embedding, and its centring.
pub(crate) fn load(
    registry: &Registry,
    version: &ModelVersion,
    device: &Device,
) -> Result<(Network, Option<Centring>), TrainError> {
    let (network, centring) = read(registry, version, device)?;
    let source = trained_network(version)?.architecture.embedding;
    Ok((network.that_embeds_by(source), centring))
}

/// Everything that a version's weights hold.
fn read(
    registry: &Registry,
    version: &ModelVersion,
    device: &Device,
) -> Result<(Network, Option<Centring>), TrainError> {
    let config = network_config(version)?;
    let described = trained_network(version)?;
    let simplex = described.classifier.kind == perennial_core::ClassifierKind::Simplex;
    let features = config.features();
    let source = described.architecture.embedding;
    let layer_dim = match (source, described.classifier.vertices) {
        (EmbeddingSource::Features, Some(vertices)) => Simplex::new(vertices)?.dim(),
        _ => version.dim,
    };
    let bytes = registry.load_weights(version)?;
    let mut state = from_safetensors(
        &bytes,
        &registry.weights_path(version).display().to_string(),
    )?;
    let centring = take_mean(&mut state, version)?;
    // Of a version with a linear classifier, the features are the embedding, unless a bridge was folded into it.
    let embedding_layer = simplex || state.contains_key("fc1.weight");
    let features_embed = !embedding_layer || source == EmbeddingSource::Features;
    if features_embed && version.dim != features {
        return Err(TrainError::Version {
            version: version.name.clone(),
            problem: format!(
                "dim {} differs from the backbone's {features} features",
                version.dim
            ),
        });
    }
    // Before memory is allocated for the embedding layer.
    let embedding_bytes = 4 * layer_dim as u64 * features as u64;
    if embedding_layer && embedding_bytes > version.weights_bytes {
        return Err(TrainError::Version {
            version: version.name.clone(),
            problem: format!(
                "an embedding layer of {layer_dim} dimensions does not fit its {} bytes of weights",
                version.weights_bytes
            ),
        });
    }
    let plain = device.clone().without_autodiff();
    let mut network = Network::unset(
        &config,
        described.architecture.input,
        embedding_layer.then_some(layer_dim),
        &plain,
    );
    if state.contains_key("fc1.bias") {
        network = network.with_embedding_bias();
    }
    if let Some(weight) = state.get("fc2.weight") {
        // The number of rows follows from the number of values; a header could claim any number.
        let inputs = if embedding_layer { layer_dim } else { features };
        network = network.with_classifier(weight.values.len() / inputs.max(1), 0);
    }
    let network = load_state_dict(network, state).map_err(|problem| {
        let file = registry.weights_path(version);
        problem.of(format!("{}, {}", version.name, file.display()))
    })?;
    let network = if device.is_autodiff() {
        network.train()
    } else {
        network
    };
    Ok((network, centring))
}
