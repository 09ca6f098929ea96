//! Databases of earlier formats, brought to the current one in one transaction: a process that is killed meanwhile leaves the earlier
//! format, complete, and the next opening does it again.
//!
//! - **1**: all items had one dimension and at most one simplex, kept with the counters. They become partition 0, with all versions in
//!   it; records stay as they are.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableError};

use super::tables::{FORMAT, META, PARTITIONS, SPACES, VERSIONS, storage};
use crate::error::GalleryError;
use crate::limits::MAX_DIM;

/// Says whether a database is a gallery whose format is understood, and brings it to the current one. Where nothing may be written, the
/// database's changes stay in memory.
pub(super) fn to_current_format(path: &Path, database: &Database) -> Result<(), GalleryError> {
    let foreign = || GalleryError::NotAGallery {
        path: path.to_owned(),
        problem: "it is the database of another program".to_owned(),
    };
    let format = {
        let transaction = database
            .begin_read()
            .map_err(|error| storage(path, error))?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::Storage(error)) => return Err(storage(path, error)),
            Err(_) => return Err(foreign()),
        };
        let format = meta.get("format").map_err(|error| storage(path, error))?;
        format.map(|format| format.value())
    };
    match format {
        Some(FORMAT) => Ok(()),
        Some(1) => {
            let dim = from_1(database).map_err(|error| storage(path, error))?;
            match dim {
                0..=MAX_DIM => Ok(()),
                _ => Err(GalleryError::Corrupt {
                    path: path.to_owned(),
                    problem: format!("it states {dim} dimensions"),
                }),
            }
        }
        Some(found) => Err(GalleryError::Format {
            path: path.to_owned(),
            found,
            expected: FORMAT,
        }),
        None => Err(foreign()),
    }
}

/// Returns the dimension found; nothing is changed if that is impossible.
fn from_1(database: &Database) -> Result<usize, redb::Error> {
    let transaction = database.begin_write()?;
    let dim = {
        let mut meta = transaction.open_table(META)?;
        let mut taken = |key: &str| -> Result<u64, redb::Error> {
            Ok(meta.remove(key)?.map_or(0, |value| value.value()))
        };
        let (dim, vertices) = (taken("dim")?, taken("vertices")?);
        let mut partitions = transaction.open_table(PARTITIONS)?;
        let mut spaces = transaction.open_table(SPACES)?;
        let known = usize::try_from(dim).unwrap_or(usize::MAX);
        if known > MAX_DIM {
            return Ok(known);
        }
        let versions = transaction.open_table(VERSIONS)?;
        if dim > 0 && !versions.is_empty()? {
            // A simplex of another dimension than the vectors is noticed when the layout is read.
            let vertices = u32::try_from(vertices).unwrap_or(u32::MAX);
            partitions.insert(0u32, (dim as u32, vertices))?;
            for entry in versions.range::<u32>(..)? {
                spaces.insert(entry?.0.value(), 0u32)?;
            }
        }
        meta.insert("next_partition", 1u64)?;
        meta.insert("format", FORMAT)?;
        known
    };
    transaction.commit()?;
    tracing::info!("a gallery of format 1 was brought to format {FORMAT}");
    Ok(dim)
}
