//! Snapshots of stores that keep their items in a form of their own. The file is that of the embedded engine, so every store can restore it.

use std::collections::HashMap;
use std::path::Path;

use perennial_core::SpaceId;

use crate::embedded::record::encode;
use crate::error::GalleryError;
use crate::item::Item;
use crate::snapshot::{Header, HeaderPartition, HeaderSpace, SnapshotReader, write_file};
use crate::space::StoreSpace;
use crate::stats::SnapshotInfo;

/// Writes `items` items of some spaces, which `copy` hands over one by one, into one file. An older file at `path` stays as it was until the
/// new one is complete.
///
/// # Errors
/// [`GalleryError::File`], also where another number of items comes, or one of a space that is not among them; and those of `copy`.
pub fn write_snapshot(
    path: &Path,
    spaces: &[StoreSpace],
    items: u64,
    copy: impl FnOnce(&mut dyn FnMut(&Item) -> Result<(), GalleryError>) -> Result<(), GalleryError>,
) -> Result<SnapshotInfo, GalleryError> {
    let numbers: HashMap<&str, u32> = spaces
        .iter()
        .map(|space| space.id.as_str())
        .zip(0..)
        .collect();
    write_file(path, &header_of(spaces, items), |snapshot| {
        let mut added = 0;
        copy(&mut |item| {
            let number = numbers.get(item.model_version.as_str());
            let &number = number.ok_or_else(|| {
                let (id, space) = (&item.id, &item.model_version);
                GalleryError::file(path, format!("item {id} is of the unknown space {space}"))
            })?;
            added += 1;
            let written = snapshot.add(&encode(item, number)?);
            written.map_err(|error| GalleryError::file(path, error))
        })?;
        match added == items {
            true => Ok(()),
            false => Err(GalleryError::file(
                path,
                format!("{items} items were announced, but {added} came"),
            )),
        }
    })
}

/// Reads a snapshot: first its spaces, then its items one by one. What `spaces` and `item` did counts only if this returns without error,
/// since the checksum stands at the end.
///
/// # Errors
/// [`GalleryError::Snapshot`] or [`GalleryError::Format`] for a file that is damaged or no snapshot, and those of `spaces` and `item`.
pub fn read_snapshot(
    path: &Path,
    spaces: impl FnOnce(&[StoreSpace]) -> Result<(), GalleryError>,
    mut item: impl FnMut(Item) -> Result<(), GalleryError>,
) -> Result<SnapshotInfo, GalleryError> {
    let snapshot = SnapshotReader::open(path)?;
    let header = snapshot.header();
    let names: Vec<String> = header
        .spaces
        .iter()
        .map(|space| space.name.clone())
        .collect();
    let failed = |problem: String| GalleryError::snapshot(path, problem);
    spaces(&spaces_of(header).map_err(failed)?)?;
    snapshot.read(|_, record| {
        // The reader has checked the number, the id and the payload.
        let name = names.get(record.version as usize);
        item(Item {
            id: record.id().map_err(failed)?,
            embedding: record.embedding().collect(),
            model_version: name
                .cloned()
                .ok_or_else(|| failed("a space is not stated".to_owned()))?,
            label: record.label,
            payload: record.payload().map_err(failed)?,
        })
    })
}

/// Spaces of one simplex share a partition, as in the embedded engine.
fn header_of(spaces: &[StoreSpace], items: u64) -> Header {
    let mut partitions: Vec<HeaderPartition> = Vec::new();
    let mut named = Vec::with_capacity(spaces.len());
    for StoreSpace { id, dim, simplex } in spaces {
        let same = |known: &HeaderPartition| known.dim == *dim && known.simplex == *simplex;
        let shared = partitions
            .iter()
            .position(same)
            .filter(|_| simplex.is_some());
        let partition = shared.unwrap_or_else(|| {
            partitions.push(HeaderPartition {
                dim: *dim,
                simplex: *simplex,
            });
            partitions.len() - 1
        });
        named.push(HeaderSpace {
            name: id.to_string(),
            partition: Some(partition),
        });
    }
    Header {
        items,
        spaces: named,
        partitions,
    }
}

/// The spaces of a header that have a partition.
fn spaces_of(header: &Header) -> Result<Vec<StoreSpace>, String> {
    let placed = header.spaces.iter().filter_map(|space| {
        let partition = header.partitions.get(space.partition?)?;
        Some((&space.name, partition))
    });
    placed
        .map(|(name, partition)| {
            Ok(StoreSpace {
                id: SpaceId::new(name.as_str()).map_err(|error| error.to_string())?,
                dim: partition.dim,
                simplex: partition.simplex,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::item::{ItemId, SimplexIdentity};
    use crate::store::{Snapshots, VectorStore};
    use crate::{EmbeddedGallery, GalleryConfig};

    fn space(id: &str, dim: usize, vertices: Option<usize>) -> StoreSpace {
        StoreSpace {
            id: SpaceId::new(id).unwrap(),
            dim,
            simplex: vertices.map(|vertices| SimplexIdentity { vertices }),
        }
    }

    fn item(id: u64, space: &str, embedding: &[f32]) -> Item {
        Item {
            id: ItemId::Number(id),
            embedding: embedding.to_vec(),
            model_version: space.to_owned(),
            label: Some(3),
            payload: json!({"n": 1.0})
                .as_object()
                .cloned()
                .unwrap_or_else(Map::new),
        }
    }

    #[test]
    fn the_embedded_engine_restores_what_others_wrote_and_others_read_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.snapshot");
        let spaces = [
            space("v1", 2, Some(3)),
            space("v2", 2, Some(3)),
            space("clip", 1, None),
        ];
        let items = [
            item(1, "v2", &[0.6, 0.8]),
            item(2, "clip", &[1.0]),
            item(3, "v1", &[1.0, 0.0]),
        ];
        let written = write_snapshot(&path, &spaces, 3, |add| items.iter().try_for_each(add));
        assert_eq!(written.unwrap().items, 3);
        let store = EmbeddedGallery::open(folder.path(), GalleryConfig::default()).unwrap();
        store.restore(&path).unwrap();
        let mut sorted = spaces.clone();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        let known = store.spaces().unwrap().into_iter();
        let mut known: Vec<StoreSpace> = known.map(|stats| stats.space).collect();
        known.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(known, sorted);
        let back = folder.path().join("b.snapshot");
        let info = store.snapshot(&back).unwrap();
        let (mut read, mut known) = (Vec::new(), Vec::new());
        let seen = read_snapshot(
            &back,
            |spaces| {
                known = spaces.to_vec();
                Ok(())
            },
            |item| {
                read.push(item);
                Ok(())
            },
        );
        assert_eq!(seen.unwrap(), info);
        assert_eq!(known.len(), 3);
        read.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(read, items);
    }

    #[test]
    fn a_snapshot_of_another_number_of_items_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.snapshot");
        std::fs::write(&path, "older").unwrap();
        let spaces = [space("v1", 2, None)];
        let one = item(1, "v1", &[1.0, 0.0]);
        let other = item(2, "v2", &[1.0, 0.0]);
        for (items, given) in [(2, &one), (0, &one), (1, &other)] {
            let error = write_snapshot(&path, &spaces, items, |add| add(given)).unwrap_err();
            assert!(matches!(error, GalleryError::File { .. }), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), b"older");
        }
    }
}
