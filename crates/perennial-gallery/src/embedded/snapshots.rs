//! Snapshots of the whole gallery.

use std::path::Path;

use perennial_core::write_atomically_with;

use super::EmbeddedGallery;
use super::layout::Layout;
use super::writer::Command;
use crate::error::GalleryError;
use crate::snapshot::{Header, HeaderPartition, HeaderSpace, SnapshotReader, SnapshotWriter};
use crate::stats::SnapshotInfo;
use crate::store::Snapshots;

impl Snapshots for EmbeddedGallery {
    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        let reader = self.ask(Command::Read)?;
        let header = header_of(reader.items()?, &reader.layout()?);
        let mut outcome = None;
        let written = write_atomically_with(path, |file| {
            let mut snapshot = SnapshotWriter::new(file, &header)?;
            let copied = reader.for_each(|_, bytes, _| {
                snapshot
                    .add(bytes)
                    .map_err(|error| GalleryError::file(path, error))
            });
            match copied {
                Ok(()) => {
                    outcome = Some(Ok(snapshot.finish()?));
                    Ok(())
                }
                Err(error) => {
                    let text = error.to_string();
                    outcome = Some(Err(error));
                    Err(std::io::Error::other(text))
                }
            }
        });
        match (written, outcome) {
            (Ok(()), Some(Ok(info))) => Ok(info),
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(GalleryError::file(path, error)),
            (Ok(()), None) => Err(GalleryError::file(path, "nothing was written")),
        }
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
