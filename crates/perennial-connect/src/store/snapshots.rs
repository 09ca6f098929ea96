//! Snapshots: the same file as that of the embedded engine, from one state of the database.

use std::path::Path;

use perennial_gallery::exchange::{read_snapshot, write_snapshot};
use perennial_gallery::{GalleryError, Item, SnapshotInfo, Snapshots, StoreSpace};

use super::PostgresStore;
use super::row;
use super::session::{Bound, Session};
use super::spaces::Spaces;
use super::writing::Writing;
use crate::failure::Failure;

/// Items that are restored by one call.
const PIECE: usize = 1000;

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
    let mut failed = None;
    let written = write_snapshot(path, &known, spaces.items(), |add| {
        let copied = session.stream(&format!("SELECT {columns} FROM perennial_items"), |found| {
            let stored = row::item(found, &spaces, true)?;
            Ok(add(&Item {
                id: stored.id,
                embedding: stored.embedding.unwrap_or_default(),
                model_version: stored.model_version,
                label: stored.label,
                payload: stored.payload,
            })?)
        });
        outcome(copied, &mut failed)
    });
    finished(written, failed)
}

fn read(writing: &mut Writing<'_>, path: &Path) -> Result<SnapshotInfo, Failure> {
    writing.clear()?;
    let mut failed = None;
    let mut waiting: Vec<Item> = Vec::with_capacity(PIECE);
    let writing = std::cell::RefCell::new(writing);
    let store = |items: &mut Vec<Item>| {
        let stored = writing.borrow_mut().upsert(items)?;
        items.clear();
        match stored.replaced {
            0 => Ok(()),
            _ => Err(Failure::Refused(GalleryError::Snapshot {
                path: path.to_owned(),
                problem: "an id occurs twice".to_owned(),
            })),
        }
    };
    let mut of_spaces = None;
    let read = read_snapshot(
        path,
        |spaces| {
            let mut spaces = spaces.iter();
            let created = spaces.try_for_each(|space| writing.borrow_mut().create(space));
            outcome(created, &mut of_spaces)
        },
        |item| {
            waiting.push(item);
            match waiting.len() {
                PIECE => outcome(store(&mut waiting), &mut failed),
                _ => Ok(()),
            }
        },
    );
    let info = finished(read, failed.or(of_spaces))?;
    if !waiting.is_empty() {
        store(&mut waiting)?;
    }
    Ok(info)
}

/// What a callback says of its failure; one of the database is kept aside, since it may pass.
fn outcome<T>(result: Result<T, Failure>, failed: &mut Option<Failure>) -> Result<T, GalleryError> {
    result.map_err(|failure| match failure {
        Failure::Refused(error) => error,
        failure @ Failure::Database(_) => {
            *failed = Some(failure);
            GalleryError::Closed
        }
    })
}

fn finished<T>(result: Result<T, GalleryError>, failed: Option<Failure>) -> Result<T, Failure> {
    match (result, failed) {
        (Ok(done), None) => Ok(done),
        (_, Some(failure)) => Err(failure),
        (Err(error), None) => Err(error.into()),
    }
}
