//! Snapshots between their file and a database, whose failures are told from those of the file.

use std::path::Path;

use perennial_gallery::exchange::{read_snapshot, write_snapshot};
use perennial_gallery::{GalleryError, Item, SnapshotInfo, StoreSpace};

use crate::failure::Failure;

/// Items that are restored by one call.
const PIECE: usize = 1000;

/// Writes a file of so many items, which `copy` hands on one by one. Where it fails, there is no file.
///
/// # Errors
/// The database's failure, or one of the file.
pub(crate) fn write(
    path: &Path,
    spaces: &[StoreSpace],
    items: u64,
    mut copy: impl FnMut(&mut dyn FnMut(&Item) -> Result<(), GalleryError>) -> Result<(), Failure>,
) -> Result<SnapshotInfo, Failure> {
    let mut failed = None;
    let written = write_snapshot(path, spaces, items, |add| outcome(copy(add), &mut failed));
    finished(written, failed)
}

/// What a restored snapshot fills.
pub(crate) trait Restored {
    /// Makes a space known.
    fn create(&mut self, space: &StoreSpace) -> Result<(), Failure>;

    /// Stores items. One whose id came before is [`Failure::Refused`].
    fn store(&mut self, items: &[Item]) -> Result<(), Failure>;
}

/// An id that a snapshot has twice.
pub(crate) fn occurs_twice(path: &Path, id: &str) -> Failure {
    Failure::Refused(GalleryError::Snapshot {
        path: path.to_owned(),
        problem: format!("{id} occurs twice"),
    })
}

/// Hands on what a file holds: its spaces, then its items in pieces.
///
/// # Errors
/// The database's failure, or one of the file.
pub(crate) fn read(path: &Path, into: &mut impl Restored) -> Result<SnapshotInfo, Failure> {
    let into = std::cell::RefCell::new(into);
    let mut waiting: Vec<Item> = Vec::with_capacity(PIECE);
    let (mut of_spaces, mut of_items) = (None, None);
    let read = read_snapshot(
        path,
        |spaces| {
            let mut spaces = spaces.iter();
            let created = spaces.try_for_each(|space| into.borrow_mut().create(space));
            outcome(created, &mut of_spaces)
        },
        |item| {
            waiting.push(item);
            if waiting.len() < PIECE {
                return Ok(());
            }
            let stored = into.borrow_mut().store(&waiting);
            waiting.clear();
            outcome(stored, &mut of_items)
        },
    );
    let info = finished(read, of_spaces.or(of_items))?;
    if !waiting.is_empty() {
        into.borrow_mut().store(&waiting)?;
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
