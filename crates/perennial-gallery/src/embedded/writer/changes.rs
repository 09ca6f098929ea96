//! Applies one change to the tables, inside an uncommitted transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::super::codes::Coding;
use super::super::layout::{Layout, Shape};
use super::super::record::{Record, encode};
use super::super::rows::Row;
use super::super::space::Space;
use super::super::state::State;
use super::super::tables::{IDS, ITEMS, Meta, Writer};
use crate::error::GalleryError;
use crate::id_key::id_key;
use crate::item::Item;
use crate::payload::fingerprint;
use crate::snapshot::{Header, SnapshotReader};
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
    pub(super) layout: Layout,
    /// New rows and their partitions.
    pub(super) added: Vec<(u32, Row)>,
    /// Partitions and the rows that leave them.
    pub(super) removed: Vec<(u32, u64)>,
    pub(super) changed: bool,
    /// Items of each space, by its number, as of this transaction.
    items: BTreeMap<u32, u64>,
    /// Spaces that have lost items.
    left: BTreeSet<u32>,
    /// Whether items were deleted.
    deletes: bool,
    /// Spaces into which items came from others.
    pub(super) moved: BTreeSet<u32>,
}

impl Changes {
    /// None yet.
    pub(super) fn of(state: &State) -> Self {
        let spaces = state.layout.homes().keys();
        Self {
            meta: state.meta,
            space: state.space,
            layout: (*state.layout).clone(),
            items: spaces
                .map(|&space| (space, state.items_of(space)))
                .collect(),
            ..Self::default()
        }
    }

    fn items_of(&self, space: u32) -> u64 {
        self.items.get(&space).copied().unwrap_or(0)
    }

    pub(super) fn create(&mut self, space: &StoreSpace) -> Result<Outcome, Failure> {
        let mut layout = self.layout.clone();
        layout
            .create(space, |number| self.items_of(number))
            .map_err(Failure::Refused)?;
        if layout != self.layout {
            self.layout = layout;
            self.changed = true;
        }
        Ok(Outcome::default())
    }

    /// Takes a row out; gives the space that it was of.
    fn remove(&mut self, row: u64, record: &[u8], id_key: usize) -> Result<u32, redb::Error> {
        self.space.remove(record.len(), id_key);
        self.changed = true;
        let corrupt = |problem: String| redb::Error::Corrupted(format!("row {row}: {problem}"));
        let space = Record::decode(record).map_err(corrupt)?.version;
        let Some((partition, _)) = self.layout.home(space) else {
            return Err(corrupt(format!("has the unknown space {space}")));
        };
        if let Some(items) = self.items.get_mut(&space) {
            *items = items.saturating_sub(1);
        }
        self.left.insert(space);
        self.removed.push((partition, row));
        Ok(space)
    }

    /// Forgets spaces that have lost their last item, but those of a simplex: another version of it may come.
    pub(super) fn forget_emptied(&mut self) {
        for space in std::mem::take(&mut self.left) {
            let home = self.layout.home(space);
            if self.items_of(space) == 0 && home.is_some_and(|(_, shape)| shape.vertices == 0) {
                self.layout.forget(space);
            }
        }
    }

    /// The partitions whose rows change.
    pub(super) fn partitions_touched(&self) -> impl Iterator<Item = u32> {
        let added = self.added.iter().map(|&(partition, _)| partition);
        added.chain(self.removed.iter().map(|&(partition, _)| partition))
    }
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
    changes: &mut Changes,
) -> Result<Outcome, Failure> {
    // Everything that can be refused is, before the first change.
    let mut new: HashMap<&str, usize> = HashMap::new();
    for item in &batch {
        let (name, found) = (item.model_version.as_str(), item.embedding.len());
        let known = changes.layout.home_of(name).map(|(_, shape)| shape.dim());
        let expected = known.unwrap_or_else(|| *new.entry(name).or_insert(found));
        if found != expected {
            return Err(Failure::Refused(GalleryError::WrongDimension {
                what: format!("item {}", item.id),
                found,
                expected,
            }));
        }
    }
    let room = changes.layout.check_room(new.into_keys());
    room.map_err(Failure::Refused)?;
    let mut outcome = Outcome::default();
    for item in batch {
        let number = changes.meta.next_row;
        let dim = item.embedding.len();
        let (space, partition) = changes.layout.place(&item.model_version, dim);
        let record = encode(&item, space).map_err(Failure::Refused)?;
        items.insert(number, record.as_slice())?;
        let key = id_key(&item.id);
        let old = ids.insert(key.as_slice(), number)?.map(|row| row.value());
        changes.space.add(record.len(), key.len());
        *changes.items.entry(space).or_default() += 1;
        match old {
            Some(old) => {
                if let Some(record) = items.remove(old)?
                    && changes.remove(old, record.value(), key.len())? != space
                {
                    changes.moved.insert(space);
                }
                outcome.upserted.replaced += 1;
            }
            None => {
                // It may have been deleted a moment ago: whoever reads never sees it gone.
                if changes.deletes {
                    changes.moved.insert(space);
                }
                outcome.upserted.inserted += 1;
            }
        }
        changes.meta.next_row += 1;
        changes.changed = true;
        let row = Row {
            number,
            version: space,
            label: item.label,
            fingerprint: fingerprint(&item.payload),
            vector: item.embedding,
            codes: Vec::new(),
            coding: Coding::default(),
        };
        changes.added.push((partition, row));
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
            if let Some(record) = items.remove(row)? {
                changes.remove(row, record.value(), key.len())?;
            }
            changes.changed = true;
            changes.deletes = true;
            outcome.deleted += 1;
        }
    }
    Ok(outcome)
}

/// Puts the content of a snapshot in the place of all tables, verified once more as it is read. Its partitions get new numbers.
pub(super) fn replace_all(
    snapshot: SnapshotReader<std::io::BufReader<fs_err::File>>,
    path: &Path,
    writer: &Writer,
    old: Meta,
    next_partition: u32,
) -> Result<SnapshotInfo, Failure> {
    let transaction = &writer.transaction;
    transaction.delete_table(ITEMS)?;
    transaction.delete_table(IDS)?;
    let refused = |problem| Failure::Refused(GalleryError::snapshot(path, problem));
    let layout = layout_of(snapshot.header(), next_partition).map_err(refused)?;
    writer.set_layout(&layout)?;
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
        next_partition: layout.next_partition().into(),
    })?;
    Ok(info)
}

/// The layout that a snapshot describes, with partitions numbered from `first` on.
fn layout_of(header: &Header, first: u32) -> Result<Layout, String> {
    let shapes = header.partitions.iter().map(|partition| Shape {
        // Dimensions and simplexes were checked when the header was read.
        dim: partition.dim as u32,
        vertices: partition
            .simplex
            .map_or(0, |simplex| simplex.vertices as u32),
    });
    let homes = (0..).zip(&header.spaces).filter_map(|(number, space)| {
        let partition = space.partition?;
        Some((number, first + partition as u32))
    });
    Layout::new(
        header
            .spaces
            .iter()
            .map(|space| space.name.clone())
            .collect(),
        homes.collect(),
        (first..).zip(shapes).collect(),
        first + header.partitions.len() as u32,
    )
}
