//! What turns images into embeddings: the live version, the old encoders beside it, decoding and batches.

use std::sync::Arc;

use perennial_upgrade::{EncoderLoader, LoadedModel, StoredProbes};
use tokio::task::JoinHandle;

use crate::batcher::Batcher;
use crate::config::ServeConfig;
use crate::encoders::Encoders;
use crate::error::ApiError;
use crate::images::{Decoder, EncodedImage};
use crate::live::Live;
use crate::telemetry::Telemetry;

/// The encoders of a service, and the queue in front of them.
pub(crate) struct Inference {
    pub(crate) live: Live,
    /// For dual queries.
    pub(crate) encoders: Encoders,
    pub(crate) batcher: Batcher,
    pub(crate) decoder: Decoder,
    pub(crate) loader: Arc<dyn EncoderLoader>,
    pub(crate) probes: Option<Arc<StoredProbes>>,
}

impl Inference {
    /// Starts the batcher. Must run inside a tokio runtime.
    pub(crate) fn start(
        config: &ServeConfig,
        live: Option<Arc<LoadedModel>>,
        loader: Arc<dyn EncoderLoader>,
        probes: Option<Arc<StoredProbes>>,
        telemetry: &Arc<Telemetry>,
    ) -> (Self, JoinHandle<()>) {
        let (batcher, worker) = Batcher::start(&config.batching, Arc::clone(telemetry));
        let inference = Self {
            live: Live::new(live),
            encoders: Encoders::new(probes.clone()),
            batcher,
            decoder: Decoder::new(config, Arc::clone(telemetry)),
            loader,
            probes,
        };
        (inference, worker)
    }

    /// The snapshot that a request keeps to its end.
    ///
    /// # Errors
    /// 503 while no version is live.
    pub(crate) fn snapshot(&self) -> Result<Arc<LoadedModel>, ApiError> {
        self.live.current().ok_or_else(|| {
            ApiError::unavailable("no model version is live; PUT /aliases/live names one")
        })
    }

    /// Embeds images with one snapshot.
    ///
    /// **Shapes**: the result is `[n, d]`.
    ///
    /// # Errors
    /// Those of the decoder and of the batcher.
    pub(crate) async fn embed(
        &self,
        snapshot: &Arc<LoadedModel>,
        images: Vec<EncodedImage>,
    ) -> Result<Vec<f32>, ApiError> {
        let pixels = self.decoder.decode(snapshot, images).await?;
        self.batcher.encode(snapshot, &pixels).await
    }
}
