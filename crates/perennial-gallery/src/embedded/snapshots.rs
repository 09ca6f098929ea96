//! Snapshots of the whole gallery.

use std::path::Path;

use perennial_core::write_atomically_with;

use super::EmbeddedGallery;
use super::writer::Command;
use crate::error::GalleryError;
use crate::item::SimplexIdentity;
use crate::snapshot::{Header, SnapshotReader, SnapshotWriter};
use crate::stats::SnapshotInfo;
use crate::store::Snapshots;

impl Snapshots for EmbeddedGallery {
    fn snapshot(&self, path: &Path) -> Result<SnapshotInfo, GalleryError> {
        let reader = self.ask(Command::Read)?;
        let meta = reader.meta()?;
        let vertices = meta.vertices as usize;
        let header = Header {
            items: reader.items()?,
            dim: meta.dim(),
            identity: (vertices != 0).then_some(SimplexIdentity { vertices }),
            versions: reader.versions()?,
        };
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
