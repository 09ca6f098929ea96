//! Applies one change to the tables, inside an uncommitted transaction.

use std::path::Path;

use super::super::codes::Coding;
use super::super::log::{IDS, ITEMS, Meta, VERSIONS, Writer};
use super::super::record::{encode, id_key};
use super::super::rows::Row;
use super::super::space::Space;
use crate::error::GalleryError;
use crate::item::Item;
use crate::payload::fingerprint;
use crate::snapshot::SnapshotReader;
use crate::space::StoreSpace;
use crate::stats::SnapshotInfo;
use crate::store::Upserted;

/// A change that can share a transaction with others.
pub(in super::super) enum Change {
    /// Items that were checked, but for the dimension.
    Upsert(Vec<Item>),
    /// Keys of ids.
    Delete(Vec<Vec<u8>>),
    CreateSpace(StoreSpace),
}

/// What a change did.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Outcome {
    pub(in super::super) upserted: Upserted,
    pub(in super::super) deleted: usize,
}

/// The changes of a transaction, to be repeated in memory.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) meta: Meta,
    pub(super) space: Space,
    pub(super) new_versions: Vec<(u32, String)>,
    pub(super) added: Vec<Row>,
    pub(super) removed: Vec<u64>,
    pub(super) changed: bool,
}

/// A change that was refused, or a storage that failed.
pub(super) enum Failure {
    Refused(GalleryError),
    Storage(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Storage(error.into())
    }
}

impl Change {
    pub(super) fn items(&self) -> usize {
        match self {
            Self::Upsert(items) => items.len(),
            Self::Delete(keys) => keys.len(),
            Self::CreateSpace(_) => 1,
        }
    }
}

type ItemTable<'t> = redb::Table<'t, u64, &'static [u8]>;
type IdTable<'t> = redb::Table<'t, &'static [u8], u64>;

pub(super) fn upsert(
    batch: Vec<Item>,
    items: &mut ItemTable<'_>,
    ids: &mut IdTable<'_>,
    version: &mut dyn FnMut(&str) -> Result<u32, redb::Error>,
    changes: &mut Changes,
) -> Result<Outcome, Failure> {
    // Everything that can be refused is, before the first change.
    let mut dim = changes.meta.dim();
    for item in &batch {
        let found = item.embedding.len();
        let expected = *dim.get_or_insert(found);
        if found != expected {
            return Err(Failure::Refused(GalleryError::WrongDimension {
                what: format!("item {}", item.id),
                found,
                expected,
            }));
        }
    }
    let mut outcome = Outcome::default();
    for item in batch {
        let number = changes.meta.next_row;
        let version = version(&item.model_version)?;
        let record = encode(&item, version).map_err(Failure::Refused)?;
        items.insert(number, record.as_slice())?;
        let key = id_key(&item.id);
        let old = ids.insert(key.as_slice(), number)?.map(|row| row.value());
        changes.space.add(record.len(), key.len());
        match old {
            Some(old) => {
                if let Some(old) = items.remove(old)? {
                    changes.space.remove(old.value().len(), key.len());
                }
                changes.removed.push(old);
                outcome.upserted.replaced += 1;
            }
            None => outcome.upserted.inserted += 1,
        }
        changes.meta.next_row += 1;
        changes.meta.dim = item.embedding.len() as u64;
        changes.changed = true;
        changes.added.push(Row {
            number,
            version,
            label: item.label,
            fingerprint: fingerprint(&item.payload),
            vector: item.embedding,
            codes: Vec::new(),
            coding: Coding::default(),
        });
    }
    Ok(outcome)
}

pub(super) fn delete(
    keys: Vec<Vec<u8>>,
    items: &mut ItemTable<'_>,
    ids: &mut IdTable<'_>,
    changes: &mut Changes,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for key in keys {
        let row = ids.remove(key.as_slice())?.map(|row| row.value());
        if let Some(row) = row {
            if let Some(old) = items.remove(row)? {
                changes.space.remove(old.value().len(), key.len());
            }
            changes.removed.push(row);
            changes.changed = true;
            outcome.deleted += 1;
        }
    }
    Ok(outcome)
}

pub(super) fn create_space(
    space: &StoreSpace,
    empty: bool,
    version: &mut dyn FnMut(&str) -> Result<u32, redb::Error>,
    changes: &mut Changes,
) -> Result<Outcome, Failure> {
    let (id, found) = (&space.id, space.dim);
    let vertices = space.simplex.map(|simplex| simplex.vertices);
    let stored = changes.meta.vertices as usize;
    if let (Some(given), false) = (vertices, empty || stored == 0)
        && given != stored
    {
        return Err(Failure::Refused(GalleryError::IdentityMismatch {
            stored,
            given,
        }));
    }
    if let Some(stored) = changes.meta.dim().filter(|&dim| !empty && dim != found) {
        return Err(Failure::Refused(match vertices {
            Some(vertices) => GalleryError::IdentityDimension {
                vertices,
                expected: found,
                stored,
            },
            None => GalleryError::WrongDimension {
                what: format!("space {id}"),
                found,
                expected: stored,
            },
        }));
    }
    version(id.as_str())?;
    if vertices.is_some() || empty {
        changes.meta.vertices = vertices.unwrap_or(0) as u64;
        changes.meta.dim = found as u64;
    }
    changes.changed = true;
    Ok(Outcome::default())
}

/// Puts the content of a snapshot in the place of all tables, verified once more as it is read.
pub(super) fn replace_all(
    snapshot: SnapshotReader<std::io::BufReader<fs_err::File>>,
    path: &Path,
    writer: &Writer,
    old: Meta,
) -> Result<SnapshotInfo, Failure> {
    let transaction = &writer.transaction;
    transaction.delete_table(ITEMS)?;
    transaction.delete_table(IDS)?;
    transaction.delete_table(VERSIONS)?;
    let header = snapshot.header().clone();
    {
        let mut versions = transaction.open_table(VERSIONS)?;
        for (number, name) in (0u32..).zip(&header.versions) {
            versions.insert(number, name.as_str())?;
        }
    }
    let mut next_row = old.next_row;
    let mut failure = None;
    let info = {
        let mut items = transaction.open_table(ITEMS)?;
        let mut ids = transaction.open_table(IDS)?;
        snapshot.read(|bytes, record| {
            let stored = items
                .insert(next_row, bytes)
                .and_then(|_| ids.insert(record.id_key, next_row))
                .map(|old| old.is_some());
            next_row += 1;
            match stored {
                Ok(false) => Ok(()),
                Ok(true) => Err(GalleryError::snapshot(path, "an id occurs twice")),
                Err(error) => {
                    failure = Some(error);
                    Err(GalleryError::Closed)
                }
            }
        })
    };
    if let Some(error) = failure {
        return Err(error.into());
    }
    let info = info.map_err(Failure::Refused)?;
    writer.set_meta(&Meta {
        store: old.store,
        sequence: old.sequence + 1,
        next_row,
        dim: header.dim.unwrap_or(0) as u64,
        vertices: header
            .identity
            .map_or(0, |identity| identity.vertices as u64),
    })?;
    Ok(info)
}
