//! Untrusted images: decoded off the async threads, a few at a time, within limits.

use std::borrow::Cow;
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
#[derive(Clone)]
pub(crate) enum EncodedImage {
    /// The file's bytes.
    Bytes(Bytes),
    /// The same as base64, with or without line breaks, with or without `data:image/...;base64,` in front.
    Base64(String),
}

/// Decodes images to the input of a snapshot's encoder.
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
        // Dropped with the request, so that images not yet started are skipped.
        let mut tasks = JoinSet::new();
        for (index, image) in images.into_iter().enumerate() {
            let place = Arc::clone(&self.places);
            let snapshot = Arc::clone(snapshot);
            let telemetry = Arc::clone(&self.telemetry);
            let (limits, image_bytes) = (self.limits, self.image_bytes);
            let task = async move {
                let place = place.acquire_owned().await.map_err(ApiError::internal)?;
                let decoded = tokio::task::spawn_blocking(move || {
                    // Held by the thread, because the task can be cancelled while the thread keeps running.
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
    let file = file_of(image, image_bytes)?;
    snapshot
        .pixels(&file, limits)
        .map_err(|error| ApiError::unprocessable(format!("cannot be decoded: {error}")))
}

/// The bytes of an image's file.
///
/// # Errors
/// 413 for too many, 422 for text that is no base64.
pub(crate) fn file_of(image: &EncodedImage, image_bytes: usize) -> Result<Cow<'_, [u8]>, ApiError> {
    let file = match image {
        EncodedImage::Bytes(bytes) => Cow::Borrowed(bytes.as_ref()),
        EncodedImage::Base64(text) => Cow::Owned(from_base64(text, image_bytes)?),
    };
    if file.len() > image_bytes {
        return Err(too_large(file.len(), image_bytes));
    }
    Ok(file)
}

/// The file behind base64 as programs write it: in one line or wrapped as in MIME, alone or as a data URL.
fn from_base64(text: &str, image_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let mut text = text.trim_ascii();
    let is_url = text
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    if is_url {
        let (head, content) = text.split_once(',').unwrap_or_default();
        let is_base64 = head.rsplit(';').next().unwrap_or_default().trim_ascii();
        if !is_base64.eq_ignore_ascii_case("base64") {
            return Err(ApiError::unprocessable(
                "a data URL must continue with `;base64,` after its media type",
            ));
        }
        text = content;
    }
    let spaces = text.bytes().filter(u8::is_ascii_whitespace).count();
    let bytes = (text.len() - spaces) / 4 * 3;
    if bytes > image_bytes + 3 {
        return Err(too_large(bytes, image_bytes));
    }
    let decoded = if spaces == 0 {
        STANDARD.decode(text)
    } else {
        let dense: Vec<u8> = text
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        STANDARD.decode(dense)
    };
    decoded.map_err(|error| ApiError::unprocessable(format!("is not base64: {error}")))
}

fn too_large(bytes: usize, image_bytes: usize) -> ApiError {
    ApiError::too_large(format!(
        "the file has {bytes} bytes; at most {image_bytes} are decoded"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_may_be_wrapped_and_be_a_data_url() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = STANDARD.encode(&bytes);
        let wrapped = |end: &str| {
            let lines: Vec<&str> = (0..text.len())
                .step_by(76)
                .map(|start| &text[start..text.len().min(start + 76)])
                .collect();
            lines.join(end) + end
        };
        for form in [
            text.clone(),
            wrapped("\n"),
            wrapped("\r\n"),
            wrapped("\r\n\t "),
            format!("  {text}\n\n"),
            format!("data:image/png;base64,{text}"),
            format!("\n data:image/jpeg;name=a;base64,\r\n{}", wrapped("\r\n")),
            format!("DATA:;BASE64,{text}"),
        ] {
            assert_eq!(from_base64(&form, 256).unwrap(), bytes, "{form}");
        }
        for form in [
            "data:image/png,abcd",
            "data:",
            "data:text/plain;charset=utf-8,abcd",
        ] {
            let error = from_base64(form, 256).unwrap_err();
            assert!(error.message.contains(";base64,"), "{error}");
        }
        for form in ["ab-_", "abc", "ab\u{a0}cd", "abcd=", "data"] {
            let error = from_base64(form, 256);
            assert!(form == "data" || error.unwrap_err().message.contains("base64"));
        }
    }

    #[test]
    fn line_breaks_do_not_count_as_bytes_of_the_file() {
        let text = STANDARD.encode([1; 300]);
        let sparse: String = text.chars().flat_map(|letter| [letter, '\n']).collect();
        assert_eq!(from_base64(&sparse, 300).unwrap(), [1; 300]);
        let error = from_base64(&sparse, 290).unwrap_err();
        assert!(error.message.contains("300 bytes"), "{error}");
    }
}
