//! Snapshots: the same file as that of the embedded engine, of one generation.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;

use perennial_gallery::exchange::{read_snapshot, write_snapshot};
use perennial_gallery::{Filter, GalleryError, Item, SnapshotInfo, Snapshots, StoreSpace};

use super::QdrantStore;
use super::head::Head;
use super::pin::Pin;
use super::reading;
use super::server::Server;
use super::view::View;
use super::writing::Writing;
use crate::failure::Failure;

/// Items that are restored by one call.
const PIECE: usize = 1000;

impl Snapshots for QdrantStore {
    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        self.patiently(|server| {
            let pinned = Head::read(server)?.state.generation;
            let pin = Pin::set(server, pinned)?;
            pin.hold(|| write(server, path))
        })
    }

    fn restore(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        self.check_writable()?;
        // Verified first, so that a damaged file holds nobody up.
        read_snapshot(path, |_| Ok(()), |_| Ok(()))?;
        self.write(|writing| read(writing, path))
    }
}

fn write(server: &Server, path: &Path) -> Result<SnapshotInfo, Failure> {
    let view = View::new(server, &Head::read(server)?);
    let stats = view.state.stats()?;
    let spaces: Vec<StoreSpace> = stats.into_iter().map(|stats| stats.space).collect();
    let mut failed = None;
    let written = write_snapshot(path, &spaces, view.state.items(), |add| {
        outcome(copy(&view, add), &mut failed)
    });
    finished(written, failed)
}

fn copy(
    view: &View<'_>,
    add: &mut dyn FnMut(&Item) -> Result<(), GalleryError>,
) -> Result<(), Failure> {
    let conditions = view.visible().json();
    for space in view.filled(&Filter::everything()) {
        reading::scan(view, &space, &conditions, true, |row| {
            let stored = row.item(space.name, space.known.dim, true)?;
            Ok(add(&Item {
                id: stored.id,
                embedding: stored.embedding.unwrap_or_default(),
                model_version: stored.model_version,
                label: stored.label,
                payload: stored.payload,
            })?)
        })?;
    }
    // Before the file takes its place: whether all of the generation was still there.
    let head = Head::read(view.server)?;
    match head.state.swept > view.state.generation {
        true => Err(view
            .server
            .passing("the snapshot took too long to be read".to_owned())),
        false => Ok(()),
    }
}

fn read(writing: &mut Writing<'_>, path: &Path) -> Result<SnapshotInfo, Failure> {
    writing.clear();
    let mut failed = None;
    let mut waiting: Vec<Item> = Vec::with_capacity(PIECE);
    let writing = RefCell::new(writing);
    let mut points = HashSet::new();
    let mut ids = HashSet::new();
    let mut store = |items: &mut Vec<Item>| {
        for item in items.iter() {
            // Ids of two spaces as well, whose points lie in two collections.
            if !ids.insert(item.id.clone()) {
                return Err(Failure::Refused(GalleryError::Snapshot {
                    path: path.to_owned(),
                    problem: format!("id {} occurs twice", item.id),
                }));
            }
        }
        writing.borrow_mut().put(items, &mut points)?;
        items.clear();
        Ok(())
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
