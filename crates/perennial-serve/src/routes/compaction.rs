//! `POST /gallery/compact`.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::authorize::MayWrite;
use crate::blocking::blocking;
use crate::error::{ApiError, ErrorBody};
use crate::gallery::Gallery;
use crate::openapi::Guarded;

/// What a compaction did.
#[derive(Serialize, ToSchema)]
pub(crate) struct CompactionBody {
    /// Items in the gallery.
    items: u64,
    /// Size of the gallery's file before.
    bytes_before: u64,
    /// Its size now.
    bytes_after: u64,
    took_seconds: f64,
}

/// Gives the space of replaced and deleted items back to the disk.
///
/// Reads and writes go on meanwhile; a write may wait for the moment in which the new file takes the old one's place. Needs as
/// much free space as the items occupy. Wherever it is interrupted, no item is lost.
#[utoipa::path(
    post,
    path = "/gallery/compact",
    tag = "gallery",
    responses(
        (status = 200, description = "Compacted.", body = CompactionBody),
        (status = 409, description = "The gallery is being compacted already, or lies in a database that does this by itself.", body = ErrorBody),
        (status = 503, description = "There is not enough free space, or the storage fails. Nothing was changed.", body = ErrorBody),
        Guarded
    ),
    security(("key" = []))
)]
pub(crate) async fn compact(
    _: MayWrite,
    State(gallery): State<Arc<Gallery>>,
) -> Result<Json<CompactionBody>, ApiError> {
    blocking(move || {
        let start = Instant::now();
        let compacted = gallery.store.compact()?;
        Ok(Json(CompactionBody {
            items: compacted.items,
            bytes_before: compacted.bytes_before,
            bytes_after: compacted.bytes_after,
            took_seconds: start.elapsed().as_secs_f64(),
        }))
    })
    .await
}
