//! Snapshots: the same file as that of the embedded engine, from one state of the database.

use std::path::Path;

use perennial_gallery::exchange::read_snapshot;
use perennial_gallery::{GalleryError, Item, SnapshotInfo, Snapshots, StoreSpace};

use super::PostgresStore;
use super::row;
use super::session::{Bound, Session};
use super::spaces::Spaces;
use super::writing::Writing;
use crate::failure::Failure;
use crate::snapshot_file::{self, Restored, occurs_twice};

impl Snapshots for PostgresStore {
    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        self.pool.read(Bound::Long, |session| write(session, path))
    }

    fn restore(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        self.check_writable()?;
        // Verified first, so that a damaged file holds nobody up.
        read_snapshot(path, |_| Ok(()), |_| Ok(()))?;
        self.write(Bound::Long, |writing| read(writing, path))
    }
}

fn write(session: &Session, path: &Path) -> Result<SnapshotInfo, Failure> {
    let spaces = Spaces::read(session)?;
    let known: Vec<StoreSpace> = spaces.iter().map(|known| known.space.clone()).collect();
    let columns = row::columns(true);
    snapshot_file::write(path, &known, spaces.items(), |add| {
        session.stream(&format!("SELECT {columns} FROM perennial_items"), |found| {
            let stored = row::item(found, &spaces, true)?;
            Ok(add(&Item {
                id: stored.id,
                embedding: stored.embedding.unwrap_or_default(),
                model_version: stored.model_version,
                label: stored.label,
                payload: stored.payload,
            })?)
        })
    })
}

/// Everything is replaced by what a file holds.
struct Refilled<'a, 'b> {
    writing: &'a mut Writing<'b>,
    path: &'a Path,
}

impl Restored for Refilled<'_, '_> {
    fn create(&mut self, space: &StoreSpace) -> Result<(), Failure> {
        self.writing.create(space)
    }

    fn store(&mut self, items: &[Item]) -> Result<(), Failure> {
        match self.writing.upsert(items)?.replaced {
            0 => Ok(()),
            _ => Err(occurs_twice(self.path, "an id")),
        }
    }
}

fn read(writing: &mut Writing<'_>, path: &Path) -> Result<SnapshotInfo, Failure> {
    writing.clear()?;
    snapshot_file::read(path, &mut Refilled { writing, path })
}
