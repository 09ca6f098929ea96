//! The sizes of requests, held against the limits.

use crate::error::GalleryError;
use crate::item::ItemId;
use crate::limits::{MAX_BATCH, MAX_DIM, MAX_LIMIT};

pub(super) fn check_batch(found: usize) -> Result<(), GalleryError> {
    match found {
        0..=MAX_BATCH => Ok(()),
        _ => Err(GalleryError::BatchTooLarge { found }),
    }
}

pub(super) fn check_ids(ids: &[ItemId]) -> Result<(), GalleryError> {
    check_batch(ids.len())?;
    Ok(ids.iter().try_for_each(ItemId::check)?)
}

pub(super) fn check_dim(dim: usize) -> Result<(), GalleryError> {
    match dim {
        1..=MAX_DIM => Ok(()),
        _ => Err(GalleryError::UnsupportedDimension {
            what: "the queries".to_owned(),
            found: dim,
        }),
    }
}

pub(super) fn check_limit(limit: usize) -> Result<(), GalleryError> {
    match limit {
        1..=MAX_LIMIT => Ok(()),
        _ => Err(GalleryError::InvalidLimit { limit }),
    }
}
