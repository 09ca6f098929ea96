//! A model version in memory: its network, its preprocessing, its simplex.

use std::sync::Arc;

use perennial_core::{EncodeError, Encoder, ModelVersion, Registry};
use perennial_data::{DecodeError, DecodeLimits, Preprocessing, decode_square, grey};
use perennial_gallery::{SimplexIdentity, StoreSpace};
use thiserror::Error;

/// The largest side of an encoder's images, in pixels. A convolutional network fits any size, so nothing else would keep an
/// uploaded `model.toml` from asking for gigabytes of probe images.
const MAX_SIDE: usize = 1024;

/// A model version that cannot be loaded.
#[derive(Debug, Error)]
#[error("{version} cannot be loaded: {problem}")]
pub struct LoadError {
    /// The version's name.
    pub version: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Turns a registered version into an encoder. The binary implements it, so that neither this crate nor the service knows a tensor
/// framework.
pub trait EncoderLoader: Send + Sync {
    /// Loads a version's weights from `registry`, which need not be the service's own: uploads are tried in a folder aside.
    ///
    /// # Errors
    /// Weights that are damaged, or do not fit the architecture that `model.toml` names.
    fn load(
        &self,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Arc<dyn Encoder>, LoadError>;
}

/// Everything that one request needs of one model version. A request takes it once and keeps it to its end, so no answer ever
/// mixes two versions.
pub struct LoadedModel {
    /// The version, with its vertex map.
    pub version: ModelVersion,
    /// Its network.
    pub encoder: Arc<dyn Encoder>,
    /// The normalisation constants of the version.
    pub preprocessing: Preprocessing,
    /// The simplex of its embeddings; none for a linear classifier.
    pub simplex: Option<SimplexIdentity>,
}

impl LoadedModel {
    /// Loads a version and checks that the encoder is the one that `model.toml` describes.
    ///
    /// # Errors
    /// [`LoadError`] from the loader, or for an encoder that cannot serve square images of 1 or 3 channels.
    pub fn load(
        loader: &dyn EncoderLoader,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Self, LoadError> {
        let name = version.name.clone();
        let refused = |problem: String| LoadError {
            version: name.clone(),
            problem,
        };
        let preprocessing = Preprocessing::try_from(&version.preprocessing)
            .map_err(|error| refused(error.to_string()))?;
        let [channels, height, width] = version.architecture.input;
        if height != width || height > MAX_SIDE || !matches!(channels, 1 | 3) {
            return Err(refused(format!(
                "its input is {channels}x{height}x{width} (channels, height, width); supported are square images of 1 or 3 channels and at most {MAX_SIDE} pixels a side"
            )));
        }
        let encoder = loader.load(registry, version.clone())?;
        if encoder.dim() != version.dim || encoder.input_shape() != version.architecture.input {
            return Err(refused(format!(
                "the encoder has dimension {} and input {:?}, but model.toml has {} and {:?}",
                encoder.dim(),
                encoder.input_shape(),
                version.dim,
                version.architecture.input
            )));
        }
        Ok(Self {
            simplex: simplex_of(&version),
            version,
            encoder,
            preprocessing,
        })
    }

    /// The version's name.
    pub fn name(&self) -> &str {
        &self.version.name
    }

    /// Values of one image, `c * h * w`.
    pub fn image_len(&self) -> usize {
        self.version.architecture.input.iter().product()
    }

    /// Decodes, scales and normalises one image file with the version's own constants.
    ///
    /// **Shapes**: the result is `[c, h, w]`.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn pixels(&self, file: &[u8], limits: DecodeLimits) -> Result<Vec<f32>, DecodeError> {
        let [channels, size, _] = self.version.architecture.input;
        let rgb = decode_square(file, size, limits)?;
        let mut pixels = Vec::with_capacity(channels * size * size);
        if channels == 1 {
            self.preprocessing.append(&grey(&rgb), 1, &mut pixels);
        } else {
            self.preprocessing.append(&rgb, 3, &mut pixels);
        }
        Ok(pixels)
    }

    /// Encodes a batch and checks that every row can be stored and searched.
    ///
    /// **Shapes**: `pixels` is `[n, c, h, w]`, the result `[n, d]`.
    ///
    /// # Errors
    /// Those of the encoder, and rows that are not of unit length.
    pub fn encode(&self, pixels: &[f32]) -> Result<Vec<f32>, EncodeError> {
        let count = self.encoder.image_count(pixels)?;
        let embeddings = self.encoder.encode(pixels)?;
        if embeddings.len() != count * self.version.dim {
            return Err(EncodeError::Backend(format!(
                "{} values for {count} embeddings of dimension {}",
                embeddings.len(),
                self.version.dim
            )));
        }
        for (image, row) in embeddings.chunks_exact(self.version.dim).enumerate() {
            let norm: f64 = row.iter().map(|&value| f64::from(value).powi(2)).sum();
            // NaN fails the comparison as well.
            if (norm.sqrt() - 1.0).abs() > f64::from(perennial_gallery::limits::NORM_TOLERANCE)
                || !norm.is_finite()
            {
                return Err(EncodeError::NonFinite { image });
            }
        }
        Ok(embeddings)
    }
}

/// The simplex of a version's embeddings.
pub fn simplex_of(version: &ModelVersion) -> Option<SimplexIdentity> {
    let vertices = version.classifier.vertices?;
    Some(SimplexIdentity { vertices })
}

/// A version's space as a gallery keeps it; `None` for a version whose name no item can carry.
pub fn store_space(version: &ModelVersion) -> Option<StoreSpace> {
    let space = version.space();
    Some(StoreSpace {
        id: space.id?,
        dim: space.dim,
        simplex: simplex_of(version),
    })
}
