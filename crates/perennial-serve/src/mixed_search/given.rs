//! Embeddings that clients search with.

use perennial_core::ModelVersion;
use perennial_gallery::GalleryError;
use perennial_gallery::limits::NORM_TOLERANCE;

use crate::error::ApiError;

/// Whether it is a unit vector of the version's dimension: a bridge would not notice.
pub(super) fn check_embedding(embedding: &[f32], version: &ModelVersion) -> Result<(), ApiError> {
    if embedding.len() != version.dim {
        return Err(ApiError::unprocessable(format!(
            "embedding: has {} values, those of {} have {}",
            embedding.len(),
            version.name,
            version.dim
        )));
    }
    let what = || "embedding".to_owned();
    if let Some(index) = embedding.iter().position(|value| !value.is_finite()) {
        return Err(GalleryError::NonFinite {
            what: what(),
            index,
        }
        .into());
    }
    let square: f64 = embedding
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum();
    let norm = square.sqrt() as f32;
    if (norm - 1.0).abs() > NORM_TOLERANCE {
        return Err(GalleryError::NotUnit { what: what(), norm }.into());
    }
    Ok(())
}
