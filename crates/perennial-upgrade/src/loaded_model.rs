//! A model version in memory: its encoder, its simplex.

use std::sync::{Arc, OnceLock};

use perennial_core::{ModelVersion, Registry, TrainedNetwork};
use perennial_encode::{EncodeError, Encoder, Input, PrepareError, Prepared};
use perennial_gallery::{SimplexIdentity, StoreSpace};
use thiserror::Error;

/// The largest side of the images of a network of our own, in pixels. A convolutional network fits any size, so nothing else would keep an
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
    /// Weights or files that are damaged, or do not fit what `model.toml` says.
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
    /// Its encoder.
    pub encoder: Arc<dyn Encoder>,
    /// The simplex of its embeddings; none for a linear classifier, and for encoders of other programs without a linear layer onto one.
    pub simplex: Option<SimplexIdentity>,
    /// Milliseconds of one input alone, once they were measured.
    query_milliseconds: OnceLock<Option<f64>>,
}

impl LoadedModel {
    /// A version and its encoder as they are.
    pub(crate) fn new(version: ModelVersion, encoder: Arc<dyn Encoder>) -> Self {
        Self {
            simplex: simplex_of(&version),
            version,
            encoder,
            query_milliseconds: OnceLock::new(),
        }
    }

    /// The part of [`load`](Self::load) that comes before the comparison with recorded embeddings: for an import, which records them.
    ///
    /// # Errors
    /// [`LoadError`] from the loader, or for a network that does not take square images of 1 or 3 channels.
    pub fn without_canaries(
        loader: &dyn EncoderLoader,
        registry: &Registry,
        version: ModelVersion,
    ) -> Result<Self, LoadError> {
        let name = version.name.clone();
        let refused = |problem: String| LoadError {
            version: name.clone(),
            problem,
        };
        if let Some(network) = version.network() {
            check_input(network).map_err(refused)?;
        }
        let encoder = loader.load(registry, version.clone())?;
        if encoder.dim() != version.dim || encoder.accepts() != version.accepts() {
            return Err(refused(format!(
                "the encoder has dimension {} and embeds {:?}, but model.toml has {} and {:?}",
                encoder.dim(),
                encoder.accepts(),
                version.dim,
                version.accepts()
            )));
        }
        Ok(Self::new(version, encoder))
    }

    /// What was measured the first time.
    pub(crate) fn query_milliseconds(
        &self,
        measure: impl FnOnce(&Self) -> Option<f64>,
    ) -> Option<f64> {
        *self.query_milliseconds.get_or_init(|| measure(self))
    }

    /// The version's name.
    pub fn name(&self) -> &str {
        &self.version.name
    }

    /// How far the embedding of an input may be from an earlier one of the same input, where the version says so itself: an embedding service need
    /// not give the same bits twice.
    pub(crate) fn own_tolerance(&self) -> Option<f64> {
        let endpoint = self.version.outside()?.endpoint.as_ref()?;
        Some(endpoint.tolerance)
    }

    /// Makes one picture or text ready for [`encode`](Self::encode); blocks.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn prepare(&self, input: Input<'_>) -> Result<Prepared, PrepareError> {
        self.encoder.prepare(input)
    }

    /// Encodes a batch and checks that every row can be stored and searched.
    ///
    /// **Shapes**: the result is `[batch.len(), d]`.
    ///
    /// # Errors
    /// Those of the encoder, and rows that are not of unit length.
    pub fn encode(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        self.checked(batch, self.encoder.encode(batch)?, false)
    }

    /// The same for a measurement: an input without an embedding may have a row of zeros.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), but for rows of zeros.
    pub fn encode_with_missing(&self, batch: &[Prepared]) -> Result<Vec<f32>, EncodeError> {
        self.checked(batch, self.encoder.encode_with_missing(batch)?, true)
    }

    fn checked(
        &self,
        batch: &[Prepared],
        embeddings: Vec<f32>,
        may_be_missing: bool,
    ) -> Result<Vec<f32>, EncodeError> {
        if embeddings.len() != batch.len() * self.version.dim {
            return Err(EncodeError::Backend(format!(
                "{} values for {} embeddings of dimension {}",
                embeddings.len(),
                batch.len(),
                self.version.dim
            )));
        }
        for (input, row) in embeddings.chunks_exact(self.version.dim).enumerate() {
            let norm: f64 = row.iter().map(|&value| f64::from(value).powi(2)).sum();
            if may_be_missing && norm == 0.0 {
                continue;
            }
            // NaN fails the comparison as well.
            if (norm.sqrt() - 1.0).abs() > f64::from(perennial_gallery::limits::NORM_TOLERANCE)
                || !norm.is_finite()
            {
                return Err(EncodeError::NonFinite { input });
            }
        }
        Ok(embeddings)
    }
}

fn check_input(network: &TrainedNetwork) -> Result<(), String> {
    let [channels, height, width] = network.architecture.input;
    if height == width && height <= MAX_SIDE && matches!(channels, 1 | 3) {
        return Ok(());
    }
    Err(format!(
        "its input is {channels}x{height}x{width} (channels, height, width); supported are square images of 1 or 3 channels and at most {MAX_SIDE} pixels a side"
    ))
}

/// The simplex of a version's embeddings.
pub fn simplex_of(version: &ModelVersion) -> Option<SimplexIdentity> {
    let vertices = version.simplex_vertices()?;
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
