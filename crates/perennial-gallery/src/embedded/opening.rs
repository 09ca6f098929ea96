//! Creating a database, and what the errors of opening one mean.

use std::fs::File;
use std::path::Path;

use redb::{Database, DatabaseError, StorageError};

use super::backend::PreallocatedFile;
use super::layout::Layout;
use super::place;
use super::tables::{IDS, ITEMS, Writer, storage};
use crate::error::GalleryError;

/// Makes a database without items, complete before it has its name.
pub(super) fn create(path: &Path, cache_bytes: usize) -> Result<(), GalleryError> {
    let system = |error| place::system(path, error);
    let (file, temporary) = place::new_file(path).map_err(system)?;
    let (database, kept) = empty(file, path, cache_bytes)?;
    let writer = Writer::begin(&database).map_err(|error| storage(path, error))?;
    let prepare = || -> Result<(), redb::Error> {
        writer.set_origin(new_number())?;
        writer.transaction.open_table(ITEMS)?;
        writer.transaction.open_table(IDS)?;
        writer.set_layout(&Layout::default())
    };
    prepare().map_err(|error| storage(path, error))?;
    writer.commit().map_err(|error| storage(path, error))?;
    database.close().map_err(|error| open_error(path, error))?;
    kept.sync_all().map_err(system)?;
    place::publish(temporary, path).map_err(system)
}

/// An empty database in a new file, and the file, to be flushed once it has content. `path` is the name that it gets, for errors.
pub(super) fn empty(
    file: File,
    path: &Path,
    cache_bytes: usize,
) -> Result<(Database, File), GalleryError> {
    let kept = file
        .try_clone()
        .map_err(|error| place::system(path, error))?;
    let failed = |error| open_error(path, error);
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(PreallocatedFile::new(file).map_err(failed)?)
        .map_err(failed)?;
    Ok((database, kept))
}

pub(super) fn open_error(path: &Path, error: DatabaseError) -> GalleryError {
    let path = path.to_owned();
    let problem = error.to_string();
    match error {
        DatabaseError::DatabaseAlreadyOpen => GalleryError::Locked { path },
        DatabaseError::Storage(StorageError::Io(error))
            if matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            GalleryError::Corrupt { path, problem }
        }
        DatabaseError::Storage(StorageError::Corrupted(_))
        | DatabaseError::RepairAborted
        | DatabaseError::UpgradeRequired(_) => GalleryError::Corrupt { path, problem },
        _ => GalleryError::Storage { path, problem },
    }
}

/// A number that no other database, nor another writer, is likely to have: the hasher's keys are random per process.
pub(super) fn new_number() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::time::SystemTime::now())
}
