//! Snapshots of the whole gallery.

use std::path::Path;

use super::EmbeddedGallery;
use super::layout::Layout;
use super::writer::Command;
use crate::error::GalleryError;
use crate::snapshot::{Header, HeaderPartition, HeaderSpace, SnapshotReader, write_file};
use crate::stats::SnapshotInfo;
use crate::store::Snapshots;

impl Snapshots for EmbeddedGallery {
    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        // The database itself would be gone, and what is written later with it.
        if path.canonicalize().is_ok_and(|path| path == self.database) {
            let problem = format!(
                "{} is the database of the gallery; give the snapshot another name",
                path.display()
            );
            return Err(GalleryError::file(path, problem));
        }
        let reader = self.ask(Command::Read)?;
        let header = header_of(reader.items()?, &reader.layout()?);
        write_file(path, &header, |snapshot| {
            reader.for_each(|_, bytes, _| {
                let added = snapshot.add(bytes);
                added.map_err(|error| GalleryError::file(path, error))
            })
        })
    }

    fn restore(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        self.check_writable()?;
        // Verified here first, so that a damaged file does not even make the writer work.
        SnapshotReader::open(path)?.read(|_, _| Ok(()))?;
        let path = path.to_owned();
        self.ask(|reply| Command::Restore(path, reply))
    }
}

/// The header of a snapshot of so many items, with the partitions numbered from 0 in the order of their numbers.
fn header_of(items: u64, layout: &Layout) -> Header {
    let numbers: Vec<u32> = layout.partitions().keys().copied().collect();
    let place = |number: &u32| numbers.binary_search(number).ok();
    let homes = layout.homes();
    let spaces = (0u32..)
        .zip(layout.names())
        .map(|(number, name)| HeaderSpace {
            name: name.clone(),
            partition: homes.get(&number).and_then(place),
        });
    let partitions = layout.partitions().values().map(|shape| HeaderPartition {
        dim: shape.dim(),
        simplex: shape.simplex(),
    });
    Header {
        items,
        spaces: spaces.collect(),
        partitions: partitions.collect(),
    }
}
