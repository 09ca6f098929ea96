//! Images of strangers: decoded off the async threads, a few at a time, within limits.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use perennial_data::DecodeLimits;
use perennial_upgrade::LoadedModel;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::config::ServeConfig;
use crate::error::ApiError;
use crate::telemetry::{Stage, Telemetry};

/// An image as it arrived.
pub(crate) enum EncodedImage {
    /// The file's bytes.
    Bytes(Bytes),
    /// The same as base64, with or without `data:image/...;base64,` in front.
    Base64(String),
}

/// Decodes images to the pixels that a snapshot's encoder takes.
pub(crate) struct Decoder {
    places: Arc<Semaphore>,
    limits: DecodeLimits,
    image_bytes: usize,
    max_images: usize,
    telemetry: Arc<Telemetry>,
}

impl Decoder {
    pub(crate) fn new(config: &ServeConfig, telemetry: Arc<Telemetry>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(config.limits.decoders)),
            limits: config.decode_limits(),
            image_bytes: config.limits.image_bytes,
            max_images: config.limits.images,
            telemetry,
        }
    }

    /// Decodes, scales and normalises images with a snapshot's own constants.
    ///
    /// **Shapes**: the result is `[n, c, h, w]`.
    ///
    /// # Errors
    /// 422 for no image, too many, or one that cannot be decoded within the limits; 413 for one of too many bytes.
    pub(crate) async fn decode(
        &self,
        snapshot: &Arc<LoadedModel>,
        images: Vec<EncodedImage>,
    ) -> Result<Vec<f32>, ApiError> {
        let count = images.len();
        if !(1..=self.max_images).contains(&count) {
            return Err(ApiError::unprocessable(format!(
                "expected 1 to {} images, got {count}",
                self.max_images
            )));
        }
        let image_len = snapshot.image_len();
        let mut pixels = vec![0.0; count * image_len];
        // Dropped with the request: what has not begun is not begun any more.
        let mut tasks = JoinSet::new();
        for (index, image) in images.into_iter().enumerate() {
            let place = Arc::clone(&self.places);
            let snapshot = Arc::clone(snapshot);
            let telemetry = Arc::clone(&self.telemetry);
            let (limits, image_bytes) = (self.limits, self.image_bytes);
            let task = async move {
                let place = place.acquire_owned().await.map_err(ApiError::internal)?;
                let decoded = tokio::task::spawn_blocking(move || {
                    // Held by the thread, which cannot be cancelled, not by the task, which can.
                    let _place = place;
                    let start = Instant::now();
                    let decoded = decode_one(&image, &snapshot, limits, image_bytes);
                    telemetry.stage(Stage::Decode, start.elapsed());
                    decoded
                });
                let decoded = decoded.await.map_err(ApiError::internal)?;
                decoded
                    .map(|decoded| (index, decoded))
                    .map_err(|error| ApiError {
                        message: format!("image {index}: {}", error.message),
                        ..error
                    })
            };
            tasks.spawn(task.in_current_span());
        }
        while let Some(done) = tasks.join_next().await {
            let (index, decoded) = done.map_err(ApiError::internal)??;
            pixels[index * image_len..][..image_len].copy_from_slice(&decoded);
        }
        Ok(pixels)
    }
}

fn decode_one(
    image: &EncodedImage,
    snapshot: &LoadedModel,
    limits: DecodeLimits,
    image_bytes: usize,
) -> Result<Vec<f32>, ApiError> {
    let too_large = |bytes: usize| {
        ApiError::too_large(format!(
            "the file has {bytes} bytes; at most {image_bytes} are decoded"
        ))
    };
    let decoded;
    let file: &[u8] = match image {
        EncodedImage::Bytes(bytes) => bytes,
        EncodedImage::Base64(text) => {
            let text = match text.strip_prefix("data:") {
                Some(url) => url
                    .split_once(";base64,")
                    .map(|(_, text)| text)
                    .ok_or_else(|| {
                        ApiError::unprocessable("a data URL must continue with `;base64,`")
                    })?,
                None => text,
            };
            if text.len() / 4 * 3 > image_bytes + 3 {
                return Err(too_large(text.len() / 4 * 3));
            }
            decoded = STANDARD
                .decode(text)
                .map_err(|error| ApiError::unprocessable(format!("is not base64: {error}")))?;
            &decoded
        }
    };
    if file.len() > image_bytes {
        return Err(too_large(file.len()));
    }
    snapshot
        .pixels(file, limits)
        .map_err(|error| ApiError::unprocessable(format!("cannot be decoded: {error}")))
}
