//! The version that answers: an immutable snapshot behind one atomic pointer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use perennial_core::{EncodeError, Encoder, ModelVersion, Registry};
use perennial_data::Preprocessing;
use perennial_gallery::SimplexIdentity;
use thiserror::Error;

/// The alias of the version that answers.
pub const LIVE_ALIAS: &str = "live";
/// The alias of the version that answered before, for a rollback.
pub const PREVIOUS_ALIAS: &str = "previous";

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

/// Turns a registered version into an encoder. The binary implements it, so that the service knows no tensor framework.
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
pub struct Snapshot {
    /// The version, with its vertex map.
    pub version: ModelVersion,
    /// Its network.
    pub encoder: Arc<dyn Encoder>,
    /// Its own constants.
    pub preprocessing: Preprocessing,
    /// The simplex of its embeddings; none for a linear classifier.
    pub simplex: Option<SimplexIdentity>,
}

impl Snapshot {
    /// Loads a version and checks that the encoder is the one that `model.toml` describes.
    ///
    /// # Errors
    /// [`LoadError`] from the loader, or for an encoder that cannot serve square images of 1 or 3 channels.
    pub(crate) fn load(
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
                "it takes images of {channels}x{height}x{width}; only squares of 1 or 3 channels and at most {MAX_SIDE} pixels a side can be served"
            )));
        }
        let encoder = loader.load(registry, version.clone())?;
        if encoder.dim() != version.dim || encoder.input_shape() != version.architecture.input {
            return Err(refused(format!(
                "the encoder has dim {} and input {:?}, model.toml says {} and {:?}",
                encoder.dim(),
                encoder.input_shape(),
                version.dim,
                version.architecture.input
            )));
        }
        Ok(Self {
            simplex: identity(&version),
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
    pub(crate) fn image_len(&self) -> usize {
        self.version.architecture.input.iter().product()
    }

    /// Encodes a batch and checks that every row can be stored and searched.
    pub(crate) fn encode(&self, pixels: &[f32]) -> Result<Vec<f32>, EncodeError> {
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
            if (norm.sqrt() - 1.0).abs() > f64::from(perennial_gallery::item::NORM_TOLERANCE)
                || !norm.is_finite()
            {
                return Err(EncodeError::NonFinite { image });
            }
        }
        Ok(embeddings)
    }
}

/// The simplex of a version's embeddings.
pub(crate) fn identity(version: &ModelVersion) -> Option<SimplexIdentity> {
    let vertices = version.classifier.vertices?;
    Some(SimplexIdentity { vertices })
}

/// The pointer. Reading it never waits.
pub(crate) struct Live {
    state: ArcSwap<Pointers>,
    /// Held during a swap: one at a time.
    pub(crate) swapping: tokio::sync::Mutex<()>,
}

#[derive(Default)]
pub(crate) struct Pointers {
    pub(crate) current: Option<Arc<Snapshot>>,
    pub(crate) previous: Option<Arc<Snapshot>>,
}

impl Live {
    pub(crate) fn new(current: Option<Arc<Snapshot>>) -> Self {
        Self {
            state: ArcSwap::from_pointee(Pointers {
                current,
                previous: None,
            }),
            swapping: tokio::sync::Mutex::new(()),
        }
    }

    /// What answers now.
    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        self.state.load().current.clone()
    }

    /// What answered before, if it was in this process.
    pub(crate) fn previous(&self) -> Option<Arc<Snapshot>> {
        self.state.load().previous.clone()
    }

    /// Moves the pointer; requests under way keep the snapshot that they have.
    pub(crate) fn move_to(&self, next: Arc<Snapshot>) {
        let previous = self.current();
        self.state.store(Arc::new(Pointers {
            current: Some(next),
            previous,
        }));
    }
}
