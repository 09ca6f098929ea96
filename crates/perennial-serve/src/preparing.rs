//! Inputs of requests: prepared for an encoder off the async threads, a few at a time, within limits.

use std::sync::Arc;
use std::time::Instant;

use perennial_core::Modality;
use perennial_encode::{DecodeLimits, Input, InputType, PrepareError, Prepared};
use perennial_upgrade::LoadedModel;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::config::ServeConfig;
use crate::error::ApiError;
use crate::images::{EncodedImage, file_of};
use crate::telemetry::{Stage, Telemetry};

/// An input as it arrived.
#[derive(Clone)]
pub(crate) enum ReceivedInput {
    /// An image file.
    Picture(EncodedImage),
    /// A text, and what it is.
    Text(String, InputType),
}

impl ReceivedInput {
    /// Picture or text.
    pub(crate) fn modality(&self) -> Modality {
        match self {
            Self::Picture(_) => Modality::Image,
            Self::Text(..) => Modality::Text,
        }
    }

    /// The word for it in messages.
    fn word(&self) -> &'static str {
        match self {
            Self::Picture(_) => "image",
            Self::Text(..) => "text",
        }
    }
}

impl From<EncodedImage> for ReceivedInput {
    fn from(image: EncodedImage) -> Self {
        Self::Picture(image)
    }
}

/// Prepares inputs for the encoder of a snapshot.
pub(crate) struct Preparer {
    places: Arc<Semaphore>,
    limits: DecodeLimits,
    image_bytes: usize,
    max_images: usize,
    max_texts: usize,
    telemetry: Arc<Telemetry>,
}

impl Preparer {
    pub(crate) fn new(config: &ServeConfig, telemetry: Arc<Telemetry>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(config.limits.decoders)),
            limits: config.decode_limits(),
            image_bytes: config.limits.image_bytes,
            max_images: config.limits.images,
            max_texts: config.limits.inputs,
            telemetry,
        }
    }

    /// Decodes, scales and normalises pictures, and splits texts, as a snapshot's encoder wants them; the results are in the order of the
    /// inputs.
    ///
    /// # Errors
    /// 422 for no input, too many, or one that cannot be prepared within the limits or is of the wrong kind; 413 for one of too many bytes.
    pub(crate) async fn prepare(
        &self,
        snapshot: &Arc<LoadedModel>,
        inputs: Vec<ReceivedInput>,
    ) -> Result<Vec<Prepared>, ApiError> {
        let count = inputs.len();
        let is_picture = |input: &&ReceivedInput| matches!(input, ReceivedInput::Picture(_));
        let pictures = inputs.iter().filter(is_picture).count();
        // Each kind on its own: a text in front must not let in as many pictures as there may be texts.
        for (found, most, words) in [
            (pictures, self.max_images, "images"),
            (count - pictures, self.max_texts, "texts"),
        ] {
            if count == 0 || found > most {
                return Err(ApiError::unprocessable(format!(
                    "expected 1 to {most} {words}, got {found}"
                )));
            }
        }
        let mut prepared: Vec<Option<Prepared>> = vec![None; count];
        // Dropped with the request, so that inputs not yet started are skipped.
        let mut tasks = JoinSet::new();
        for (index, input) in inputs.into_iter().enumerate() {
            let place = Arc::clone(&self.places);
            let snapshot = Arc::clone(snapshot);
            let telemetry = Arc::clone(&self.telemetry);
            let (limits, image_bytes) = (self.limits, self.image_bytes);
            let task = async move {
                let place = place.acquire_owned().await.map_err(ApiError::internal)?;
                let word = input.word();
                let prepared = tokio::task::spawn_blocking(move || {
                    // Held by the thread, because the task can be cancelled while the thread keeps running.
                    let _place = place;
                    let start = Instant::now();
                    let prepared = prepare_one(&input, &snapshot, limits, image_bytes);
                    telemetry.stage(Stage::Decode, start.elapsed());
                    prepared
                });
                let prepared = prepared.await.map_err(ApiError::internal)?;
                prepared
                    .map(|prepared| (index, prepared))
                    .map_err(|error| ApiError {
                        message: format!("{word} {index}: {}", error.message),
                        ..error
                    })
            };
            tasks.spawn(task.in_current_span());
        }
        while let Some(done) = tasks.join_next().await {
            let (index, input) = done.map_err(ApiError::internal)??;
            prepared[index] = Some(input);
        }
        let prepared: Option<Vec<Prepared>> = prepared.into_iter().collect();
        prepared.ok_or_else(|| ApiError::internal("fewer prepared inputs than inputs"))
    }
}

fn prepare_one(
    input: &ReceivedInput,
    snapshot: &LoadedModel,
    limits: DecodeLimits,
    image_bytes: usize,
) -> Result<Prepared, ApiError> {
    let prepared = match input {
        ReceivedInput::Picture(image) => {
            let file = file_of(image, image_bytes)?;
            let file = file.as_ref();
            snapshot.prepare(Input::Picture { file, limits })
        }
        ReceivedInput::Text(text, input_type) => snapshot.prepare(Input::Text {
            text,
            input_type: *input_type,
        }),
    };
    prepared.map_err(|error| {
        ApiError::unprocessable(match error {
            PrepareError::Decode(error) => format!("cannot be decoded: {error}"),
            error => error.to_string(),
        })
    })
}
