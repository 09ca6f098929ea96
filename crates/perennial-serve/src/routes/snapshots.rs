//! `POST /snapshots` and `GET /snapshots`.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use perennial_core::{WorkingFolder, move_durably, read_at_most, write_atomically};
use perennial_gallery::SnapshotInfo;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;
use utoipa::ToSchema;

use crate::authorize::{MayRead, MayWriteElsewhere};
use crate::blocking::blocking;
use crate::error::{ApiError, ErrorBody};
use crate::gallery::Gallery;
use crate::openapi::Guarded;

const EXTENSION: &str = "snapshot";
/// Next to each snapshot lies what `POST` answered, so that listing need not read the snapshots.
const INFO_EXTENSION: &str = "json";
const MAX_INFO_BYTES: u64 = 4096;
/// With which the names of folders begin that hold a snapshot until it is complete.
const UNWRITTEN_PREFIX: &str = ".partial-snapshot-";

/// Where snapshots are written, where the service has such a place.
#[derive(Clone)]
pub(crate) struct SnapshotsFolder(pub(crate) Option<Arc<Path>>);

impl SnapshotsFolder {
    fn get(&self) -> Result<Arc<Path>, ApiError> {
        self.0.clone().ok_or_else(|| {
            ApiError::unavailable(
                "the service has no folder for snapshots; start it with `--snapshots DIR`",
            )
        })
    }
}

/// A snapshot of the gallery.
#[derive(Serialize, ToSchema)]
pub(crate) struct SnapshotBody {
    /// Its file name in the snapshots folder.
    name: String,
    /// Items in it; null for a file that was put there by hand.
    items: Option<u64>,
    bytes: u64,
    /// Of the whole file, hexadecimal; null for a file that was put there by hand.
    sha256: Option<String>,
}

/// All snapshots.
#[derive(Serialize, ToSchema)]
pub(crate) struct SnapshotsBody {
    /// Oldest first.
    snapshots: Vec<SnapshotBody>,
}

/// Writes the gallery, as it is at this moment, into one file of the snapshots folder.
#[utoipa::path(
    post,
    path = "/snapshots",
    tag = "gallery",
    responses(
        (status = 201, description = "Written.", body = SnapshotBody),
        (status = 503, description = "The service has no snapshots folder, or the storage fails.", body = ErrorBody),
        Guarded
    ),
    security(("key" = []))
)]
pub(crate) async fn create(
    _: MayWriteElsewhere,
    State(folder): State<SnapshotsFolder>,
    State(gallery): State<Arc<Gallery>>,
) -> Result<(StatusCode, Json<SnapshotBody>), ApiError> {
    let folder = folder.get()?;
    let body = blocking(move || {
        let form =
            format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:6]Z");
        let now = OffsetDateTime::now_utc()
            .format(form)
            .map_err(ApiError::internal)?;
        let name = format!("{now}.{EXTENSION}");
        let info = write(&gallery, &folder, Path::new(&name))?;
        tracing::info!(
            name,
            items = info.items,
            bytes = info.bytes,
            "snapshot written"
        );
        Ok(SnapshotBody {
            name,
            items: Some(info.items),
            bytes: info.bytes,
            sha256: Some(info.sha256),
        })
    })
    .await?;
    Ok((StatusCode::CREATED, Json(body)))
}

/// Lists the snapshots.
#[utoipa::path(
    get,
    path = "/snapshots",
    tag = "gallery",
    responses(
        (status = 200, description = "The snapshots.", body = SnapshotsBody),
        (status = 503, description = "The service has no snapshots folder, or it cannot be read.", body = ErrorBody),
        Guarded
    ),
    security(("key" = []))
)]
pub(crate) async fn list(
    _: MayRead,
    State(folder): State<SnapshotsFolder>,
) -> Result<Json<SnapshotsBody>, ApiError> {
    let folder = folder.get()?;
    blocking(move || {
        let mut snapshots = Vec::new();
        for entry in fs_err::read_dir(&*folder).map_err(|error| folder_fails(&error))? {
            let path = entry.map_err(|error| folder_fails(&error))?.path();
            let is_snapshot = path
                .extension()
                .is_some_and(|extension| extension == EXTENSION);
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .filter(|_| is_snapshot);
            let Some(name) = name else { continue };
            let metadata = fs_err::metadata(&path).map_err(|error| folder_fails(&error))?;
            let info = info(&path).filter(|info| info.bytes == metadata.len());
            snapshots.push(SnapshotBody {
                name: name.to_owned(),
                items: info.as_ref().map(|info| info.items),
                bytes: metadata.len(),
                sha256: info.map(|info| info.sha256),
            });
        }
        snapshots.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Json(SnapshotsBody { snapshots }))
    })
    .await
}

/// The folder is full, is gone, or may not be read or written.
fn folder_fails(reason: &dyn Display) -> ApiError {
    tracing::error!(%reason, "the snapshots folder fails");
    ApiError::unavailable(
        "the service's folder for snapshots cannot be read or written: it is full, missing or not permitted; the log has the reason",
    )
}

