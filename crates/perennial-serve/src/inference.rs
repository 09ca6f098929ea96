//! What turns pictures and texts into embeddings: the live version, the old encoders beside it, preparation and batches.

use std::sync::{Arc, Mutex};

use perennial_encode::{Prepared, Values};
use perennial_upgrade::{EncoderLoader, LoadedModel, StoredProbes};
use tokio::task::{JoinHandle, JoinSet};
use tracing::Instrument;

use crate::batcher::Batcher;
use crate::config::ServeConfig;
use crate::encoders::Encoders;
use crate::error::ApiError;
use crate::live::Live;
use crate::preparing::{Preparer, ReceivedInput};
use crate::telemetry::Telemetry;
use crate::tried::Tried;

/// The encoders of a service, and the queue in front of them.
pub(crate) struct Inference {
    pub(crate) live: Live,
    /// For dual queries.
    pub(crate) encoders: Encoders,
    /// For searches as if another version were live.
    pub(crate) tried: Tried,
    /// Held while it is decided which encoders are kept, and while they are loaded.
    pub(crate) keeping: Mutex<()>,
    pub(crate) batcher: Batcher,
    pub(crate) preparer: Preparer,
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
            tried: Tried::default(),
            keeping: Mutex::new(()),
            batcher,
            preparer: Preparer::new(config, Arc::clone(telemetry)),
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

    /// The versions that searches may be made with: the live one, the one that a rollback returns to, the one that is about to become live, and the
    /// one that searches are tried with.
    pub(crate) fn may_search(&self) -> Vec<Arc<LoadedModel>> {
        let versions = [
            self.live.current(),
            self.live.previous(),
            self.live.upcoming().map(|upcoming| upcoming.model),
            self.tried.current(),
        ];
        versions.into_iter().flatten().collect()
    }

    /// The same without a version for which it is only asked what a swap would do: nothing is built for it.
    pub(crate) fn will_search(&self) -> Vec<Arc<LoadedModel>> {
        let upcoming = self.live.upcoming().filter(|upcoming| !upcoming.dry_run);
        let versions = [
            self.live.current(),
            self.live.previous(),
            upcoming.map(|upcoming| upcoming.model),
            self.tried.current(),
        ];
        versions.into_iter().flatten().collect()
    }

    /// Embeds pictures or texts with one snapshot.
    ///
    /// **Shapes**: the result is `[n, d]`.
    ///
    /// # Errors
    /// Those of the preparation and of the batcher.
    pub(crate) async fn embed(
        &self,
        snapshot: &Arc<LoadedModel>,
        inputs: Vec<ReceivedInput>,
    ) -> Result<Vec<f32>, ApiError> {
        let prepared = self.preparer.prepare(snapshot, inputs).await?;
        self.batcher.encode(snapshot, &prepared).await
    }

    /// Embeds inputs with several encoders at the same time. Each input is prepared once for encoders that want the same values.
    ///
    /// **Shapes**: the result is one `[n, d]` for each encoder, in their order, with the tokens that it was given.
    ///
    /// # Errors
    /// Those of [`embed`](Self::embed), of any encoder.
    pub(crate) async fn embed_by_all(
        self: &Arc<Self>,
        encoders: &[Arc<LoadedModel>],
        inputs: Vec<ReceivedInput>,
    ) -> Result<Vec<(Vec<f32>, u64)>, ApiError> {
        if let [one] = encoders {
            let prepared = self.preparer.prepare(one, inputs).await?;
            let rows = self.batcher.encode(one, &prepared).await?;
            return Ok(vec![(rows, tokens(&prepared))]);
        }
        // Dropped with the request, so that what has not started is skipped.
        let mut tasks = JoinSet::new();
        for group in prepared_alike(encoders) {
            let inference = Arc::clone(self);
            let inputs = inputs.clone();
            let task = async move {
                let Some((_, first)) = group.first() else {
                    return Ok(Vec::new());
                };
                let prepared = Arc::new(inference.preparer.prepare(first, inputs).await?);
                inference.encode_by_all(group, &prepared).await
            };
            tasks.spawn(task.in_current_span());
        }
        let mut embedded = vec![(Vec::new(), 0); encoders.len()];
        while let Some(group) = tasks.join_next().await {
            for (place, rows) in group.map_err(ApiError::internal)?? {
                embedded[place] = rows;
            }
        }
        Ok(embedded)
    }

    async fn encode_by_all(
        self: &Arc<Self>,
        encoders: Vec<(usize, Arc<LoadedModel>)>,
        prepared: &Arc<Vec<Prepared>>,
    ) -> Result<Vec<(usize, (Vec<f32>, u64))>, ApiError> {
        let tokens = tokens(prepared);
        let mut tasks = JoinSet::new();
        for (place, encoder) in encoders {
            let inference = Arc::clone(self);
            let prepared = Arc::clone(prepared);
            let task = async move {
                // One encoder admits the request. The others of it wait: together they may need more of the queue than there is.
                let rows = match place {
                    0 => inference.batcher.encode(&encoder, &prepared).await?,
                    _ => {
                        inference
                            .batcher
                            .encode_as_well(&encoder, &prepared)
                            .await?
                    }
                };
                Ok::<_, ApiError>((place, (rows, tokens)))
            };
            tasks.spawn(task.in_current_span());
        }
        let mut embedded = Vec::with_capacity(tasks.len());
        while let Some(rows) = tasks.join_next().await {
            embedded.push(rows.map_err(ApiError::internal)??);
        }
        Ok(embedded)
    }
}

/// The tokens of all texts among some inputs, where they are known.
pub(crate) fn tokens(inputs: &[Prepared]) -> u64 {
    let tokens = inputs.iter().map(|input| match &input.values {
        Values::Tokens(tokens) => tokens.len() as u64,
        Values::Pixels(_) | Values::Text(_) => 0,
    });
    tokens.sum()
}

/// Encoders with their places, by what they make of an input before they encode it.
fn prepared_alike(encoders: &[Arc<LoadedModel>]) -> Vec<Vec<(usize, Arc<LoadedModel>)>> {
    let mut groups: Vec<Vec<(usize, Arc<LoadedModel>)>> = Vec::new();
    for (place, encoder) in encoders.iter().enumerate() {
        let wants = |other: &LoadedModel| other.version.prepares_like(&encoder.version);
        let member = (place, Arc::clone(encoder));
        let same = groups
            .iter_mut()
            .find(|group| group.first().is_some_and(|(_, first)| wants(first)));
        match same {
            Some(group) => group.push(member),
            None => groups.push(vec![member]),
        }
    }
    groups
}
