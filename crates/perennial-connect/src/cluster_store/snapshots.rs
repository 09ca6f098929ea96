//! Snapshots: the same file as that of the embedded engine, of one generation.

use std::collections::HashSet;
use std::path::Path;

use perennial_gallery::exchange::read_snapshot;
use perennial_gallery::{Filter, GalleryError, Item, ItemId, SnapshotInfo, Snapshots, StoreSpace};

use super::QdrantStore;
use super::head::Head;
use super::pin::Pin;
use super::reading;
use super::server::Server;
use super::view::View;
use super::writing::Writing;
use crate::failure::Failure;
use crate::qdrant::PointId;
use crate::snapshot_file::{self, Restored, occurs_twice};

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
    snapshot_file::write(path, &spaces, view.state.items(), |add| copy(&view, add))
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

/// Everything is replaced by what a file holds.
struct Refilled<'a, 'b> {
    writing: &'a mut Writing<'b>,
    path: &'a Path,
    points: HashSet<PointId>,
    /// Ids of two spaces as well, whose points lie in two collections.
    ids: HashSet<ItemId>,
}

impl Restored for Refilled<'_, '_> {
    fn create(&mut self, space: &StoreSpace) -> Result<(), Failure> {
        self.writing.create(space)
    }

    fn store(&mut self, items: &[Item]) -> Result<(), Failure> {
        for item in items {
            if !self.ids.insert(item.id.clone()) {
                return Err(occurs_twice(self.path, &format!("id {}", item.id)));
            }
        }
        self.writing.put(items, &mut self.points)
    }
}

fn read(writing: &mut Writing<'_>, path: &Path) -> Result<SnapshotInfo, Failure> {
    writing.clear();
    let mut into = Refilled {
        writing,
        path,
        points: HashSet::new(),
        ids: HashSet::new(),
    };
    snapshot_file::read(path, &mut into)
}