/// Writes a snapshot of this name and what is known about it. It is as large as the gallery, so it is written where one that is not complete is known for
/// that: its process may be killed, or may not wait for it at its end.
fn write(gallery: &Gallery, folder: &Path, name: &Path) -> Result<SnapshotInfo, ApiError> {
    let unwritten =
        WorkingFolder::create(folder, UNWRITTEN_PREFIX).map_err(|error| folder_fails(&error))?;
    let path = unwritten.path().join(name);
    let info = gallery.store.snapshot(&path)?;
    let text = serde_json::to_string(&info).map_err(ApiError::internal)?;
    // Before the snapshot, which makes it count.
    let place = folder.join(name);
    write_atomically(place.with_extension(INFO_EXTENSION), text)
        .map_err(|error| folder_fails(&error))?;
    move_durably(&path, &place).map_err(|error| folder_fails(&error))?;
    Ok(info)
}

/// Removes what is left of snapshots whose process ended before they were complete.
pub(crate) fn remove_unwritten(folder: &Path) -> usize {
    WorkingFolder::remove_abandoned(folder, UNWRITTEN_PREFIX)
}

/// How many snapshots there are, and when the newest was written.
pub(crate) fn newest(folder: &Path) -> io::Result<(u64, Option<SystemTime>)> {
    let (mut count, mut newest) = (0, None);
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == EXTENSION)
        {
            count += 1;
            newest = newest.max(Some(entry.metadata()?.modified()?));
        }
    }
    Ok((count, newest))
}

fn info(snapshot: &Path) -> Option<SnapshotInfo> {
    let bytes = read_at_most(snapshot.with_extension(INFO_EXTENSION), MAX_INFO_BYTES).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use perennial_gallery::{EmbeddedGallery, GalleryConfig};
    use perennial_upgrade::{Certification, Certified, CompatibilityCheck, NotCertified};

    use super::*;

    struct Nothing;

    impl CompatibilityCheck for Nothing {
        fn ways(&self, query: &str, gallery: &str) -> Result<Vec<Certified>, NotCertified> {
            Err(NotCertified {
                query_version: query.to_owned(),
                gallery_version: gallery.to_owned(),
                reason: "nothing is certified".to_owned(),
                remedy: None,
            })
        }
    }

    // The handlers alone: no router, no models, no keys.
    #[tokio::test]
    async fn a_snapshot_is_written_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedGallery::open(folder.path().join("gallery"), GalleryConfig::default());
        let certification = Certification::new(Arc::new(Nothing), false);
        let gallery = Gallery::new(Arc::new(store.unwrap()), certification).unwrap();
        let gallery = Arc::new(gallery);
        let written = async |folder: Option<Arc<Path>>| {
            let (folder, gallery) = (SnapshotsFolder(folder), Arc::clone(&gallery));
            create(MayWriteElsewhere, State(folder), State(gallery)).await
        };

        let refused = written(None).await.err().unwrap();
        assert_eq!(refused.code.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.message.contains("--snapshots"));

        let snapshots = folder.path().join("snapshots");
        fs_err::create_dir(&snapshots).unwrap();
        fs_err::write(snapshots.join("notes.txt"), "not a snapshot").unwrap();
        fs_err::write(snapshots.join("by-hand.snapshot"), "of unknown content").unwrap();
        // Of a process that was killed.
        let abandoned = snapshots.join(".partial-snapshot-abandoned");
        fs_err::create_dir(&abandoned).unwrap();
        for file in [".in-use", "half.snapshot"] {
            fs_err::write(abandoned.join(file), "").unwrap();
        }
        let at: Option<Arc<Path>> = Some(snapshots.as_path().into());
        let (status, Json(new)) = written(at.clone()).await.ok().unwrap();
        assert_eq!((status, new.items), (StatusCode::CREATED, Some(0)));
        let Json(listed) = list(MayRead, State(SnapshotsFolder(at)))
            .await
            .ok()
            .unwrap();
        let listed = listed.snapshots.iter();
        let listed: Vec<_> = listed.map(|one| (&*one.name, one.items)).collect();
        assert_eq!(listed, [(&*new.name, Some(0)), ("by-hand.snapshot", None)]);
        // Both files of the new one, and the two that were put there.
        assert_eq!(fs_err::read_dir(&snapshots).unwrap().count(), 4);

        fs_err::remove_dir_all(&snapshots).unwrap();
        let gone: Option<Arc<Path>> = Some(snapshots.as_path().into());
        let listed = list(MayRead, State(SnapshotsFolder(gone.clone()))).await;
        for error in [written(gone).await.err(), listed.err()] {
            let error = error.unwrap();
            assert_eq!(error.code.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(!error.message.contains(folder.path().to_str().unwrap()));
        }
    }
}
